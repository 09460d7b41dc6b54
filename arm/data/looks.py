"""The looks of the samples that are compared for likeness, in the order of preference, left on disk until they are asked for.

    rank 0, 1, …     what earlier runs kept stays, whatever it looks like: first, in the order of the index
    rank M, M + 1    this run's: the larger, then the more similar to its caption, then the smaller uid

A sample costs 8 bytes here; hashes (32 bytes) and thumbnails (432) are read from the tables by rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from arm.data import pdq
from arm.data.config import CurateConfig
from arm.data.curation_index import Index
from arm.data.deduplication import THUMBNAIL_SIDE
from arm.data.measured import Integers, Measured, Words
from arm.data.measuring import rule_of

Mask = NDArray[np.bool_]
THUMBNAIL_BYTES = 3 * THUMBNAIL_SIDE**2


@dataclass(frozen=True, slots=True)
class Looks:
    """What is compared, by rank."""

    index: Index
    measured: Measured
    rows: Integers
    """The measured row of each rank after the index's."""

    def __len__(self) -> int:
        return self.num_known + len(self.rows)

    @property
    def num_known(self) -> int:
        """Ranks of what earlier runs kept."""
        return len(self.index.compared)

    def parts(self, *columns: str) -> Iterator[tuple[Integers, pa.Table]]:
        """`near` or `thumbnail` of all ranks, a part after the other: the ranks, and the columns there."""
        start = 0
        for table in self.index.tables("near", "thumbnail"):
            table = table.filter(pc.is_valid(table["near"])).select(columns)
            yield np.arange(start, start + table.num_rows), table
            start += table.num_rows
        for places, table in self.measured.take(self.rows, *(_LISTS[name] for name in columns)):
            yield start + places, _firsts(table).rename_columns(list(columns))

    def hashes(self, ranks: Integers | None = None) -> pdq.Hashes:
        """The hashes of all, or of some sorted ranks: array (N, 4)."""
        found = np.empty((len(self) if ranks is None else len(ranks), 4), np.uint64)
        for here, table in self.parts("near") if len(found) else ():
            hashes = hashes_in(table["near"])
            if ranks is None:
                found[here] = hashes
            else:
                wanted = np.isin(here, ranks)
                found[np.searchsorted(ranks, here[wanted])] = hashes[wanted]
        return found

    def __getitem__(self, ranks: Integers, /) -> NDArray[np.uint8]:
        """The thumbnails of some ranks: array (N, 432)."""
        found = np.empty((len(ranks), THUMBNAIL_BYTES), np.uint8)
        known = np.flatnonzero(ranks < self.num_known)
        rows, start = self.index.compared[ranks[known]], 0
        for table in self.index.tables("thumbnail"):
            here = np.flatnonzero((rows >= start) & (rows < start + table.num_rows))
            found[known[here]] = thumbnails_in(table["thumbnail"].take(pa.array(rows[here] - start)))
            start += table.num_rows
        new = np.flatnonzero(ranks >= self.num_known)
        for places, table in self.measured.take(self.rows[ranks[new] - self.num_known], "thumbnails"):
            found[new[places]] = thumbnails_in(_firsts(table)["thumbnails"])
        return found

    def write(self, folder: Path) -> None:
        """Write everything as Spark reads it."""
        from arm.data.near_duplicates_spark import write_rows

        for number, (ranks, table) in enumerate(self.parts("near", "thumbnail")):
            if len(ranks):
                path = folder / f"{number:06d}.parquet"
                write_rows(path, ranks, hashes_in(table["near"]), thumbnails_in(table["thumbnail"]))


_LISTS = {"near": "near", "thumbnail": "thumbnails"}
"""Columns of the index, and the measured columns that list them for each image."""


def rank_looks(
    measured: Measured, alive: Mask, uids: Words, index: Index, config: CurateConfig
) -> tuple[Looks, Integers]:
    """The living rows that are compared, and those that an earlier run found too popular for it."""
    rows, count = np.empty(int(alive.sum()), np.int64), 0
    sides, similarities = np.empty(len(rows), np.int32), np.empty(len(rows), np.float32)
    crowded = [np.empty(0, np.int64)]
    for part, table in measured.tables("source", "near", "side", "similarity"):
        mine = np.flatnonzero(is_compared(table, config) & alive[part])
        table = table.take(pa.array(mine))
        popular = index.is_popular(hashes_in(_firsts(table.select(["near"]))["near"]))
        crowded.append(part.start + mine[popular])
        end = count + int((~popular).sum())
        rows[count:end] = part.start + mine[~popular]
        sides[count:end] = table["side"].to_numpy()[~popular]
        similarities[count:end] = pc.fill_null(table["similarity"], 0.0).to_numpy()[~popular]
        count = end
    rows = rows[:count]
    order = np.lexsort((uids[1][rows], uids[0][rows], -similarities[:count], -sides[:count]))
    return Looks(index, measured, rows[order]), np.concatenate(crowded)


def is_compared(table: pa.Table, config: CurateConfig) -> Mask:
    """Which samples take part, if they are kept so far: captioned images whose rule says so (columns source, near)."""
    alone = pc.fill_null(pc.equal(pc.list_value_length(table["near"]), 1), False).to_numpy()
    wanted = [
        source for source in pc.unique(table["source"]).to_pylist() if rule_of(source, config.rules).near_duplicates
    ]
    return np.asarray(alone & pc.is_in(table["source"], pa.array(wanted, pa.string())).to_numpy())


def hashes_in(column: pa.ChunkedArray) -> pdq.Hashes:
    """Hashes of 32 bytes each: array (N, 4)."""
    return pdq.from_bytes(b"".join(column.to_pylist()))


def thumbnails_in(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Thumbnails of 432 bytes each: array (N, 432)."""
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, THUMBNAIL_BYTES)


def _firsts(table: pa.Table) -> pa.Table:
    """Of columns of lists the first element of each."""
    return pa.table({name: pc.list_element(table[name], 0) for name in table.column_names})
