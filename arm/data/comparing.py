"""The second half of filter-pairs: what only the others tell of a pair, on Spark, over 40 bytes a pair.

    duplicate_pair     a copy: the first keeps the uid                              (decided where the rows are written)
    seen_before        an earlier run compared this very pair, whatever it decided
    popular_caption    the caption stands under more different images than allowed, those of earlier runs included
    seen_image         its image was kept by an earlier run, with as many captions as are kept
    other_caption      its image is kept with as many better captions

Sums are made before anything is shuffled, so that a caption or a pair that is everywhere makes no task slow; only the
captions of one image meet in one task.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import FilterConfig
from arm.data.judging import KEYS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

SEEN = pa.schema([("uid", pa.binary()), ("url_key", pa.int64()), ("caption_key", pa.int64()), ("kept", pa.bool_())])
"""What is remembered of every pair that was compared: 33 bytes, by which later runs know it."""
DECIDED = pa.schema([*KEYS, ("known", pa.bool_()), ("reason", pa.string())])
"""One row a uid: the order of its first copy (none: an earlier run's), whether it was kept before (null: it is new)."""


def read_frame(
    spark: "SparkSession", schema: pa.Schema, num_parts: int, read: Callable[[int], Iterable[pa.Table]]
) -> "DataFrame":
    """The rows of numbered parts, read in one task a part wherever it runs; nothing passes through this process."""
    from pyspark.sql.pandas.types import from_arrow_schema

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for index in batch.column(0).to_pylist():
                for table in read(index):
                    yield from table.replace_schema_metadata(None).cast(schema).to_batches(max_chunksize=10_000)

    frame: DataFrame = spark.range(0, num_parts, 1, max(1, num_parts)).mapInArrow(run, from_arrow_schema(schema))
    return frame


def decide(keys: "DataFrame", seen: "DataFrame", config: FilterConfig) -> "DataFrame":
    """One decision for every uid of this run (KEYS) and of the earlier ones (SEEN)."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    known = (
        keys.unionByName(seen.withColumnRenamed("kept", "known"), allowMissingColumns=True)
        .groupBy("uid")
        .agg(*(F.min(name).alias(name) for name in ("url_key", "caption_key", "order")), F.max("known").alias("known"))
    )
    repeats = known.groupBy("caption_key").agg(F.count("*").alias("repeats"))
    popular = repeats.filter(F.col("repeats") > config.max_caption_repeats)
    frame = known.join(popular, "caption_key", "left")
    is_new, is_popular = F.col("known").isNull(), F.col("repeats").isNotNull()
    turn = F.when(F.col("known"), 0).when(is_new & ~is_popular, 1).otherwise(2)
    captions = Window.partitionBy("url_key").orderBy("turn", "order", "uid")
    frame = frame.withColumn("turn", turn).withColumn("place", F.row_number().over(captions))
    frame = frame.withColumn("first_turn", F.first("turn").over(captions))
    late = F.col("place") > config.captions_per_url
    reason = (
        F.when(~is_new, "seen_before")
        .when(is_popular, "popular_caption")
        .when(late & (F.col("first_turn") == 0), "seen_image")
        .when(late, "other_caption")
    )
    return frame.withColumn("reason", reason).select(*DECIDED.names)


def bucketed(rows: "DataFrame", decided: "DataFrame", num_buckets: int, missing: Sequence[int]) -> "DataFrame":
    """Each uid's decision followed by its rows, by uid; one partition a bucket, of the missing buckets alone."""
    from pyspark.sql import functions as F

    rows = rows.withColumnRenamed("uid", "text_uid").withColumn("uid", F.unhex("text_uid"))
    rows = rows.withColumn("is_row", F.lit(True))
    frame = decided.withColumn("is_row", F.lit(False)).unionByName(rows, allowMissingColumns=True)
    frame = frame.withColumn("bucket", _bucket(F.col("uid"), num_buckets))
    if len(missing) < num_buckets:
        frame = frame.filter(F.col("bucket").isin(list(missing)))
    return frame.repartitionById(num_buckets, F.col("bucket")).sortWithinPartitions("bucket", "uid", "is_row", "order")


def _bucket(uid: "Column", num_buckets: int) -> "Column":
    """The first 32 bits of a uid, modulo the number of buckets."""
    from pyspark.sql import functions as F

    number: Column = F.conv(F.hex(F.substring(uid, 1, 4)), 16, 10).cast("long") % num_buckets
    return number.cast("int")
