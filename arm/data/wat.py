"""Pages out of the records of a WAT file: one JSON envelope a record, of which only the image links are parsed.

    {"Container": {"Filename": "x.warc.gz", "Offset": "512", …},
     "Envelope": {…, "Payload-Metadata": {…, "HTTP-Response-Metadata": {"Headers": {…}, "HTML-Metadata": {
        "Head": {"Title": "Shapes", "Base": "/p/", …},
        "Links": [{"path": "A@/href", "url": "q.html"}, {"path": "IMG@/src", "url": "a.png", "alt": "A red circle"}]}}}}}
    ->  Page(base="/p/", title="Shapes", warc="x.warc.gz", warc_offset=512, found=[Found("a.png", caption="A red circle", …)])

Nine tenths of a WAT are other links and other fields. Common Crawl writes the keys in the order above, without spaces;
the few fields are then cut out of the bytes (a quotation mark without a backslash is never inside a string, so a key is
found where its bytes stand), and what has another form is parsed as a whole. Both ways give the same page.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import urljoin

import orjson

from arm.data.html import MAX_BASE_CHARACTERS, Found, Page, PageLimits
from arm.data.wat_kernels.layout import MAX_NAME

IMAGE_LINK = b'"IMG@/src"'
"""A WAT record without these bytes names no image: most of the JSON needs no parser."""
_IMAGE = b'{"path":"IMG@/src",'
_LINKS, _HTML, _HEAD, _HEADERS = b'"Links":[', b'"HTML-Metadata":{', b'"Head":{', b'"Headers":{'
_CONTAINER = re.compile(
    rb'\{"Container":\{"Filename":"([^"\\]*)"(?:,"[^"\\]*":(?:"[^"\\]*"|true|false))*?,"Offset":"(\d+)"'
)
_TITLE, _BASE = b'"Title":"', b'"Base":"'
_STRING = re.compile(rb'((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_CONTENT_TYPE = re.compile(rb'"[Cc]ontent-[Tt]ype":"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_CHARSET = re.compile(r"charset\s{0,9}=\s{0,9}[\"']?([\w:.+-]{1,40})", re.IGNORECASE)


class _Envelope(NamedTuple):
    """What is used of a record."""

    images: list[dict[str, Any]]
    title: str
    base: str
    content_type: str
    warc: str
    offset: int


def read_envelope(body: bytes, url: str, limits: PageLimits) -> tuple[str, Page | None]:
    """("", page), or why there is none: `no_image`, `not_html`."""
    num_images = body.count(IMAGE_LINK)
    if not num_images:
        return "no_image", None
    envelope = _cut(body, num_images) or _parse(body)
    if envelope is None:
        return "not_html", None
    images, title, base, content_type, warc, offset = envelope
    charset = _CHARSET.search(content_type)
    return "", Page(
        url=url, base=_base(base, url) if base else url, title=title, charset=charset[1].lower() if charset else "",
        warc=warc, warc_offset=offset, found=_found(images[: limits.max_images]),
        num_ignored=max(0, len(images) - limits.max_images),
    )  # fmt: skip


def _found(images: list[dict[str, Any]]) -> list[Found]:
    found = []
    for position, image in enumerate(images):
        url, alt, title = image.get("url"), image.get("alt") or "", image.get("title")
        if not url or type(url) is not str or type(alt) is not str:
            continue
        if alt or not title:
            found.append(Found(url, "src", alt, "alt" if alt else "", position))
        if title and type(title) is str:
            found.append(Found(url, "src", title, "title", position))
    return found


def _cut(body: bytes, num_images: int) -> _Envelope | None:
    """The fields cut out of the bytes; None when the record has another form."""
    container = _CONTAINER.match(body)
    pieces = body.split(_IMAGE)
    start = pieces[0]
    links = start.rfind(_LINKS)
    html = start.rfind(_HTML, 0, links)
    if container is None or len(pieces) != num_images + 1 or html < 0 or start.find(_HEAD, html, links) < 0:
        return None
    text = b"[{" + b",{".join([piece[: piece.find(b"}") + 1] for piece in pieces[1:]]) + b"]"
    try:  # a brace inside a string cuts a link short, which leaves a string open: no JSON
        images = orjson.loads(text)
        content_type = _CONTENT_TYPE.search(start, start.rfind(_HEADERS, 0, html), html)
        title, base = (_string_at(start, name, html, links) for name in (_TITLE, _BASE))
        return _Envelope(
            images, title, base, _decoded(content_type), _name(container[1].decode()), _offset(container[2])
        )
    except ValueError:
        return None


def _string_at(body: bytes, name: bytes, start: int, end: int) -> str:
    """The value of a key that stands in a range."""
    place = body.find(name, start, end)
    return "" if place < 0 else _decoded(_STRING.match(body, place + len(name), end))


def _decoded(match: "re.Match[bytes] | None") -> str:
    return str(orjson.loads(b'"%s"' % match[1])) if match else ""


def _parse(body: bytes) -> _Envelope | None:
    """The same of a record in any form, by parsing all of it."""
    document = orjson.loads(body)
    response = document["Envelope"]["Payload-Metadata"].get("HTTP-Response-Metadata", {})
    if "HTML-Metadata" not in response:
        return None
    html, container, headers = response["HTML-Metadata"], document.get("Container", {}), response.get("Headers", {})
    head = html.get("Head", {})
    types = [headers[name] for name in headers if name.lower() == "content-type"]
    return _Envelope(
        images=[link for link in html.get("Links", []) if link.get("path") == "IMG@/src"],
        title=_text(head.get("Title")), base=_text(head.get("Base")), content_type=_text(types[0]) if types else "",
        warc=_name(_text(container.get("Filename"))), offset=_offset(container.get("Offset", -1)),
    )  # fmt: skip


def _name(warc: str) -> str:
    """The name of a file; ValueError when it is too long for one."""
    if len(warc) > MAX_NAME:
        raise ValueError("no name of a file")
    return warc


def _offset(value: Any) -> int:
    """A place in a file; ValueError for one that no file has, which the table could not hold."""
    place = int(value)
    if not -(1 << 63) <= place < 1 << 63:
        raise ValueError("no place in a file")
    return place


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _base(base: str, url: str) -> str:
    """What links are relative to; a page's <base> counts relative to the page."""
    try:
        return urljoin(url, base.strip()) if len(base) <= MAX_BASE_CHARACTERS else url
    except ValueError:
        return url
