"""Pages out of WARC files (HTML) and WAT files (links as JSON): one stream of Page for both.

    for page in read_pages(path, limits, counts): page.url, page.offset, page.found

A record that cannot be read is counted by reason and skipped; the file goes on:

    records_read = pages_read + skipped/not_html + skipped/status + skipped/no_image + skipped/too_long + skipped/broken
"""

import mmap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import orjson
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from arm.data.config import ExtractConfig
from arm.data.html import Found, Page, parse_page
from arm.errors import UserError

HTML_TYPES = ("text/html", "application/xhtml+xml")
IMAGE_LINK = b'"IMG@/src"'
"""A WAT record without these bytes names no image: nine tenths of the JSON need no parser."""
GZIP_MAGIC = b"\x1f\x8b"
WARC_MAGIC = b"WARC/"


def read_pages(path: Path, config: ExtractConfig, counts: Counter[str]) -> Iterator[tuple[int, Page]]:
    """Yield (offset of its record, page) of each page in a WARC or WAT file; `counts` learns of every record."""
    _check_archive(path)
    is_wat = is_wat_name(path.name)
    for offset, record in _records(path, is_wat, counts):
        counts["records_read"] += 1
        page = _attempt(record, config, counts, is_wat)
        if page is not None:
            counts["pages_read"] += 1
            yield offset, page


def _records(path: Path, is_wat: bool, counts: Counter[str]) -> Iterator[tuple[int, WarcRecord]]:
    """Every readable record with its offset; after a damaged gzip member reading goes on at the next one."""
    kind = WarcRecordType.metadata if is_wat else WarcRecordType.response
    start: int | None = 0
    with path.open("rb") as stream:
        while start is not None:
            stream.seek(start)
            try:
                for record in ArchiveIterator(stream, record_types=kind, parse_http=not is_wat):
                    start = record.stream_pos
                    yield start, record
                return
            except (OSError, UnicodeDecodeError):
                start = _next_member(path, start + 1)
                counts["members_damaged"] += 1


def _next_member(path: Path, start: int) -> int | None:
    """Where the next gzip member may begin."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = content.find(GZIP_MAGIC + b"\x08", start)
    return found if found >= 0 else None


def is_wat_name(name: str) -> bool:
    """Whether a file name is that of a WAT file."""
    return ".wat" in name.lower()


def _check_archive(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(len(WARC_MAGIC))
    if not start.startswith((GZIP_MAGIC, WARC_MAGIC)):
        raise UserError(f"{path} is no WARC or WAT file: it starts with {start!r}, not with WARC/ or gzip's mark.")


def _attempt(record: WarcRecord, config: ExtractConfig, counts: Counter[str], is_wat: bool) -> Page | None:
    try:
        reason, page = (_wat_page if is_wat else _warc_page)(record, config)
    except Exception:  # whatever a hostile record makes a parser raise costs that record alone
        reason, page = "broken", None
    if page is None:
        counts[f"skipped/{reason}"] += 1
    return page


def _warc_page(record: WarcRecord, config: ExtractConfig) -> tuple[str, Page | None]:
    headers = record.http_headers
    if not record.is_http or headers is None or headers.status_code is None:
        return "broken", None
    if headers.status_code != 200:
        return "status", None
    if (record.http_content_type or "").lower() not in HTML_TYPES:
        return "not_html", None
    if record.content_length > config.max_record_bytes:
        return "too_long", None
    url = record.headers["WARC-Target-URI"].strip("<>")
    body = record.reader.read(config.max_record_bytes)
    if len(body) < record.content_length:
        return "broken", None
    return "", parse_page(body, url, record.http_charset, config.max_images_per_page)


def _wat_page(record: WarcRecord, config: ExtractConfig) -> tuple[str, Page | None]:
    if record.content_length > config.max_record_bytes:
        return "too_long", None
    body = record.reader.read(config.max_record_bytes)
    if IMAGE_LINK not in body:
        return "no_image", None
    envelope = orjson.loads(body)["Envelope"]
    response = envelope["Payload-Metadata"].get("HTTP-Response-Metadata")
    if response is None:
        return "not_html", None
    html = response["HTML-Metadata"]
    head = html.get("Head", {})
    url = envelope["WARC-Header-Metadata"]["WARC-Target-URI"]
    found = _wat_images(html.get("Links", []), config.max_images_per_page)
    return "", Page(url=url, title=head.get("Title", ""), found=_resolved(found, head.get("Base", ""), url))


def _wat_images(links: list[dict[str, Any]], max_images: int) -> list[Found]:
    images = [link for link in links if link.get("path") == "IMG@/src"][:max_images]
    found = []
    for position, link in enumerate(images):
        kinds = [kind for kind in ("alt", "title") if link.get(kind)] or [""]
        found += [Found(link["url"], "src", link.get(kind, ""), kind, position) for kind in kinds if link.get("url")]
    return found


def _resolved(found: list[Found], base: str, url: str) -> list[Found]:
    """The images with absolute addresses; a page's <base> counts relative to the page."""
    root = urljoin(url, base) if base else url
    return [Found(urljoin(root, f.url), f.attribute, f.caption, f.kind, f.position) for f in found]
