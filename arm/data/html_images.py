"""The images of a web page: every address and every caption of each, and its declared size.

    <picture><source srcset="b.webp 100w, b2.webp 200w"><img data-src="b.png" alt="two squares"></picture>
    ->  addresses {"b.png": "data-src", "b2.webp": "source"}, captions {"alt": "two squares"}

Addresses stay as they are written. Everything here is bounded: a hostile page may put a thousand images into one figure.
"""

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

LAZY_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src", "data-lazy")
LAZY_SRCSETS = ("data-srcset", "data-lazy-srcset")
"""Where scripts that load images late keep the address."""
UNREADABLE_TYPES = ("image/avif", "image/jxl", "image/svg+xml", "image/heic")
"""Sources of a <picture> that the decoder refuses; another source or the <img> shows the same picture."""
MAX_FIGURE_DEPTH = 4
"""How far above an image its figure may stand."""
_SRCSET_SPACE = " \t\n\f\r"
_SRCSET_ADDRESS = re.compile(r"[ \t\n\f\r,]*([^ \t\n\f\r]+)")
_DESCRIPTOR = re.compile(r"(\d+(?:\.\d+)?)([wxh])")


def addresses_of(node: LexborNode) -> dict[str, str]:
    """Address -> attribute of an image (src, data-src, srcset, source), the plainest attribute first."""
    values = node.attributes
    raw = {"src": values.get("src")}
    raw["data-src"] = _first(values.get(name) for name in LAZY_ATTRIBUTES)
    raw["srcset"] = largest_of_srcset(_first(values.get(name) for name in ("srcset", *LAZY_SRCSETS)))
    parent = node.parent
    if parent is not None and parent.tag == "picture":
        raw["source"] = _first(_sources(parent))
    found: dict[str, str] = {}
    for attribute, value in raw.items():
        if value and value.strip():
            found.setdefault(value.strip(), attribute)
    return found


def largest_of_srcset(value: str) -> str:
    """The address with the largest descriptor of `a.png 480w, b.png 2x`, taken apart as the HTML standard has it.

    An address ends at white space, so it may hold commas; parentheses protect the commas of a descriptor.
    """
    best, best_size = "", -1.0
    for address, descriptors in _candidates(value):
        sizes = [float(m[1]) for m in map(_DESCRIPTOR.fullmatch, descriptors.split()) if m and m[2] != "h"]
        size = sizes[0] if sizes else 1.0
        if size > best_size:
            best, best_size = address, size
    return best


def declared_side(node: LexborNode) -> int | None:
    """The smaller of the sizes that the element declares in pixels; None when it declares none."""
    values = node.attributes
    sizes = [
        int(size) for name in ("width", "height") if (size := (values.get(name) or "").removesuffix("px")).isdecimal()
    ]
    return min(sizes) if sizes else None


class Captions:
    """The captions of a page's images; a figure's is read once, however many images it holds."""

    def __init__(self, max_characters: int) -> None:
        self._max, self._figures = max_characters, dict[int, str]()

    def of(self, node: LexborNode) -> dict[str, str]:
        """Kind (alt, title, figcaption) -> caption, without the empty ones."""
        values = node.attributes
        captions = {"alt": values.get("alt"), "title": values.get("title"), "figcaption": self._figcaption(node)}
        return {kind: text[: self._max] for kind, text in captions.items() if text and not text.isspace()}

    def _figcaption(self, node: LexborNode) -> str:
        parent = node.parent
        for _ in range(MAX_FIGURE_DEPTH):
            if parent is None:
                return ""
            if parent.tag == "figure":
                if parent.mem_id not in self._figures:
                    self._figures[parent.mem_id] = text_of(parent.css_first("figcaption"))[: self._max]
                return self._figures[parent.mem_id]
            parent = parent.parent
        return ""


def open_graph_images(tree: LexborHTMLParser) -> list[tuple[str, str, str]]:
    """(address, kind, caption) of each og:image; its own alt text goes before the page's title."""
    images: list[list[str]] = []
    title = ""
    for node in tree.css("meta"):
        values = node.attributes
        name, content = values.get("property") or values.get("name"), values.get("content") or ""
        if (
            name in ("og:image", "og:image:url")
            and content.strip()
            and [content, ""] != (images[-1] if images else None)
        ):
            images.append([content, ""])
        elif name == "og:image:alt" and images:
            images[-1][1] = images[-1][1] or content
        elif name == "og:title":
            title = title or content
    captions = [(address.strip(), alt or title) for address, alt in images]
    return [(address, "og:title" if caption else "", caption) for address, caption in captions]


def text_of(node: LexborNode | None) -> str:
    """All text below an element, white space single."""
    return " ".join(node.text().split()) if node is not None else ""


def _sources(picture: LexborNode) -> Iterator[str]:
    for child in picture.iter():
        values = child.attributes if child.tag == "source" else {}
        if (values.get("type") or "").strip().lower() not in UNREADABLE_TYPES:
            yield largest_of_srcset(_first(values.get(name) for name in ("srcset", *LAZY_SRCSETS)))


def _candidates(value: str) -> Iterator[tuple[str, str]]:
    """(address, descriptors) of each candidate."""
    place = 0
    while match := _SRCSET_ADDRESS.match(value, place):
        address, place = match[1], match.end()
        if address.endswith(","):
            yield address.rstrip(","), ""
            continue
        end = _end_of_descriptors(value, place)
        yield address, value[place:end]
        place = end


def _end_of_descriptors(value: str, place: int) -> int:
    """Where the comma stands that ends a candidate."""
    comma, bracket = value.find(",", place), value.find("(", place)
    while comma >= 0 and 0 <= bracket < comma:
        closing = value.find(")", bracket)
        if closing < 0:
            return len(value)
        comma, bracket = value.find(",", closing), value.find("(", closing)
    return len(value) if comma < 0 else comma


def _first(values: Iterator[str | None]) -> str:
    return next(filter(None, values), "")
