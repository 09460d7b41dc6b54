"""What curate-images takes over from the artifact before it, its input `known`: the new one holds all that was kept so far.

    known     shards/crawl-00000.tar, crawl-00001.tar    decisions/part-00000.parquet    hashes/, quarantine/, captions/
    output    the same files, linked where the disk allows it, then crawl-00002.tar … and decisions/part-00001.parquet …

So whoever trains on the newest artifact trains on every crawl, and it needs none of those before it. What was taken down
since, what a hash list holds by now and what shows an image of another evaluation set than theirs does not come along:

    samples_known = samples_taken_over + dropped_known/tombstone + dropped_known/hash_list + dropped_known/contaminated

Bounds of this run's rules are for what is new.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.config import CurateConfig
from arm.data.hash_lists import HITS, Listed, concat_hits, hashes_of, hits_by_list
from arm.data.shards import read_shard, write_shard
from arm.manifest import FileEntry, Manifest
from arm.storage import Folder, copy_file

SHARDS = "shards/"
TABLES = ("decisions/", "hashes/", "quarantine/", "captions/")
"""Tables of which each crawl has a part."""


def part_name(table: str, known: Manifest | None) -> str:
    """The name of this crawl's part of a table: the number of crawls before it."""
    return f"{table}/part-{len(known.select('decisions/')) if known else 0:05d}.parquet"


def first_shard(name: str, known: Manifest | None) -> int:
    """The number of the first new shard of a name: those of the crawls before it come first."""
    numbers = [_number_of(entry) for entry in known.select(SHARDS, ".tar") if _name_of(entry) == name] if known else []
    return max(numbers, default=-1) + 1


def same_evaluation(known: Manifest, evaluation: Manifest | None, config: CurateConfig) -> bool:
    """Whether an earlier artifact was held against these very evaluation sets, by these bounds."""
    names = ("evaluation_distance", "verify_difference")
    return known.inputs.get("evaluation") == (evaluation and evaluation.digest) and all(
        known.config.get(name) == getattr(config, name) for name in names
    )


def new_hits(known: Manifest, lists: Sequence[Listed], distance: int) -> pa.Table:
    """Rows of HITS for the samples of an earlier artifact that a list holds by now."""
    if not lists:
        return HITS.empty_table()
    quarantine = [pq.read_table(known.local(entry), columns=["uid"]) for entry in known.select("quarantine/")]
    told = pa.concat_tables([HITS.empty_table().select(["uid"]), *quarantine])["uid"].combine_chunks()
    hits = concat_hits([hits_by_list(table, lists, distance) for table in hashes_of(known)])
    return hits.filter(pc.invert(pc.is_in(hits["uid"], told)))


def take_over(known: Manifest, output: Folder, refused: Mapping[str, str]) -> dict[str, int]:
    """Publish the files of an earlier artifact, samples of refused uids (uid -> reason) left out; return the counts."""
    dropped = Counter[str]()
    entries = known.select(SHARDS, ".tar")
    for entry, path in zip(entries, known.stream(entries), strict=True):
        held = [reason for sample in read_shard(path) if (reason := refused.get(sample.uid))] if refused else []
        dropped.update(held)
        if not output.exists(entry.path):
            with output.publish(entry.path) as target:
                if held:
                    write_shard(target, read_shard(path, refused))
                else:
                    copy_file(path, target)
    for entry in (entry for table in TABLES for entry in known.select(table, ".parquet")):
        if not output.exists(entry.path):
            with output.publish(entry.path) as target:
                copy_file(known.local(entry), target)
    total = known.counts.get("samples_kept", 0) + known.counts.get("samples_taken_over", 0)
    counts = {"samples_known": total, "samples_taken_over": total - dropped.total()}
    return counts | {f"dropped_known/{reason}": number for reason, number in sorted(dropped.items())}


def _name_of(entry: FileEntry) -> str:
    return entry.path.removeprefix(SHARDS).removesuffix(".tar").rpartition("-")[0]


def _number_of(entry: FileEntry) -> int:
    return int(entry.path.removesuffix(".tar").rpartition("-")[2])
