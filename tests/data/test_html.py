"""What a page offers, by hand."""

from arm.data.html import Found, Item, PageLimits, parse_page
from arm.data.html_images import largest_of_srcset

PAGE = """<html lang="EN-gb"><head><title> Shapes </title><base href="/pics/">
<meta property="og:image" content="og.png"><meta property="og:title" content="All shapes"></head>
<body><nav>menu <img src="logo.png"></nav>
<p>Before the <b>figure</b>.</p>
<figure><a><img src="a.png" alt="a red circle" title="red" srcset="a.png 1x, a2.png 2x"></a><figcaption>Figure 1</figcaption></figure>
<picture><source srcset="b.webp 100w, b2.webp 200w"><img data-src="b.png" alt="two squares"></picture>
<p>After.</p><script>var x;</script></body></html>"""


def test_images_come_with_every_address_and_caption() -> None:
    page = parse_page(PAGE.encode(), "http://garden.test/x/page.html", None, PageLimits())
    assert (page.title, page.language, page.charset) == ("Shapes", "en-gb", "utf-8")
    assert page.base == "http://garden.test/pics/"
    near, late = "Before the figure. Figure 1 After.", "Before the figure. Figure 1 After."
    assert page.found == [
        Found("logo.png", "src", "", "", 0),
        Found("a.png", "src", "a red circle", "alt", 1, near),
        Found("a.png", "src", "red", "title", 1, near),
        Found("a.png", "src", "Figure 1", "figcaption", 1, near),
        Found("a2.png", "srcset", "a red circle", "alt", 1, near),
        Found("a2.png", "srcset", "red", "title", 1, near),
        Found("a2.png", "srcset", "Figure 1", "figcaption", 1, near),
        Found("b.png", "data-src", "two squares", "alt", 2, late),
        Found("b2.webp", "source", "two squares", "alt", 2, late),
        Found("og.png", "og:image", "All shapes", "og:title", 3),
    ]


def test_the_document_keeps_the_order_of_the_page() -> None:
    page = parse_page(PAGE.encode(), "http://garden.test/x/page.html", None, PageLimits())
    assert page.items == [
        Item("text", "Before the figure."),
        Item("image", "a.png"),
        Item("text", "Figure 1"),
        Item("image", "b.png"),
        Item("text", "After."),
    ]


def test_the_charset_of_the_header_counts_then_the_bytes() -> None:
    body = '<img src="a.png" alt="Größe">'.encode("latin-1")
    assert parse_page(body, "http://a.test/", "iso-8859-1", PageLimits()).found[0].caption == "Größe"
    assert parse_page(body, "http://a.test/", None, PageLimits()).found[0].caption == "Größe"


def test_the_pages_own_charset_and_language_count_without_a_header() -> None:
    body = '<meta charset="shift_jis"><meta http-equiv="Content-Language" content="JA, en"><img src=a alt="庭">'
    page = parse_page(body.encode("shift_jis"), "http://a.test/", None, PageLimits())
    assert (page.charset, page.language, page.found[0].caption) == ("shift_jis", "ja", "庭")
    marked = parse_page(b"\xef\xbb\xbf" + "é".encode(), "http://a.test/", "iso-8859-1", PageLimits(), "fr")
    assert (marked.charset, marked.language, marked.items) == ("utf-8", "fr", [Item("text", "é")])


def test_only_the_words_next_to_an_image_surround_it() -> None:
    body = b"<p>one two three <img src=a alt=b> four five six</p>"
    found = parse_page(body, "http://a.test/", None, PageLimits(surrounding_characters=9)).found
    assert [f.surrounding for f in found] == ["two three four five"]


def test_the_largest_of_a_srcset_is_taken() -> None:
    assert largest_of_srcset("a.png 480w, b.png 800w,\n c.png 640w") == "b.png"
    assert largest_of_srcset("a.png") == "a.png"
    assert largest_of_srcset("") == ""
    assert largest_of_srcset("data:image/png;base64,AA== 1x, b.png 2x") == "b.png"
    assert largest_of_srcset("a,b.png 1x,c.png 3x") == "c.png"
    assert largest_of_srcset("a.png 100w 50h,b.png 20h 300w") == "b.png"
