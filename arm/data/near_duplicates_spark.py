"""`arm.data.near_duplicates` for more images than one machine's memory holds: the same result, shuffled by Spark.

    rows  (rank, h0..h3, thumbnail)                                Parquet; rank 0 is the best image
      → bands    (key, rank, h0..h3, size)     8 a row, in the order of (key, rank); buckets of one row go no further
      → edges    (rank, hub)                   hub -1: popular
      → stars    (rank, label)                 large-star and small-star (Kiveris et al., 2014) until nothing changes
      → (rank, kept)                           each component in one place, in the order of preference

Ranks are the ids, so that a component's label is its best image, and no step depends on where its rows lie.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from arm.data.near_duplicates import NUM_BANDS, Bounds, Found, Integers, choose, link
from arm.data.pdq import BITS, Hashes
from arm.errors import ArmError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

WORDS = ("h0", "h1", "h2", "h3")
"""The four words of a hash, as signed numbers: Spark knows no others."""
ROWS = pa.schema([("rank", pa.int64()), *((word, pa.int64()) for word in WORDS), ("thumbnail", pa.binary())])
PAIRS = "rank long, other long"
BAND_BITS = BITS // NUM_BANDS
POPULAR = -1
MAX_ROUNDS = 64
"""Large-star and small-star need O(log² n) rounds: 64 are far more than any set of images takes."""
FLUSH_ROWS = 50_000
"""Rows of whole groups that are handed to NumPy at once."""
Work = Callable[[pa.Table], Integers]


def write_rows(path: Path, ranks: Integers, hashes: Hashes, thumbnails: NDArray[np.uint8]) -> None:
    """Write rows of some ranks as a Parquet file that `find_on_spark` reads."""
    words = [pa.array(word) for word in hashes.view(np.int64).T]
    small = pa.array([row.tobytes() for row in thumbnails], pa.binary())
    columns = [pa.array(ranks), *words, small]
    pq.write_table(pa.Table.from_arrays(columns, schema=ROWS), path)


def find_on_spark(spark: "SparkSession", rows_path: str, bounds: Bounds) -> Found:
    """Find what looks alike among the rows of Parquet files."""
    from pyspark.sql import functions as F

    rows = spark.read.parquet(rows_path)
    linked = _linked(_bands(rows), bounds).localCheckpoint()
    popular = linked.where(F.col("other") == POPULAR).select("rank").distinct()
    edges = linked.where(F.col("other") != POPULAR).join(popular, "rank", "left_anti")
    edges = edges.join(popular.withColumnRenamed("rank", "other"), "other", "left_anti").select("rank", "other")
    stars = find_components(edges)
    everyone = stars.union(stars.select(F.col("label").alias("rank"), "label").distinct())
    chosen = _chosen(everyone.join(rows, "rank"), bounds)
    duplicates = _collected(chosen, ("rank", "other"))
    return Found(
        duplicates=duplicates[np.argsort(duplicates[:, 0])], popular=np.sort(_collected(popular, ("rank",))[:, 0])
    )


def find_components(edges: "DataFrame") -> "DataFrame":
    """(rank, other) with rank > other  ->  (rank, label): every rank but the labels, with its component's smallest."""
    from pyspark.sql import functions as F

    current = edges.select(F.greatest("rank", "other").alias("rank"), F.least("rank", "other").alias("label"))
    current = current.where("rank != label").distinct().localCheckpoint()
    before = _digest(current)
    for _ in range(MAX_ROUNDS):
        current = _small_star(_large_star(current)).localCheckpoint()
        after = _digest(current)
        if after == before:
            return current
        before = after
    raise ArmError(f"The components of near duplicates did not settle in {MAX_ROUNDS} rounds; this is a fault.")


