"""Pages out of WARC files (HTML) and WAT files (links as JSON): one stream for both.

    for offset, read in read_pages(path, config, counts): read is a Page, or a Skipped with its reason

A record that cannot be read is counted by reason and skipped; the file goes on:

    records_read = pages_read + skipped/not_html + skipped/status + skipped/no_image + skipped/too_long + skipped/broken
                 + skipped/unparsable
"""

import mmap
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from arm.data.config import ExtractConfig
from arm.data.html import Page, PageLimits, parse_page
from arm.data.sandbox import CrashError, Sandbox
from arm.data.wat import IMAGE_LINK, read_envelope
from arm.errors import UserError

HTML_TYPES = ("text/html", "application/xhtml+xml")
GZIP_MAGIC = b"\x1f\x8b"
WARC_MAGIC = b"WARC/"
PARSE_SECONDS, PARSE_BYTES = 20, 2 << 30
"""CPU time and memory that one page may take (ours)."""
Parser = Sandbox[[bytes, str, str | None, PageLimits, str], Page]


class Skipped(NamedTuple):
    """A record that may have held a page and could not be read."""

    url: str
    reason: str


def read_pages(path: Path, config: ExtractConfig, counts: Counter[str]) -> Iterator[tuple[int, Page | Skipped]]:
    """Yield (offset of its record, page) of each page in a WARC or WAT file; `counts` learns of every record.

    What is no page by intent (other statuses, other types, no image) is counted alone; what failed is yielded, too.
    """
    check_archive(path)
    limits = page_limits(config)
    if is_wat_name(path.name):
        yield from wat_pages(path, config, counts)
        return
    with Sandbox(parse_page, cpu_seconds=PARSE_SECONDS, memory_bytes=PARSE_BYTES) as parser:
        for offset, record in _records(path, WarcRecordType.response, counts):
            counts["records_read"] += 1
            reason, page = attempt(partial(_warc_page, record, config, limits, parser))
            read = told(reason, page, record, counts)
            if read is not None:
                yield offset, read


def page_limits(config: ExtractConfig) -> PageLimits:
    """How much is taken from one page."""
    return PageLimits(
        max_images=config.max_images_per_page, max_caption_characters=config.max_caption_characters,
        surrounding_characters=config.surrounding_characters, min_document_side=config.min_document_side,
    )  # fmt: skip


def is_wat_name(name: str) -> bool:
    """Whether a file name is that of a WAT file."""
    return ".wat" in name.lower()


def wat_pages(
    path: Path, config: ExtractConfig, counts: Counter[str], behind: int = -1
) -> Iterator[tuple[int, Page | Skipped]]:
    """`read_pages` of a WAT file; of one that is read already up to the metadata record `behind`, all that follows it.

    It is inflated from its start all the same: what fastwarc says of a damaged member depends on where its buffers end.

    Two thirds of the records describe requests and metadata, and many pages have no image: these cost little here.
    """
    num_bare, limits = 0, page_limits(config)
    for offset, record in _records(path, WarcRecordType.metadata, counts):
        if offset <= behind:
            continue
        body = read_body(record, config)
        if body is not None and IMAGE_LINK not in body and len(body) <= config.max_record_bytes:
            num_bare += 1
            continue
        read = read_record(body, record, config, limits, counts)
        if read is not None:
            yield offset, read
    if num_bare:
        counts["records_read"] += num_bare
        counts["skipped/no_image"] += num_bare


def read_body(record: WarcRecord, config: ExtractConfig) -> bytes | None:
    """A record's content, one byte more than allowed at most; None when its gzip member is damaged."""
    try:
        return bytes(record.reader.read(config.max_record_bytes + 1))
    except OSError:
        return None


def read_record(
    body: bytes | None, record: WarcRecord, config: ExtractConfig, limits: PageLimits, counts: Counter[str]
) -> Page | Skipped | None:
    """The page that a metadata record describes, counted."""
    counts["records_read"] += 1
    reason, page = "broken", None
    if body is not None:
        reason = "too_long"
        if len(body) <= config.max_record_bytes:
            reason, page = attempt(partial(read_envelope, body, address_of(record), limits))
    return told(reason, page, record, counts)


def told(reason: str, page: Page | None, record: WarcRecord, counts: Counter[str]) -> Page | Skipped | None:
    """Count a record; what is no page by intent is None."""
    if page is not None:
        counts["pages_read"] += 1
        return page
    counts[f"skipped/{reason}"] += 1
    return Skipped(address_of(record), reason) if reason in ("broken", "too_long", "unparsable") else None


def _records(path: Path, kind: WarcRecordType, counts: Counter[str]) -> Iterator[tuple[int, WarcRecord]]:
    """Every readable record with its offset; after a damaged gzip member reading goes on at the next one."""
    start: int | None = 0
    parse_http = kind == WarcRecordType.response
    with path.open("rb") as stream:
        while start is not None:
            stream.seek(start)
            try:
                for record in ArchiveIterator(stream, record_types=kind, parse_http=parse_http):
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


def check_archive(path: Path) -> None:
    """UserError when a file begins like no WARC or WAT file."""
    with path.open("rb") as stream:
        start = stream.read(len(WARC_MAGIC))
    if not start.startswith((GZIP_MAGIC, WARC_MAGIC)):
        raise UserError(f"{path} is no WARC or WAT file: it starts with {start!r}, not with WARC/ or gzip's mark.")


def attempt(read: Callable[[], tuple[str, Page | None]]) -> tuple[str, Page | None]:
    """What a parser says of a record: a page, or why there is none."""
    try:
        return read()
    except CrashError:
        return "unparsable", None
    except Exception:  # whatever a hostile record makes a parser raise costs that record alone
        return "broken", None


def _warc_page(
    record: WarcRecord, config: ExtractConfig, limits: PageLimits, parser: Parser
) -> tuple[str, Page | None]:
    headers = record.http_headers
    if not record.is_http or headers is None or headers.status_code is None:
        return "broken", None
    if headers.status_code != 200:
        return "status", None
    if (record.http_content_type or "").lower() not in HTML_TYPES:
        return "not_html", None
    if record.content_length > config.max_record_bytes:
        return "too_long", None
    body = record.reader.read(config.max_record_bytes)
    if len(body) < record.content_length:
        return "broken", None
    language = (headers.get("Content-Language") or "").partition(",")[0].strip()
    return "", parser.call(body, address_of(record), record.http_charset, limits, language)


def address_of(record: WarcRecord) -> str:
    """The address of the page that a record describes."""
    return str(record.headers.get("WARC-Target-URI") or "").strip("<>")
