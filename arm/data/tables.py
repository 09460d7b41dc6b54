"""Parquet tables of rows with their counts: one file tells what it holds and what was dropped on the way.

    write_table(folder, "pairs/part-00000.parquet", table, counts={"records_read": 235, "skipped/not_html": 148})
    read_counts(folder.fetch("pairs/part-00000.parquet"))   -> the same counts

So a unit that a killed run has published needs no second look: its counts are in the file.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import ArmError
from arm.storage import Folder

COUNTS_KEY = b"arm.counts"
DROPPED = "dropped/"
GROUP_ROWS = 20_000
"""Rows of one row group where rows are written as they come: what a writer holds in memory."""
LARGE_GROUP_ROWS = 1 << 20
"""Rows of one row group of a table that is written whole: Arrow's own."""


def write_tables(folder: Folder, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Publish tables one after the other: the bytes of `write_table` for all in one, and one row group in memory."""
    schema = schema.with_metadata({COUNTS_KEY: b"{}"})
    with folder.publish(name) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in in_groups(tables, LARGE_GROUP_ROWS, schema):
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=LARGE_GROUP_ROWS)


def in_groups(tables: Iterable[pa.Table], group_rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of tables in groups of one size, the last one smaller; one empty group where there are none."""
    waiting, any_yet = schema.remove_metadata().empty_table(), False
    for table in tables:
        waiting = pa.concat_tables([waiting, table.replace_schema_metadata(None)])
        while waiting.num_rows >= group_rows:
            yield waiting.slice(0, group_rows).combine_chunks()
            waiting, any_yet = waiting.slice(group_rows), True
    if waiting.num_rows or not any_yet:
        yield waiting.combine_chunks()


def write_table(folder: Folder, name: str, table: pa.Table, counts: Mapping[str, int] | None = None) -> None:
    """Publish a table with its counts; the same rows give the same bytes."""
    metadata = {COUNTS_KEY: json.dumps(dict(counts or {}), sort_keys=True).encode()}
    with folder.publish(name) as path:
        pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


class TableWriter:
    """Writes rows as they come, in row groups of one size: the same rows give the same bytes however they were cut."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema, self._waiting, self._num_waiting = schema, list[pa.Table](), 0

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._waiting.append(table.select(self._schema.names).cast(self._schema))
        self._num_waiting += table.num_rows
        while self._num_waiting >= GROUP_ROWS:
            self._flush(GROUP_ROWS)

    def close(self, counts: Mapping[str, int]) -> None:
        """Write what waits, and the counts."""
        if self._num_waiting:
            self._flush(self._num_waiting)
        self._writer.add_key_value_metadata({COUNTS_KEY: json.dumps(dict(counts), sort_keys=True)})
        self._writer.close()

    def _flush(self, num_rows: int) -> None:
        table = pa.concat_tables(self._waiting)
        self._writer.write_table(table.slice(0, num_rows).combine_chunks(), row_group_size=num_rows)
        self._waiting, self._num_waiting = [table.slice(num_rows)], self._num_waiting - num_rows


@contextlib.contextmanager
def table_writer(
    folder: Folder, name: str, schema: pa.Schema, counts: Mapping[str, int] | None = None
) -> Iterator[TableWriter]:
    """Write a table piece by piece and publish it at a clean exit, with the counts as they are then."""
    with folder.publish(name) as path:
        writer = TableWriter(path, schema)
        yield writer
        writer.close(counts or {})


def read_counts(path: Path) -> dict[str, int]:
    """The counts that `write_table` put beside the rows."""
    metadata = pq.read_metadata(path).metadata or {}
    return dict(json.loads(metadata.get(COUNTS_KEY, b"{}")))


def keep_allowed(table: pa.Table, refused: Collection[str]) -> pa.Table:
    """The rows whose uid is not refused; uids are hexadecimal words, or their 16 bytes."""
    if not refused:
        return table
    kind = table.schema.field("uid").type
    words = pa.array([uid if pa.types.is_string(kind) else bytes.fromhex(uid) for uid in sorted(refused)], kind)
    return table.filter(pc.invert(pc.is_in(table["uid"], words)))


def add_counts(many: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of many counts, sorted by name."""
    total: dict[str, int] = {}
    for counts in many:
        for name, value in counts.items():
            total[name] = total.get(name, 0) + value
    return dict(sorted(total.items()))


def check_balance(counts: Mapping[str, int], total: str, kept: str, lost: str = DROPPED) -> None:
    """Fail unless total = kept + everything counted under `lost`."""
    away = sum(value for name, value in counts.items() if name.startswith(lost))
    if counts.get(total, 0) != counts.get(kept, 0) + away:
        raise ArmError(
            f"The counts do not balance: {total} {counts.get(total, 0)} is not {kept} {counts.get(kept, 0)} "
            f"+ {lost}* {away}; this is a fault of the program."
        )
