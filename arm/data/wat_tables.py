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
from arm.data.warc import Skipped, page_limits, read_record, wat_pages
from arm.data.wat import IMAGE_LINK
from arm.data.wat_kernels.header import MAX_HEADER_BYTES
from arm.data.wat_kernels.layout import DONE, LAST_METADATA, MEMBER, NEXT_HIT, NO_ROOM
from arm.data.wat_kernels.members import Batch, Members
from arm.data.wat_rows import WatRows


def wat_tables(
    path: Path, name: str, config: ExtractConfig, counts: Counter[str]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Pairs and dropped of a WAT file that is called `name`; `counts` learns of every record."""
    rows = WatRows(config, counts, name)
    members = Members(path, config.max_record_bytes + MAX_HEADER_BYTES)
    stopped = None
    for batch in members.batches():
        stopped = yield from _read_batch(batch, rows, config, counts)
        if stopped is not None:
            break
    rows.count()
    if stopped is None:
        stopped = members.stopped
    if stopped is not None:
        for offset, read in wat_pages(path, config, counts, stopped, int(rows.state[LAST_METADATA])):
            _add(rows, read, offset)
            if rows.full:
                yield rows.take()
    yield rows.take()


def _read_batch(
    batch: Batch, rows: WatRows, config: ExtractConfig, counts: Counter[str]
) -> Generator[tuple[pa.Table, pa.Table], None, int | None]:
    """Read the members of a batch; returns where the first one begins that does not stand alone."""
    state = rows.state
    state[[MEMBER, NEXT_HIT]] = 0
    while (answer := rows.read(batch)) != DONE:
        if answer == NO_ROOM:
            if rows.empty:
                rows.grow()
            else:
                yield rows.take()
            continue
        start, end, offset = batch.members[state[MEMBER]].tolist()
        if not _read_alone(batch.data[start:end].tobytes(), offset, rows, config, counts):
            return int(offset)
        state[MEMBER] += 1
        if rows.full:
            yield rows.take()
    return None


def _read_alone(member: bytes, offset: int, rows: WatRows, config: ExtractConfig, counts: Counter[str]) -> bool:
    """Read a member that holds one whole record; False, and nothing is done, when it holds anything else."""
    records = ArchiveIterator(io.BytesIO(member), record_types=WarcRecordType.any_type, parse_http=False)
    try:
        record = next(records)
        body = bytes(record.reader.read(config.max_record_bytes + 1))
        is_whole = len(body) + len(record.reader.read()) == record.content_length
        if not is_whole or next(records, None) is not None:
            return False
    except (OSError, UnicodeDecodeError, StopIteration):
        return False
    if record.record_type == WarcRecordType.metadata:
        rows.state[LAST_METADATA] = offset
        if IMAGE_LINK not in body and len(body) <= config.max_record_bytes:
            counts["records_read"] += 1
            counts["skipped/no_image"] += 1
        else:
            _add(rows, read_record(body, record, config, page_limits(config), counts), offset)
    return True


def _add(rows: WatRows, read: Page | Skipped | None, offset: int) -> None:
    if isinstance(read, Page):
        rows.add(read, offset)
    elif read is not None:
        rows.note(read.url, read.reason, offset)
