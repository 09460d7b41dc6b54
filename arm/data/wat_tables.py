"""Pairs and dropped rows of a WAT file, a row group at a time: the compiled loop, and Python where it stops.

Three ways through, one result:

    a usual record                       read_members: inflated bytes -> rows, without an object a record
    another record in a whole member     fastwarc, read_envelope: as `arm.data.warc` reads it
    from a member on that is damaged     `arm.data.warc` reads the rest of the file
"""

import io
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
from fastwarc.warc import ArchiveIterator, WarcRecordType

from arm.data.config import ExtractConfig
from arm.data.html import Page
from arm.data.warc import Skipped, check_archive, page_limits, read_record, wat_pages
from arm.data.wat import IMAGE_LINK
from arm.data.wat_compiling import compile_loops
from arm.data.wat_kernels import layout as at
from arm.data.wat_kernels.header import MAX_HEADER_BYTES
from arm.data.wat_kernels.members import Batch, Members
from arm.data.wat_rows import WatRows


def wat_tables(
    path: Path, name: str, config: ExtractConfig, counts: Counter[str]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Pairs and dropped of a WAT file that is called `name`; `counts` learns of every record."""
    check_archive(path)
    compile_loops()
    rows = WatRows(config, counts, name)
    members = Members(path, config.max_record_bytes + MAX_HEADER_BYTES)
    is_read = True
    for batch in members.batches():
        is_read = yield from _read_batch(batch, rows, config, counts)
        if not is_read:
            break
    rows.count()
    if not is_read or members.stopped:
        for offset, read in wat_pages(path, config, counts, behind=int(rows.state[at.LAST_METADATA])):
            _add(rows, read, offset)
            if rows.full:
                yield rows.take()
    yield rows.take()


def _read_batch(
    batch: Batch, rows: WatRows, config: ExtractConfig, counts: Counter[str]
) -> Generator[tuple[pa.Table, pa.Table], None, bool]:
    """Read the members of a batch up to one that does not stand alone; returns whether there was none."""
    state = rows.state
    state[[at.MEMBER, at.NEXT_HIT]] = 0
    while (answer := rows.read(batch)) != at.DONE:
        if answer == at.NO_ROOM:
            if rows.empty:
                rows.grow()
            else:
                yield rows.take()
            continue
        start, end, offset = batch.members[state[at.MEMBER]].tolist()
        if not _read_alone(batch.data[start:end].tobytes(), offset, rows, config, counts):
            return False
        state[at.MEMBER] += 1
        if rows.full:
            yield rows.take()
    return True


def _read_alone(member: bytes, offset: int, rows: WatRows, config: ExtractConfig, counts: Counter[str]) -> bool:
    """Read a member that holds one whole record; False, and nothing is done, when it holds anything else."""
    records = ArchiveIterator(io.BytesIO(member), record_types=WarcRecordType.any_type, parse_http=False)
    try:
        record = next(records)
        body = bytes(record.reader.read(config.max_record_bytes + 1))
        is_whole = _is_whole(member, body + record.reader.read(), record.content_length)
        if not is_whole or next(records, None) is not None or (offset == 0 and record.stream_pos > 0):
            return False  # of a file that begins with an empty line fastwarc says that its first record begins at the second
    except (OSError, UnicodeDecodeError, StopIteration):
        return False
    if record.record_type == WarcRecordType.metadata:
        rows.state[at.LAST_METADATA] = offset
        if IMAGE_LINK not in body and len(body) <= config.max_record_bytes:
            counts["records_read"] += 1
            counts["skipped/no_image"] += 1
        else:
            _add(rows, read_record(body, record, config, page_limits(config), counts), offset)
    return True


def _is_whole(member: bytes, content: bytes, content_length: int) -> bool:
    """Whether a header, its content and empty lines are all that there is: nothing that fastwarc passes over."""
    header, blank, rest = member.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not blank or header.count(b"\n") != header.count(b"\r\n") or len(content) != content_length:
        return False
    return rest.startswith(content) and not rest[len(content) :].strip(b"\r\n")


def _add(rows: WatRows, read: Page | Skipped | None, offset: int) -> None:
    if isinstance(read, Page):
        rows.add(read, offset)
    elif read is not None:
        rows.note(read.url, read.reason, offset)
