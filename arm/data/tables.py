"""Parquet tables of rows with their counts: one file tells what it holds and what was dropped on the way.

    write_table(folder, "pairs/part-00000.parquet", table, counts={"records_read": 235, "skipped/not_html": 148})
    read_counts(folder.fetch("pairs/part-00000.parquet"))   -> the same counts

So a unit that a killed run has published needs no second look: its counts are in the file.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import ArmError
from arm.storage import Folder

COUNTS_KEY = b"arm.counts"
DROPPED = "dropped/"


def write_table(folder: Folder, name: str, table: pa.Table, counts: Mapping[str, int] | None = None) -> None:
    """Publish a table with its counts; the same rows give the same bytes."""
    metadata = {COUNTS_KEY: json.dumps(dict(counts or {}), sort_keys=True).encode()}
    with folder.publish(name) as path:
        pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


class TableWriter:
    """A table that is written row group by row group."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer

    def write(self, rows: pa.Table) -> None:
        """Append the rows as one row group; no rows, no group."""
        if rows.num_rows:
            self._writer.write_table(rows, row_group_size=rows.num_rows)


@contextlib.contextmanager
def table_writer(
    folder: Folder, name: str, schema: pa.Schema, counts: Mapping[str, int] | None = None
) -> Iterator[TableWriter]:
    """Write a table piece by piece and publish it at a clean exit, with the counts as they are then."""
    with folder.publish(name) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield TableWriter(writer)
        writer.add_key_value_metadata({COUNTS_KEY: json.dumps(dict(counts or {}), sort_keys=True).encode()})


def read_counts(path: Path) -> dict[str, int]:
    """The counts that `write_table` put beside the rows."""
    metadata = pq.read_metadata(path).metadata or {}
    return dict(json.loads(metadata.get(COUNTS_KEY, b"{}")))


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
