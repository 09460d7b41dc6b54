"""filter-pairs: rules, exact duplicates, popular captions, one caption per image, and what earlier runs had, on Spark.

pairs/part-00000.parquet               what is worth downloading, with the language; sorted by uid, so hosts are mixed
dropped/rules-00000.parquet            whom a rule objects to, with the reason: a file a part of the input
dropped/compared-00000.parquet         whom only the others make superfluous
seen/part-00000.parquet                every pair compared so far: what the next crawl's run takes as its input `seen`
report/slices.parquet, report.md       what was dropped of each language, site and kind of caption, by reason

pairs_read = pairs_kept + dropped/short_caption + ... + dropped/duplicate_pair + dropped/seen_before + ...

A killed run goes on: parts that were judged and buckets that were written are not made again.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.blocklists import compile_blocklists
from arm.data.buckets import BucketWriter, part_name, write_buckets
from arm.data.comparing import SEEN, bucketed, decide, read_frame
from arm.data.config import FilterConfig
from arm.data.drop_report import write_report
from arm.data.judging import KEYS, ORDERED, Part, judge_part, staging_of
from arm.data.spark import map_units, spark_session
from arm.data.tables import add_counts, check_balance, read_counts
from arm.errors import UserError
from arm.manifest import FileEntry, Manifest, Outcome
from arm.storage import Folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SEEN_ROWS = 10
"""So many rows of `seen` weigh no more than one pair."""


def filter_pairs(*, pairs: Manifest, output: Folder, config: FilterConfig, seen: Manifest | None = None) -> Outcome:
    """Keep the pairs worth downloading; publish the others with the reason."""
    parts = [Part(index, entry) for index, entry in enumerate(pairs.select("pairs/", ".parquet"))]
    if not parts:
        raise _no_pair(pairs)
    _seen_entries(seen)  # refused before Spark starts
    entries = compile_blocklists(config, staging_of(output).child("blocklists"))
    work = partial(judge_part, source=replace(pairs, files=()), output_url=output.url, config=config)
    with spark_session(config.spark, output.scratch("spark")) as spark:
        judged = add_counts(map_units(spark, parts, work, "filter-pairs"))
        if not judged.get("pairs_read"):
            raise _no_pair(pairs)
        num_known = seen.counts["pairs_remembered"] if seen else 0
        num_buckets = max(1, ceil(max(judged["pairs_compared"], num_known / SEEN_ROWS) / config.rows_per_part))
        _compare(spark, len(parts), seen, output, num_buckets, config)
        compared = add_counts(read_counts(output.fetch(part_name(bucket))) for bucket in range(num_buckets))
        counts = _balanced(judged, compared) | entries
        if seen:
            counts |= {"pairs_known": num_known, "pairs_new": counts["pairs_kept"]}
        write_report(spark, output, counts, config)
    return Outcome(counts=counts)


def _compare(
    spark: "SparkSession", num_parts: int, seen: Manifest | None, output: Folder, num_buckets: int, config: FilterConfig
) -> None:
    """Write the buckets that are missing."""
    missing, staging, known = _missing(output, num_buckets), staging_of(output), _seen_entries(seen)
    if missing:
        keys = read_frame(spark, KEYS, num_parts, partial(_read_staged, staging, "keys"))
        before = read_frame(spark, SEEN, len(known), _reader(seen, known))
        rows = read_frame(spark, ORDERED, num_parts, partial(_read_staged, staging, "rows"))
        frame = bucketed(rows, decide(keys, before, config), num_buckets, missing)
        frame.mapInArrow(partial(write_buckets, output.url), "bucket int").collect()
    for bucket in _missing(output, num_buckets):  # no row fell into it
        with BucketWriter(output.url, bucket):
            pass


def _seen_entries(seen: Manifest | None) -> list[FileEntry]:
    """The files of what earlier runs compared."""
    if seen is None:
        return []
    entries = seen.select("seen/", ".parquet")
    if not entries or "pairs_remembered" not in seen.counts:
        raise UserError(f"{seen.url} ({seen.kind}) holds no seen/; give an earlier output of filter-pairs as `seen`.")
    return entries


def _read_staged(staging: Folder, kind: str, index: int) -> Iterator[pa.Table]:
    return _tables(staging.fetch(f"{kind}/{index:05d}.parquet"))


def _reader(source: Manifest | None, entries: list[FileEntry]) -> Callable[[int], Iterator[pa.Table]]:
    """Reads the n-th of some files of an artifact; `source` travels to the tasks without its list of files."""
    light = source and replace(source, files=())

    def read(index: int) -> Iterator[pa.Table]:
        assert light is not None, "without a source there is nothing to read"
        return _tables(light.local(entries[index]))

    return read


def _tables(path: Path) -> Iterator[pa.Table]:
    return (pa.Table.from_batches([batch]) for batch in pq.ParquetFile(path).iter_batches(batch_size=10_000))


def _missing(output: Folder, num_buckets: int) -> list[int]:
    done = set(output.list("pairs/"))
    return [bucket for bucket in range(num_buckets) if part_name(bucket) not in done]


def _balanced(judged: dict[str, int], compared: dict[str, int]) -> dict[str, int]:
    """The counts of both halves as one; ArmError when a row is lost between them."""
    check_balance({"judged": judged["pairs_compared"], **compared}, "judged", "pairs_compared", "lost/")
    check_balance(compared, "pairs_compared", "pairs_kept")
    counts = {name: count for name, count in judged.items() if name != "pairs_compared"}
    kept = {name: count for name, count in compared.items() if name != "pairs_compared"}
    counts = add_counts([counts, kept])
    check_balance(counts, "pairs_read", "pairs_kept")
    return counts


def _no_pair(pairs: Manifest) -> UserError:
    return UserError(f"{pairs.url} ({pairs.kind}) holds no pair; nothing can be filtered.")
