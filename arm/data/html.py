"""What a web page offers: images with captions, and the page as one interleaved document.

    <base href="/a/"><figure><img src="b.png" alt="A red circle"><figcaption>Fig. 1</figcaption></figure>
    ->  Found("http://garden.test/a/b.png", attribute="src", caption="A red circle", kind="alt", position=0)
        Found("http://garden.test/a/b.png", attribute="src", caption="Fig. 1", kind="figcaption", position=0)

One image gives one Found for each of its addresses and captions: the filters choose.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from selectolax.lexbor import LexborHTMLParser, LexborNode

LAZY_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src")
SKIPPED = ["script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "svg"]
"""Elements that are no part of a page's text."""
BLOCKS = frozenset(
    {
        "address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure", "h1",
        "h2", "h3", "h4", "h5", "h6", "hr", "li", "main", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul",
    }
)  # fmt: skip
"""Elements that end the text before them."""
MAX_FIGURE_DEPTH = 4
"""How far above an image its figure may stand."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image address beside one caption; both may still be unfit."""

    url: str
    attribute: str
    """Where the address stood: src, srcset, data-src, source, og:image."""
    caption: str
    kind: str
    """Where the caption stood: alt, figcaption, title, og:title; empty when there is none."""
    position: int
    """Index of the image on the page."""


@dataclass(frozen=True, slots=True)
class Item:
    """A run of text or an image of an interleaved document."""

    kind: str
    """`text` or `image`."""
    value: str
    """The text, or the image's address."""


@dataclass(frozen=True, slots=True)
class Page:
    """A parsed page."""

    url: str
    title: str = ""
    language: str = ""
    charset: str = "utf-8"
    found: list[Found] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)


def parse_page(body: bytes, url: str, charset: str | None, max_images: int) -> Page:
    """Parse a page; the charset is the header's, else the page's own, else guessed."""
    text, name = decode_text(body, charset)
    tree = LexborHTMLParser(text)
    base = _base(tree, url)
    root = tree.css_first("html")
    found = list(_images(tree, base, max_images))
    found += _open_graph(tree, base, len(tree.css("img")))
    return Page(
        url=url,
        title=_text(tree.css_first("title")),
        language=((root.attributes.get("lang") or "") if root else "")[:35].lower(),
        charset=name,
        found=found,
        items=list(_items(tree, base, max_images)),
    )


def decode_text(body: bytes, charset: str | None) -> tuple[str, str]:
    """The text of a page and the name of its encoding."""
    name = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    if not name:
        try:
            return body.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            name = detect_encoding(body) or "utf-8"
    return bytes_to_str(body, name, errors="replace"), name


def largest_of_srcset(value: str) -> str:
    """The address with the largest descriptor of `a.png 480w, b.png 2x`."""
    best, best_size = "", -1.0
    for candidate in value.replace(",\n", ", ").split(", "):
        address, _, descriptor = candidate.strip().rstrip(",").partition(" ")
        try:
            size = float(descriptor.strip()[:-1] or 1)
        except ValueError:
            size = 1.0
        if address and size > best_size:
            best, best_size = address, size
    return best


def _base(tree: LexborHTMLParser, url: str) -> str:
    node = tree.css_first("base[href]")
    try:
        return urljoin(url, (node.attributes.get("href") or "").strip()) if node else url
    except ValueError:
        return url


def _images(tree: LexborHTMLParser, base: str, max_images: int) -> Iterator[Found]:
    for position, node in enumerate(tree.css("img")[:max_images]):
        captions = _captions(node) or {"": ""}
        for address, attribute in _addresses(node, base).items():
            for kind, caption in captions.items():
                yield Found(address, attribute, caption, kind, position)


def _addresses(node: LexborNode, base: str) -> dict[str, str]:
    """Address -> attribute of an image, the plainest attribute first."""
    values = node.attributes
    raw = {"src": values.get("src")}
    raw["data-src"] = next((values[name] for name in LAZY_ATTRIBUTES if values.get(name)), None)
    raw["srcset"] = largest_of_srcset(values.get("srcset") or values.get("data-srcset") or "")
    parent = node.parent
    if parent is not None and parent.tag == "picture":
        sources = [largest_of_srcset(s.attributes.get("srcset") or "") for s in parent.css("source")]
        raw["source"] = next(filter(None, sources), None)
    found: dict[str, str] = {}
    for attribute, value in raw.items():
        if value and value.strip():
            found.setdefault(_absolute(base, value), attribute)
    return found


def _absolute(base: str, value: str) -> str:
    try:
        return urljoin(base, value.strip())
    except ValueError:
        return value


def _captions(node: LexborNode) -> dict[str, str]:
    values = node.attributes
    captions = {"alt": values.get("alt") or "", "title": values.get("title") or "", "figcaption": _figcaption(node)}
    return {kind: caption for kind, caption in captions.items() if caption.strip()}


def _figcaption(node: LexborNode) -> str:
    parent = node.parent
    for _ in range(MAX_FIGURE_DEPTH):
        if parent is None:
            return ""
        if parent.tag == "figure":
            return _text(parent.css_first("figcaption"))
        parent = parent.parent
    return ""


def _open_graph(tree: LexborHTMLParser, base: str, position: int) -> list[Found]:
    values: dict[str, str] = {}
    for node in tree.css("meta[property]"):
        values.setdefault(node.attributes.get("property") or "", node.attributes.get("content") or "")
    image = values.get("og:image")
    if not image:
        return []
    caption = values.get("og:image:alt") or values.get("og:title") or ""
    return [Found(_absolute(base, image), "og:image", caption, "og:title" if caption else "", position)]


def _items(tree: LexborHTMLParser, base: str, max_images: int) -> Iterator[Item]:
    """The page in the order of its elements: runs of text between block elements, and images."""
    tree.strip_tags(SKIPPED)
    words: list[str] = []
    images = 0
    for node in tree.body.traverse(include_text=True) if tree.body else ():
        if node.tag == "-text":
            words += (node.text_content or "").split()
        elif node.tag == "img" or node.tag in BLOCKS:
            if words:
                yield Item("text", " ".join(words))
                words = []
            addresses = _addresses(node, base) if node.tag == "img" and images < max_images else {}
            if addresses:
                images += 1
                yield Item("image", next(iter(addresses)))
    if words:
        yield Item("text", " ".join(words))


def _text(node: LexborNode | None) -> str:
    return " ".join(node.text().split()) if node is not None else ""