def _bands(rows: "DataFrame") -> "DataFrame":
    """Eight keys a row, each with the size of its bucket; what shares no band with anybody is left out."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    keys = F.explode(F.array(*(_key(band) for band in range(NUM_BANDS))))
    bucket = Window.partitionBy("key").orderBy("rank")
    whole = bucket.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    sized = rows.select(keys.alias("key"), "rank", *WORDS).withColumn("size", F.count("*").over(whole))
    return sized.where("size > 1")


def _key(band: int) -> "Column":
    """The bits of a band with its number above them."""
    from pyspark.sql import functions as F

    word, place = divmod(band * BAND_BITS, 64)
    bits = F.shiftright(F.col(WORDS[word]), 64 - BAND_BITS - place)
    return bits.bitwiseAND(F.lit((1 << BAND_BITS) - 1)).bitwiseOR(F.lit(band << BAND_BITS))


def _linked(frame: "DataFrame", bounds: Bounds) -> "DataFrame":
    """(rank, hub) of the rows of each bucket."""

    def work(table: pa.Table) -> Integers:
        keys, ranks = table["key"].to_numpy(), table["rank"].to_numpy()
        edges, popular = link(keys, ranks, _hashes(table), bounds)
        return np.concatenate([edges, np.stack([popular, np.full_like(popular, POPULAR)], axis=1)])

    return frame.mapInArrow(lambda batches: _by_group(batches, "key", work), PAIRS)


def _chosen(members: "DataFrame", bounds: Bounds) -> "DataFrame":
    """(rank, kept) of the rows of each component."""

    def work(table: pa.Table) -> Integers:
        thumbnails = np.frombuffer(b"".join(table["thumbnail"].to_pylist()), np.uint8).reshape(table.num_rows, -1)
        pairs = choose(table["label"].to_numpy(), _hashes(table), thumbnails, bounds)
        ranks: Integers = table["rank"].to_numpy()
        return ranks[pairs]

    frame = members.repartition("label").sortWithinPartitions("label", "rank")
    return frame.mapInArrow(lambda batches: _by_group(batches, "label", work), PAIRS)


def _by_group(batches: Iterable[pa.RecordBatch], column: str, work: Work) -> Iterator[pa.RecordBatch]:
    """Work on whole groups of a sorted partition, many at a time."""
    waiting: list[pa.RecordBatch] = []
    for batch in filter(len, batches):
        waiting.append(batch)
        values = batch.column(column)
        if sum(map(len, waiting)) < FLUSH_ROWS or values[0] == values[-1]:
            continue
        table = pa.Table.from_batches(waiting)
        keys = table[column].to_numpy()
        cut = int(np.searchsorted(keys, keys[-1]))  # the last group may go on
        yield _pairs(work(table.slice(0, cut)))
        waiting = table.slice(cut).combine_chunks().to_batches()
    if waiting:
        yield _pairs(work(pa.Table.from_batches(waiting)))


def _pairs(found: Integers) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(found[:, 0]), pa.array(found[:, 1])], names=["rank", "other"])


def _hashes(table: pa.Table) -> Hashes:
    return np.stack([table[word].to_numpy() for word in WORDS], axis=1).view(np.uint64)


def _large_star(edges: "DataFrame") -> "DataFrame":
    """Every larger neighbour of a rank is linked to the smallest of its neighbours and itself."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    both = edges.union(edges.select(F.col("label").alias("rank"), F.col("rank").alias("label")))
    smallest = F.least("rank", F.min("label").over(Window.partitionBy("rank")))
    found = both.withColumn("smallest", smallest).where("label > rank")
    return found.select(F.col("label").alias("rank"), F.col("smallest").alias("label"))


def _small_star(edges: "DataFrame") -> "DataFrame":
    """A rank and its smaller neighbours are linked to the smallest of them."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    found = edges.withColumn("smallest", F.min("label").over(Window.partitionBy("rank")))
    others = found.where("label != smallest").select(F.col("label").alias("rank"), F.col("smallest").alias("label"))
    return found.select("rank", F.col("smallest").alias("label")).union(others).distinct()


def _digest(edges: "DataFrame") -> tuple[object, ...]:
    """The same for the same edges, whatever their order."""
    from pyspark.sql import functions as F

    total = F.sum(F.xxhash64("rank", "label").cast("decimal(38,0)"))
    return tuple(edges.agg(F.count("*"), total).collect()[0])


def _collected(frame: "DataFrame", names: tuple[str, ...]) -> Integers:
    table = frame.toArrow()
    columns = [table[name].to_numpy() for name in names]
    return np.stack(columns, axis=1).astype(np.int64) if table.num_rows else np.empty((0, len(names)), np.int64)
