"""What a later run of curate-images must know of the earlier ones, so that a second crawl adds only what is new.

index/part-00000.parquet     uid, content, near, thumbnail    a row per kept sample, of this run and those before it
index/popular.parquet        key                              bands that too many images shared, with their number above

Of a row its keys are in memory, 32 bytes; hashes and thumbnails are read when they are compared.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from arm.data.measured import Integers, Words, key_words, uid_words
from arm.data.near_duplicates import NUM_BANDS
from arm.data.pdq import BITS, Hashes, bands
from arm.data.tables import GROUP_ROWS, write_table, write_tables
from arm.errors import UserError
from arm.manifest import Manifest
from arm.storage import Folder

KEPT = pa.schema(
    [("uid", pa.string()), ("content", pa.binary(16)), ("near", pa.binary(32)), ("thumbnail", pa.binary())]
)
"""`near` and `thumbnail` of samples that were compared with others, else null."""
KEYS = pa.schema([("key", pa.int64())])
NO_KEYS = np.empty((2, 0), np.uint64)


@dataclass(slots=True)
class Index:
    """What earlier runs kept."""

    path: Path | None = None
    """Its rows, of KEPT."""
    uids: Words = field(default_factory=NO_KEYS.copy)
    contents: Words = field(default_factory=NO_KEYS.copy)
    compared: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    """The rows that new samples are compared with."""
    popular: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.uids[0])

    def tables(self, *columns: str) -> Iterator[pa.Table]:
        """All rows, a part after the other."""
        if self.path:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(GROUP_ROWS, columns=list(columns or KEPT.names)):
                    yield pa.Table.from_batches([batch]).replace_schema_metadata(None)

    def is_popular(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Whether a hash has a band that too many images shared before."""
        return np.asarray(np.isin(_keys(hashes), self.popular).any(axis=1))

    def note_popular(self, hashes: Hashes, max_bucket: int) -> None:
        """Remember the bands that made these hashes popular: their buckets are among them whole."""
        keys, counts = np.unique(_keys(hashes), return_counts=True)
        self.popular = np.union1d(self.popular, keys[counts > max_bucket])

    def write(self, output: Folder, kept: Iterable[pa.Table]) -> None:
        """Publish what was kept before and what is kept now, rows of KEPT."""
        write_tables(output, "index/part-00000.parquet", KEPT, chain(self.tables(), kept))
        write_table(output, "index/popular.parquet", pa.table([pa.array(self.popular)], schema=KEYS))


def read_index(known: Manifest | None) -> Index:
    """The index of an earlier curate-images; empty without one."""
    if known is None:
        return Index()
    if not known.select("index/", ".parquet"):
        raise UserError(f"{known.url} ({known.kind}) keeps no index; give the output of curate-images as `known`.")
    index = Index(known.local("index/part-00000.parquet"))
    popular = pq.read_table(known.local("index/popular.parquet"))["key"].to_numpy()
    uids, contents, compared, start = [NO_KEYS], [NO_KEYS], [np.empty(0, np.int64)], 0
    for table in index.tables("uid", "content", "near"):
        uids.append(uid_words(table["uid"].to_pylist()))
        contents.append(key_words(table["content"].to_pylist()))
        compared.append(start + np.flatnonzero(table["near"].is_valid().to_numpy()))
        start += table.num_rows
    return Index(index.path, np.hstack(uids), np.hstack(contents), np.concatenate(compared), popular)


def _keys(hashes: Hashes) -> NDArray[np.int64]:
    """The bands of each hash, each with its number above: array (N, 8)."""
    numbers = np.arange(NUM_BANDS, dtype=np.int64) << (BITS // NUM_BANDS)
    return bands(hashes, NUM_BANDS).astype(np.int64) | numbers
