"""What a web page offers: images with captions, and the page as one interleaved document.

    <base href="/a/"><p>Shapes:</p><figure><img src="b.png" alt="A red circle"><figcaption>Fig. 1</figcaption></figure>
    ->  base "http://garden.test/a/"
        Found("b.png", attribute="src", caption="A red circle", kind="alt", position=0, surrounding="Shapes: Fig. 1")
        Found("b.png", attribute="src", caption="Fig. 1", kind="figcaption", position=0, surrounding="Shapes: Fig. 1")
        Item("text", "Shapes:"), Item("image", "b.png"), Item("text", "Fig. 1")

One image gives one Found for each of its addresses and captions: the filters choose.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple
from urllib.parse import urljoin

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from selectolax.lexbor import LexborHTMLParser, LexborNode

from arm.data.html_images import Captions, addresses_of, declared_side, open_graph_images, text_of

SKIPPED = ["script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "svg"]
"""Elements that are no part of a page's text."""
BLOCKS = frozenset(
    {
        "address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure", "h1",
        "h2", "h3", "h4", "h5", "h6", "hr", "li", "main", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul",
    }
)  # fmt: skip
"""Elements that end the text before them."""
MAX_BASE_CHARACTERS = 2_000
"""A longer <base> is none."""
PRESCAN_BYTES = 1024
"""How far the HTML standard looks for a page's own charset."""
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w:.+-]{1,40})", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"))


class Found(NamedTuple):
    """An image address beside one caption; both may still be unfit."""

    url: str
    """As it is written: relative to the page's base."""
    attribute: str
    """Where the address stood: src, srcset, data-src, source, og:image."""
    caption: str
    kind: str
    """Where the caption stood: alt, figcaption, title, og:title; empty when there is none."""
    position: int
    """Index of the image among the images of the page."""
    surrounding: str = ""
    """The text before and after the image."""


class Item(NamedTuple):
    """A run of text or an image of an interleaved document."""

    kind: str
    """`text` or `image`."""
    value: str
    """The text, or the image's address as it is written."""


@dataclass(frozen=True, slots=True)
class Page:
    """A parsed page."""

    url: str
    base: str = ""
    """What its addresses are relative to."""
    title: str = ""
    language: str = ""
    """What the page declares itself to be written in: `en-gb`."""
    charset: str = "utf-8"
    warc: str = ""
    """The WARC file that holds the page, as a WAT names it; empty when it is the file that is read."""
    warc_offset: int = -1
    """Where in that file."""
    found: list[Found] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    num_ignored: int = 0
    """Images beyond the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLimits:
    """How much is taken from one page."""

    max_images: int = 1_000
    max_caption_characters: int = 10_000
    surrounding_characters: int = 200
    """Characters of text taken before an image, and as many after it."""
    min_document_side: int = 150
    """Images that declare a smaller side are left out of documents: buttons, counters."""


def parse_page(body: bytes, url: str, charset: str | None, limits: PageLimits, language: str = "") -> Page:
    """Parse a page; charset and language are those that the HTTP headers declare, if any."""
    text, name = decode_text(body, charset)
    tree = LexborHTMLParser(text)
    title, declared, base = text_of(tree.css_first("title")), _language(tree) or language, _base(tree, url)
    nodes = tree.css("img")
    offers = _offers(nodes[: limits.max_images], limits)
    cover = open_graph_images(tree)
    runs = list(_runs(tree))  # takes elements out of the tree
    around = _surroundings(runs, limits.surrounding_characters)
    found = [
        Found(address, attribute, caption, kind, position, around.get(memory, ""))
        for position, (memory, offer) in enumerate(offers.items())
        for address, attribute in offer.addresses.items()
        for kind, caption in (offer.captions or {"": ""}).items()
    ]
    found += [
        Found(address, "og:image", caption[: limits.max_caption_characters], kind, len(nodes) + index)
        for index, (address, kind, caption) in enumerate(cover[: limits.max_images])
    ]
    return Page(
        url=url, base=base, title=title, language=declared[:35].lower(), charset=name, found=found,
        items=list(_items(runs, offers)), num_ignored=max(0, len(nodes) - limits.max_images),
    )  # fmt: skip


def decode_text(body: bytes, charset: str | None) -> tuple[str, str]:
    """The text of a page and the name of its encoding: by byte order mark, HTTP header, <meta>, or what fits."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return bytes_to_str(body[len(mark) :], name, errors="replace"), name
    named = _encoding(charset) or _meta_encoding(body)
    if not named:
        try:
            return body.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            named = detect_encoding(body) or "utf-8"
    return bytes_to_str(body, named, errors="replace"), named


