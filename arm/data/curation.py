"""curate-images: every image decoded once, a decision for every sample, one reshard at the end.

decisions/part-00000.parquet    uid, source, scores, hashes, reason (null: kept), duplicate_of: one row per sample
hashes/part-00000.parquet       what hash lists are compared with, of every sample: a list that comes later needs no image
quarantine/part-00000.parquet   which samples a hash list holds, and which list
index/                          what a later run must know, given to it as `known`
captions/part-00000.parquet     with `recaption`: uid, original, caption, failure
shards/<source>-00000.tar       what is kept, in the order of the inputs, with its scores

With `known`, all that it holds comes first (`arm.data.taking_over`): part-00001 and the next shards are this run's.

samples_read = samples_kept + dropped/small + dropped/near_duplicate + dropped/contaminated + ...
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.config import CurateConfig
from arm.data.curation_index import read_index
from arm.data.decisions import decide, hash_table, is_compared, showing
from arm.data.hash_lists import HITS, Listed, find_hits, read_lists
from arm.data.measuring import MEASURED, Task, measure_shard, needs_scorer
from arm.data.processes import map_processes
from arm.data.recaptioning import CAPTIONS, find_endpoint, recaption, with_caption
from arm.data.shards import read_shard, shard_paths, write_shard
from arm.data.tables import check_balance, write_table
from arm.data.taking_over import first_shard, new_hits, part_name, same_evaluation, take_over
from arm.errors import ArmError, UserError
from arm.manifest import Manifest, Outcome
from arm.progress import track
from arm.records import Sample, Text
from arm.storage import Folder

SCORES = ("side", "aspect", "entropy", "sharpness", "text_area", "similarity")
HASHES = ("exact", "phash", "near")
Row = dict[str, Any]


def curate_images(
    *,
    output: Folder,
    config: CurateConfig,
    crawled: Manifest | None = None,
    imported: Manifest | None = None,
    scorer: Manifest | None = None,
    evaluation: Manifest | None = None,
    known: Manifest | None = None,
) -> Outcome:
    """Score every sample, drop the unfit, duplicates and what the evaluation holds; publish curated shards."""
    inputs = [manifest for manifest in (crawled, imported) if manifest is not None]
    if not inputs:
        raise UserError("curate-images needs the input crawled or imported: the folder of a finished job.")
    if scorer is None and any(needs_scorer(rule) for rule in config.rules):
        raise UserError(
            "CurateConfig.rules bounds the similarity or a head's score, which needs the input scorer; give it or drop "
            "the bound."
        )
    index, lists = read_index(known), read_lists(config.hash_lists)
    shards = list(chain.from_iterable(shard_paths(manifest) for manifest in inputs))
    weights = scorer.local_folder(config.scorer_path) if scorer else None
    refused = frozenset[str]().union(*(manifest.tombstones for manifest in inputs))
    rows = _measured(shards, "crawl", output, config, weights, refused)
    reference = (
        _measured(shard_paths(evaluation), "evaluation", output, config, None, evaluation.tombstones)
        if evaluation
        else []
    )
    hashes = hash_table(rows)
    hits = find_hits(hashes, lists, config.hash_list_distance)
    unfit, known_hits = _unfit_known(known, evaluation, reference, lists, output, config)
    decide(rows, reference, index, set(hits["uid"].to_pylist()), config, output.scratch("near-duplicates"))
    scores = [*SCORES, *(head.name for head in config.heads)]
    write_table(output, part_name("decisions", known), pa.Table.from_pylist(rows, _decisions(config)))
    write_table(output, part_name("hashes", known), hashes)
    write_table(output, part_name("quarantine", known), pa.concat_tables([hits, known_hits]))
    index.write(output, [_remembered(row, config) for row in rows if row["reason"] is None])
    captions, counts = _recaptioned(shards, rows, output, config, part_name("captions", known))
    if known:
        counts |= take_over(known, output, unfit)
    _publish(shards, rows, scores, captions, output, config, known)
    counts = _counts(rows) | counts
    check_balance(counts, "samples_read", "samples_kept")
    return Outcome(counts=counts)


def _decisions(config: CurateConfig) -> pa.Schema:
    """Columns of the decision table: a score for each head among them."""
    fields = [MEASURED.field(name) for name in ("uid", "source", *SCORES)]
    fields += [pa.field(head.name, pa.float32()) for head in config.heads]
    fields += [MEASURED.field(name) for name in HASHES]
    return pa.schema([*fields, ("reason", pa.string()), ("duplicate_of", pa.string())])


def _measured(
    shards: list[Path], name: str, output: Folder, config: CurateConfig, weights: Path | None, refused: frozenset[str]
) -> list[Row]:
    """One row per sample, in the order of the shards; tables of an interrupted run are used again."""
    scratch = output.scratch(f"measured-{name}")
    tasks = [
        Task(shard, scratch / f"{index:05d}.parquet", config.rules, weights, config.scorer_batch, config.heads, refused)
        for index, shard in enumerate(shards)
    ]
    tables = map_processes(measure_shard, tasks, config.workers, f"measure {name}")
    return [row | {"shard": index} for index, table in enumerate(tables) for row in pq.read_table(table).to_pylist()]


def _unfit_known(
    known: Manifest | None,
    evaluation: Manifest | None,
    reference: list[Row],
    lists: list[Listed],
    output: Folder,
    config: CurateConfig,
) -> tuple[dict[str, str], pa.Table]:
    """What of the crawls before does not come along, uid -> reason, and what the lists of this run hold of it anew."""
    if known is None:
        return {}, HITS.empty_table()
    hits = new_hits(known, lists, config.hash_list_distance)
    unfit = dict.fromkeys(hits["uid"].to_pylist(), "hash_list") | dict.fromkeys(known.tombstones, "tombstone")
    if reference and not same_evaluation(known, evaluation, config) and known.select("shards/", ".tar"):
        rows = _measured(shard_paths(known), "known", output, config, None, frozenset(unfit))
        unfit |= {rows[place]["uid"]: "contaminated" for place in showing(rows, reference, config)}
    return unfit, hits


def _remembered(row: Row, config: CurateConfig) -> Row:
    """A kept row as the index has it."""
    compared = is_compared(row, config)
    near, thumbnail = (row["near"][0], row["thumbnails"][0]) if compared else (None, None)
    return {"uid": row["uid"], "content": row["content"], "near": near, "thumbnail": thumbnail}


def _recaptioned(
    shards: list[Path], rows: list[Row], output: Folder, config: CurateConfig, name: str
) -> tuple[dict[str, str], dict[str, int]]:
    """New captions by uid, with the counts of those that were found and of those that failed."""
    if config.recaption is None:
        return {}, {}
    cache = Path(config.recaption.cache or output.scratch("recaption") / "captions.sqlite")
    reasons, numbers = [row["reason"] for row in rows], count()
    kept = (s for shard in shards for s in read_shard(shard) if reasons[next(numbers)] is None)
    found = list(track(recaption(kept, find_endpoint(), config.recaption, cache), "recaption"))
    write_table(output, name, pa.Table.from_pylist(found, CAPTIONS))
    failures = Counter(row["failure"] for row in found if row["failure"])
    if failures.total() > config.recaption.max_failed_share * len(found):
        raise ArmError(
            f"{failures.total()} of {len(found)} images got no caption ({dict(failures)}), more than max_failed_share "
            f"{config.recaption.max_failed_share}; check the endpoint and run the same command again."
        )
    counts = {"recaptioned": len(found) - failures.total()}
    counts |= {f"recaption_failed/{reason}": number for reason, number in sorted(failures.items())}
    return {row["uid"]: row["caption"] for row in found if row["caption"]}, counts


def _publish(
    shards: list[Path],
    rows: list[Row],
    scores: list[str],
    captions: dict[str, str],
    output: Folder,
    config: CurateConfig,
    known: Manifest | None,
) -> None:
    """Reshard what is kept: all shards of one name (`crawl-00000.tar`, `crawl-00001.tar`) become one stream, cut anew."""
    groups: dict[str, list[int]] = {}
    for index, shard in enumerate(shards):
        groups.setdefault(shard.stem.rpartition("-")[0] or shard.stem, []).append(index)
    of_shard: dict[int, list[Row]] = {}
    for row in rows:
        of_shard.setdefault(row["shard"], []).append(row)
    for name, indices in track(sorted(groups.items()), "publish shards", total=len(groups)):
        kept = chain.from_iterable(_kept(shards[index], of_shard.get(index, []), scores, captions) for index in indices)
        for number, samples in enumerate(_chunks(kept, config), first_shard(name, known)):
            with output.publish(f"shards/{name}-{number:05d}.tar") as path:
                write_shard(path, samples)


def _kept(shard: Path, rows: list[Row], scores: list[str], captions: dict[str, str]) -> Iterator[Sample]:
    for sample, row in zip(read_shard(shard), rows, strict=True):
        if row["reason"] is None:
            found = {name: row[name] for name in scores if row[name] is not None}
            if sample.uid in captions:
                sample = with_caption(sample, captions[sample.uid])
            yield replace(sample, scores=sample.scores | found)


def _chunks(samples: Iterator[Sample], config: CurateConfig) -> Iterator[Iterator[Sample]]:
    """Cut where a shard has its number of samples or bytes, whichever comes first."""

    def one(sample: Sample) -> Iterator[Sample]:
        yield sample
        number, size = 1, _bytes_of(sample)
        while number < config.samples_per_shard and size < config.shard_bytes:
            following = next(samples, None)
            if following is None:
                return
            yield following
            number, size = number + 1, size + _bytes_of(following)

    for first in samples:
        yield one(first)


def _bytes_of(sample: Sample) -> int:
    return sum(len(part.text.encode() if isinstance(part, Text) else part.data) for part in sample.parts)


def _counts(rows: list[Row]) -> dict[str, int]:
    reasons = Counter(row["reason"] for row in rows if row["reason"] is not None)
    kept = Counter(row["source"] for row in rows if row["reason"] is None)
    counts = {"samples_read": len(rows), "samples_kept": sum(kept.values())}
    counts |= {f"dropped/{reason}": count for reason, count in sorted(reasons.items())}
    return counts | {f"kept/{source}": count for source, count in sorted(kept.items())}
