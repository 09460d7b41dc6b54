"""What a page offers, by hand."""

from arm.data.html import Found, Item, largest_of_srcset, parse_page

PAGE = """<html lang="EN-gb"><head><title> Shapes </title><base href="/pics/">
<meta property="og:image" content="og.png"><meta property="og:title" content="All shapes"></head>
<body><nav>menu <img src="logo.png"></nav>
<p>Before the <b>figure</b>.</p>
<figure><a><img src="a.png" alt="a red circle" title="red" srcset="a.png 1x, a2.png 2x"></a><figcaption>Figure 1</figcaption></figure>
<picture><source srcset="b.webp 100w, b2.webp 200w"><img data-src="b.png" alt="two squares"></picture>
<p>After.</p><script>var x;</script></body></html>"""


def test_images_come_with_every_address_and_caption() -> None:
    page = parse_page(PAGE.encode(), "http://garden.test/x/page.html", None, 100)
    assert (page.title, page.language, page.charset) == ("Shapes", "en-gb", "utf-8")
    root = "http://garden.test/pics/"
    assert page.found == [
        Found(root + "logo.png", "src", "", "", 0),
        Found(root + "a.png", "src", "a red circle", "alt", 1),
        Found(root + "a.png", "src", "red", "title", 1),
        Found(root + "a.png", "src", "Figure 1", "figcaption", 1),
        Found(root + "a2.png", "srcset", "a red circle", "alt", 1),
        Found(root + "a2.png", "srcset", "red", "title", 1),
        Found(root + "a2.png", "srcset", "Figure 1", "figcaption", 1),
        Found(root + "b.png", "data-src", "two squares", "alt", 2),
        Found(root + "b2.webp", "source", "two squares", "alt", 2),
        Found(root + "og.png", "og:image", "All shapes", "og:title", 3),
    ]


def test_the_document_keeps_the_order_of_the_page() -> None:
    page = parse_page(PAGE.encode(), "http://garden.test/x/page.html", None, 100)
    root = "http://garden.test/pics/"
    assert page.items == [
        Item("text", "Before the figure ."),
        Item("image", root + "a.png"),
        Item("text", "Figure 1"),
        Item("image", root + "b.png"),
        Item("text", "After."),
    ]


def test_the_charset_of_the_header_counts_then_the_bytes() -> None:
    body = '<img src="a.png" alt="Größe">'.encode("latin-1")
    assert parse_page(body, "http://a.test/", "iso-8859-1", 9).found[0].caption == "Größe"
    assert parse_page(body, "http://a.test/", None, 9).found[0].caption == "Größe"


def test_the_largest_of_a_srcset_is_taken() -> None:
    assert largest_of_srcset("a.png 480w, b.png 800w,\n c.png 640w") == "b.png"
    assert largest_of_srcset("a.png") == "a.png"
    assert largest_of_srcset("") == ""