@dataclass(frozen=True, slots=True)
class _Offer:
    """What one <img> offers."""

    addresses: dict[str, str]
    captions: dict[str, str]
    is_small: bool


class _Run(NamedTuple):
    """A run of text, or the place of an image."""

    text: str
    image: int = 0
    """Which node; 0 for text."""


def _offers(nodes: list[LexborNode], limits: PageLimits) -> dict[int, _Offer]:
    """Node -> what it offers, in the order of the page."""
    captions, offers = Captions(limits.max_caption_characters), {}
    for node in nodes:
        side = declared_side(node)
        is_small = side is not None and side < limits.min_document_side
        offers[node.mem_id] = _Offer(addresses_of(node), captions.of(node), is_small)
    return offers


def _runs(tree: LexborHTMLParser) -> Iterator[_Run]:
    """The page in the order of its elements: runs of text between block elements, and images."""
    tree.strip_tags(SKIPPED)
    pieces: list[str] = []
    for node in tree.body.traverse(include_text=True) if tree.body else ():
        if node.tag == "-text":
            pieces.append(node.text_content or "")
        elif node.tag == "img" or node.tag in BLOCKS:
            if text := " ".join("".join(pieces).split()):
                yield _Run(text)
            pieces = []
            if node.tag == "img":
                yield _Run("", node.mem_id)
    if text := " ".join("".join(pieces).split()):
        yield _Run(text)


def _items(runs: Iterable[_Run], offers: dict[int, _Offer]) -> Iterator[Item]:
    """The document: a late address goes before the src that stands in for it until then."""
    for run in runs:
        if not run.image:
            yield Item("text", run.text)
            continue
        offer = offers.get(run.image)
        if offer and offer.addresses and not offer.is_small:
            late = [address for address, attribute in offer.addresses.items() if attribute == "data-src"]
            plain = [address for address in offer.addresses if address[:5].lower() != "data:"]
            yield Item("image", next(iter([*late, *plain, *offer.addresses])))


def _surroundings(runs: list[_Run], size: int) -> dict[int, str]:
    """Node -> the last characters of text before the image and the first after it, whole words."""
    before = {node: _last_words(text, size) for node, text in _texts_before(runs, size)}
    turned = [_Run(run.text[: size + 1][::-1], run.image) for run in reversed(runs)]
    after = {node: _last_words(text, size)[::-1] for node, text in _texts_before(turned, size)}
    return {node: f"{text} {after[node]}".strip() for node, text in before.items()}


def _texts_before(runs: Iterable[_Run], size: int) -> Iterator[tuple[int, str]]:
    """(node, at least the last `size` characters before it, one more where there are more)."""
    text = ""
    for run in runs:
        if run.image:
            yield run.image, text
        else:
            text = f"{text} {run.text[-size - 1 :]}".strip()[-size - 1 :]


def _last_words(text: str, size: int) -> str:
    """The text, or what of its last characters follows a space."""
    return text if len(text) <= size else text[-size - 1 :].partition(" ")[2]


def _base(tree: LexborHTMLParser, url: str) -> str:
    node = tree.css_first("base[href]")
    href = (node.attributes.get("href") or "").strip() if node else ""
    try:
        return urljoin(url, href) if len(href) <= MAX_BASE_CHARACTERS else url
    except ValueError:
        return url


def _language(tree: LexborHTMLParser) -> str:
    """What <html lang> says, else <meta http-equiv="content-language">."""
    root = tree.css_first("html")
    values = root.attributes if root else {}
    declared = values.get("lang") or values.get("xml:lang")
    for node in islice(tree.css("meta[http-equiv]"), 0 if declared else 20):
        if (node.attributes.get("http-equiv") or "").strip().lower() == "content-language":
            declared = node.attributes.get("content")
    return (declared or "").partition(",")[0].strip()


def _meta_encoding(body: bytes) -> str | None:
    match = _META_CHARSET.search(body[:PRESCAN_BYTES])
    name = _encoding(match[1].decode("ascii", "replace")) if match else None
    return "utf-8" if name and name.startswith("utf-16") else name  # as the HTML standard has it


def _encoding(label: str | None) -> str | None:
    return map_encoding_to_html5(label, fallback_utf8=False) if label else None
