"""filter-pairs: rules, exact duplicates, popular captions and one caption per image, on Spark.

pairs/part-00000.parquet      what is worth downloading, with the language; sorted by uid, so hosts are mixed
dropped/part-00000.parquet    everything else, with its reason

pairs_read = pairs_kept + dropped/short_caption + ... + dropped/duplicate_pair + dropped/popular_caption + dropped/other_caption
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from math import ceil
from typing import TYPE_CHECKING

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.config import FilterConfig
from arm.data.extraction import PAIRS
from arm.data.language import detect_languages
from arm.data.rules import Pair, judge
from arm.data.spark import spark_session
from arm.data.tables import add_counts, check_balance, read_counts, write_table
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.storage import Folder, open_folder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

KEPT = PAIRS.append(pa.field("language", pa.string()))
DROPPED = pa.schema(
    [(name, pa.string()) for name in ("uid", "url", "caption", "kind", "page_url", "language", "reason")]
)
KIND_RANKS = ("alt", "figcaption", "title", "og:title")
"""Which caption of an image is preferred: what describes the image before what names the page."""
JUDGED = KEPT.append(pa.field("reason", pa.string())).append(pa.field("bucket", pa.int32()))
JUDGED = JUDGED.append(pa.field("rank", pa.int32()))


def filter_pairs(*, pairs: Manifest, output: Folder, config: FilterConfig) -> Outcome:
    """Keep the pairs worth downloading; publish the others with the reason."""
    parts = [str(pairs.local(entry)) for entry in pairs.select("pairs/", ".parquet")]
    num_rows = sum(pq.read_metadata(part).num_rows for part in parts)
    if not num_rows:
        raise UserError(f"{pairs.url} ({pairs.kind}) holds no pair; nothing can be filtered.")
    num_buckets = ceil(num_rows / config.rows_per_part)
    names = [f"part-{bucket:05d}.parquet" for bucket in range(num_buckets)]
    if not all(output.exists(f"pairs/{name}") for name in names):
        with spark_session(config.spark, output.scratch("spark")) as spark:
            judged = _judged(spark, parts, num_buckets, config, pairs.tombstones)
            _publish_buckets(_compared(judged, config), num_buckets, output.url)
    counts = add_counts(read_counts(output.fetch(f"pairs/{name}")) for name in names)
    check_balance(counts | {"pairs_expected": num_rows}, "pairs_expected", "pairs_read", "lost/")
    check_balance(counts, "pairs_read", "pairs_kept")
    return Outcome(counts=counts)


def judge_table(
    table: pa.Table, num_buckets: int, config: FilterConfig, refused: frozenset[str] = frozenset()
) -> pa.Table:
    """Add language, reason of the first rule that objects, bucket and rank of the caption's kind to rows of PAIRS; what was
    taken down has the reason `tombstone`."""
    uids, urls, captions = (table[name].to_pylist() for name in ("uid", "url", "caption"))
    languages = detect_languages(captions, config.candidate_languages, config.min_language_distance)
    reasons = [
        "tombstone" if uid in refused else judge(Pair(url=url, caption=caption, language=language), config)
        for uid, url, caption, language in zip(uids, urls, captions, languages, strict=True)
    ]
    buckets = [int(uid[:8], 16) % num_buckets for uid in uids]
    ranks = [KIND_RANKS.index(kind) if kind in KIND_RANKS else len(KIND_RANKS) for kind in table["kind"].to_pylist()]
    columns = [*table.columns, pa.array(languages), pa.array(reasons, pa.string())]
    return pa.Table.from_arrays([*columns, pa.array(buckets, pa.int32()), pa.array(ranks, pa.int32())], schema=JUDGED)


def _judged(
    spark: "SparkSession", parts: list[str], num_buckets: int, config: FilterConfig, refused: frozenset[str]
) -> "DataFrame":
    """All rows with what can be said of each alone: one task per part."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for index in batch.column(0).to_pylist():
                table = pq.read_table(parts[index], columns=PAIRS.names).replace_schema_metadata(None)
                for rows in table.to_batches(max_chunksize=10_000):
                    yield from judge_table(pa.Table.from_batches([rows]), num_buckets, config, refused).to_batches()

    from pyspark.sql.pandas.types import from_arrow_schema

    frame: DataFrame = spark.range(0, len(parts), 1, len(parts)).mapInArrow(run, from_arrow_schema(JUDGED))
    return frame


def _compared(frame: "DataFrame", config: FilterConfig) -> "DataFrame":
    """Give a reason to rows that only others make superfluous: duplicates, popular captions, second captions.

    The order (file, offset, position, kind) makes "first" the same whatever the partitions are.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    order = ["file", "offset", "position", "rank", "attribute"]
    fit = F.col("reason").isNull()
    copies = F.row_number().over(Window.partitionBy("uid", fit).orderBy(*order))
    frame = frame.withColumn("reason", F.when(fit & (copies > 1), F.lit("duplicate_pair")).otherwise(F.col("reason")))
    repeats = F.count("*").over(Window.partitionBy("caption", fit))
    popular = fit & (repeats > config.max_caption_repeats)
    frame = frame.withColumn("reason", F.when(popular, F.lit("popular_caption")).otherwise(F.col("reason")))
    place = F.row_number().over(Window.partitionBy("url", fit).orderBy("rank", *order))
    other = fit & (place > config.captions_per_url)
    return frame.withColumn("reason", F.when(other, F.lit("other_caption")).otherwise(F.col("reason")))


def _publish_buckets(frame: "DataFrame", num_buckets: int, output_url: str) -> None:
    """Bring each bucket into one task, sorted by uid, and let the task publish it."""
    order = ["bucket", "uid", "file", "offset", "position", "rank", "attribute"]
    frame = frame.repartition(num_buckets, "bucket").sortWithinPartitions(*order)
    frame.mapInArrow(partial(_write_buckets, output_url), "bucket int").collect()


def _write_buckets(output_url: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    output = open_folder(output_url)
    runs = (run for batch in batches for run in _runs(batch))
    for bucket, pieces in groupby(runs, key=lambda run: run.column("bucket")[0].as_py()):
        write_bucket(output, bucket, pa.Table.from_batches(list(pieces)))
        yield pa.RecordBatch.from_pydict({"bucket": pa.array([bucket], pa.int32())})


def _runs(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch where the bucket changes."""
    for bucket in pc.unique(batch.column("bucket")):
        yield batch.filter(pc.equal(batch.column("bucket"), bucket))


def write_bucket(output: Folder, bucket: int, table: pa.Table) -> None:
    """Publish the kept and the dropped rows of one bucket, the counts with the kept ones."""
    kept = table.filter(pc.is_null(table["reason"]))
    dropped = table.filter(pc.is_valid(table["reason"]))
    reasons = Counter(dropped["reason"].to_pylist())
    counts = {"pairs_read": table.num_rows, "pairs_kept": kept.num_rows}
    counts |= {f"dropped/{reason}": count for reason, count in reasons.items()}
    name = f"part-{bucket:05d}.parquet"
    write_table(output, f"dropped/{name}", dropped.select(DROPPED.names).cast(DROPPED))
    write_table(output, f"pairs/{name}", kept.select(KEPT.names).cast(KEPT), counts)
