"""What a later run of curate-images must know of the earlier ones, so that a second crawl adds only what is new.

index/part-00000.parquet     uid, content, near, thumbnail    a row per kept sample, of this run and those before it
index/popular.parquet        key                              bands that too many images shared, with their number above
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from arm.data.near_duplicates import NUM_BANDS
from arm.data.pdq import BITS, Hashes, bands
from arm.data.tables import write_table
from arm.errors import UserError
from arm.manifest import Manifest
from arm.storage import Folder

KEPT = pa.schema(
    [("uid", pa.string()), ("content", pa.binary(16)), ("near", pa.binary(32)), ("thumbnail", pa.binary())]
)
"""`near` and `thumbnail` of samples that were compared with others, else null."""
KEYS = pa.schema([("key", pa.int64())])


@dataclass(slots=True)
class Index:
    """What earlier runs kept."""

    kept: pa.Table = field(default_factory=KEPT.empty_table)
    popular: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def compared(self) -> pa.Table:
        """The kept samples that new ones are compared with."""
        return self.kept.filter(pc.is_valid(self.kept["near"]))

    def seen(self) -> dict[Any, str]:
        """Content and uid of each kept sample -> its uid."""
        uids, contents = self.kept["uid"].to_pylist(), self.kept["content"].to_pylist()
        return dict(zip(uids, uids, strict=True)) | dict(zip(contents, uids, strict=True))

    def is_popular(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Whether a hash has a band that too many images shared before."""
        return np.asarray(np.isin(_keys(hashes), self.popular).any(axis=1))

    def note_popular(self, hashes: Hashes, max_bucket: int) -> None:
        """Remember the bands that made these hashes popular: their buckets are among them whole."""
        keys, counts = np.unique(_keys(hashes), return_counts=True)
        self.popular = np.union1d(self.popular, keys[counts > max_bucket])

    def write(self, output: Folder, rows: list[dict[str, Any]]) -> None:
        """Publish what was kept before and the rows kept now."""
        table = pa.concat_tables([self.kept, pa.Table.from_pylist(rows, KEPT)])
        write_table(output, "index/part-00000.parquet", table)
        write_table(output, "index/popular.parquet", pa.table([pa.array(self.popular)], schema=KEYS))


def read_index(known: Manifest | None) -> Index:
    """The index of an earlier curate-images; empty without one."""
    if known is None:
        return Index()
    if not known.select("index/", ".parquet"):
        raise UserError(f"{known.url} ({known.kind}) keeps no index; give the output of curate-images as `known`.")
    kept = pq.read_table(known.local("index/part-00000.parquet"), schema=KEPT).replace_schema_metadata(None)
    popular = pq.read_table(known.local("index/popular.parquet"))["key"].to_numpy()
    return Index(kept, popular)


def _keys(hashes: Hashes) -> NDArray[np.int64]:
    """The bands of each hash, each with its number above: array (N, 8)."""
    numbers = np.arange(NUM_BANDS, dtype=np.int64) << (BITS // NUM_BANDS)
    return bands(hashes, NUM_BANDS).astype(np.int64) | numbers
