"""The measured tables of many shards as one long table, of which no more than one shard's rows are in memory.

measured/00000.parquet   rows 0, 1, …, 9999        the table of shard 0 (`arm.data.measuring`)
         00001.parquet   rows 10000, …

for rows, table in measured.tables("uid", "side"): …       rows: slice(0, 10000); table: those columns
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]
"""(2, N): N keys of 16 bytes, the more significant half first."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The tables in the order of their shards."""

    paths: Sequence[Path] = ()
    starts: tuple[int, ...] = (0,)
    """The first row of each table, and the number of all rows."""

    def __len__(self) -> int:
        return self.starts[-1]

    def tables(self, *columns: str) -> Iterator[tuple[slice, pa.Table]]:
        """Some columns, one table after the other, with the rows that they are."""
        return (self.table(number, *columns) for number in range(len(self.paths)))

    def table(self, number: int, *columns: str) -> tuple[slice, pa.Table]:
        """Some columns of one table, and the rows that they are."""
        found = pq.read_table(self.paths[number], columns=list(columns))
        return slice(self.starts[number], self.starts[number + 1]), found

    def take(self, rows: Integers, *columns: str) -> Iterator[tuple[Integers, pa.Table]]:
        """Some columns at some rows, table by table: which of `rows`, and what is there."""
        order = np.argsort(rows, kind="stable")
        cuts = np.searchsorted(rows[order], self.starts)
        for number, (low, high) in enumerate(pairwise(cuts)):
            if low < high:
                places = order[low:high]
                _, table = self.table(number, *columns)
                yield places, table.take(pa.array(rows[places] - self.starts[number]))


def open_measured(paths: Sequence[Path]) -> Measured:
    """Tables that are written whole."""
    sizes = [pq.read_metadata(path).num_rows for path in paths]
    return Measured(paths, (0, *np.cumsum(sizes, dtype=np.int64).tolist()))


def uid_words(uids: Sequence[str]) -> Words:
    """Uids, hexadecimal words of 32 digits, as keys."""
    return key_words([bytes.fromhex("".join(uids))])


def key_words(keys: Sequence[bytes]) -> Words:
    """Keys of 16 bytes each."""
    return np.frombuffer(b"".join(keys), ">u8").astype(np.uint64).reshape(-1, 2).T


def to_uids(words: Words) -> list[str]:
    """The uids again."""
    text = np.ascontiguousarray(words.T).astype(">u8").tobytes().hex()
    return [text[start : start + 32] for start in range(0, len(text), 32)]
