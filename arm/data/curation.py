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

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import CurateConfig
from arm.data.curation_index import KEPT, read_index
from arm.data.decisions import HASHED, Decisions, decide, hash_table, reference_of, showing
from arm.data.deduplication import Fingerprints
from arm.data.hash_lists import HASHES, HITS, Listed, concat_hits, hits_by_list, read_lists
from arm.data.looks import Mask, is_compared
from arm.data.measured import Measured, open_measured
from arm.data.measuring import MEASURED, Task, measure_shard, needs_scorer
from arm.data.processes import map_processes
from arm.data.recaptioning import CAPTIONS, find_endpoint, recaption, with_caption
from arm.data.shards import read_shard, shard_paths, write_shard
from arm.data.tables import LARGE_GROUP_ROWS, check_balance, in_groups, write_table, write_tables
from arm.data.taking_over import first_shard, new_hits, part_name, same_evaluation, take_over
from arm.errors import ArmError, UserError
from arm.manifest import Manifest, Outcome
from arm.progress import track
from arm.records import Sample, Text
from arm.storage import Folder

SCORES = ("side", "aspect", "entropy", "sharpness", "text_area", "similarity")
HASH_COLUMNS = ("exact", "phash", "near")


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
    if scorer is None and config.semantic is not None:
        raise UserError(
            "CurateConfig.semantic compares embeddings, which needs the input scorer; give it, or set None."
        )
    index, lists = read_index(known), read_lists(config.hash_lists)
    shards = list(chain.from_iterable(shard_paths(manifest) for manifest in inputs))
    weights = scorer.local_folder(config.scorer_path) if scorer else None
    refused = frozenset[str]().union(*(manifest.tombstones for manifest in inputs))
    measured = _measured(shards, "crawl", output, config, weights, refused)
    reference = _reference(evaluation, output, config)
    unfit, known_hits = _unfit_known(known, evaluation, reference, lists, output, config)
    hits = _write_hashes(measured, lists, output, config, part_name("hashes", known))
    decisions = decide(
        measured, reference, index, set(hits["uid"].to_pylist()), config, output.scratch("near-duplicates")
    )
    kept = _write_decisions(measured, decisions, output, config, part_name("decisions", known))
    write_table(output, part_name("quarantine", known), pa.concat_tables([hits, known_hits]))
    index.write(output, _remembered(measured, decisions, config))
    captions, counts = _recaptioned(shards, decisions, output, config, part_name("captions", known))
    if known:
        counts |= take_over(known, output, unfit)
    _publish(shards, measured, decisions, captions, output, config, known)
    counts = _counts(decisions, kept) | counts
    check_balance(counts, "samples_read", "samples_kept")
    return Outcome(counts=counts)


def _measured(
    shards: list[Path], name: str, output: Folder, config: CurateConfig, weights: Path | None, refused: frozenset[str]
) -> Measured:
    """One row per sample, in the order of the shards; tables of an interrupted run are used again."""
    scratch = output.scratch(f"measured-{name}")
    tasks = [
        Task(
            shard, scratch / f"{index:05d}.parquet", config.rules, weights, config.scorer_batch, config.heads, refused,
            embeds=config.semantic is not None and weights is not None,
        )
        for index, shard in enumerate(shards)
    ]  # fmt: skip
    return open_measured(list(map_processes(measure_shard, tasks, config.workers, f"measure {name}")))


def _reference(evaluation: Manifest | None, output: Folder, config: CurateConfig) -> Fingerprints | None:
    if evaluation is None:
        return None
    shards = shard_paths(evaluation)
    return reference_of(_measured(shards, "evaluation", output, config, None, evaluation.tombstones))


def _unfit_known(
    known: Manifest | None,
    evaluation: Manifest | None,
    reference: Fingerprints | None,
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
        measured = _measured(shard_paths(known), "known", output, config, None, frozenset(unfit))
        everybody = np.ones(len(measured), np.bool_)
        rows = np.concatenate([np.empty(0, np.int64), *showing(measured, reference, config, everybody)])
        uids = (uid for _, table in measured.take(rows, "uid") for uid in table["uid"].to_pylist())
        unfit |= dict.fromkeys(uids, "contaminated")
    return unfit, hits


def _write_hashes(measured: Measured, lists: list[Listed], output: Folder, config: CurateConfig, name: str) -> pa.Table:
    """Publish what hash lists are compared with, and compare it: rows of HITS."""
    found = list[list[pa.Table]]()

    def compared() -> Iterator[pa.Table]:
        tables = (hash_table(table.to_pylist()) for _, table in measured.tables(*HASHED))
        for group in in_groups(tables, LARGE_GROUP_ROWS, HASHES):
            found.append(hits_by_list(group, lists, config.hash_list_distance))
            yield group

    write_tables(output, name, HASHES, compared())
    return concat_hits(found)


def _write_decisions(
    measured: Measured, decisions: Decisions, output: Folder, config: CurateConfig, name: str
) -> Counter[str]:
    """Publish the decision table: a score for each head among its columns. How many samples of each source are kept."""
    kept = Counter[str]()
    names = ["uid", "source", *SCORES, *(head.name for head in config.heads), *HASH_COLUMNS]
    fields = [MEASURED.field(name) if name in MEASURED.names else pa.field(name, pa.float32()) for name in names]
    schema = pa.schema([*fields, ("reason", pa.string()), ("duplicate_of", pa.string())])

    def decided() -> Iterator[pa.Table]:
        for part, table in measured.tables(*names):
            kept.update(table["source"].filter(pa.array(decisions.kept(part))).to_pylist())
            columns = [*table.select(names).columns, decisions.reasons(part), decisions.duplicates_of(part)]
            yield pa.Table.from_arrays(columns, schema=schema)

    write_tables(output, name, schema, decided())
    return kept


def _remembered(measured: Measured, decisions: Decisions, config: CurateConfig) -> Iterator[pa.Table]:
    """The kept rows as the index has them: the looks of those that were compared."""
    for part, table in measured.tables("uid", "source", "content", "near", "thumbnails"):
        table = table.filter(pa.array(decisions.kept(part)))
        rows = table.to_pylist()
        for row, compared in zip(rows, is_compared(table, config).tolist(), strict=True):
            row["near"], row["thumbnail"] = (row["near"][0], row["thumbnails"][0]) if compared else (None, None)
        yield pa.Table.from_pylist(rows, KEPT)


def _recaptioned(
    shards: list[Path], decisions: Decisions, output: Folder, config: CurateConfig, name: str
) -> tuple[dict[str, str], dict[str, int]]:
    """New captions by uid, with the counts of those that were found and of those that failed."""
    if config.recaption is None:
        return {}, {}
    cache = Path(config.recaption.cache or output.scratch("recaption") / "captions.sqlite")
    mask, numbers = decisions.kept(), count()
    kept = (s for shard in shards for s in read_shard(shard) if mask[next(numbers)])
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
    measured: Measured,
    decisions: Decisions,
    captions: dict[str, str],
    output: Folder,
    config: CurateConfig,
    known: Manifest | None,
) -> None:
    """Reshard what is kept: all shards of one name (`crawl-00000.tar`, `crawl-00001.tar`) become one stream, cut anew."""
    groups: dict[str, list[int]] = {}
    for index, shard in enumerate(shards):
        groups.setdefault(shard.stem.rpartition("-")[0] or shard.stem, []).append(index)
    scores = [*SCORES, *(head.name for head in config.heads)]
    for name, indices in track(sorted(groups.items()), "publish shards", total=len(groups)):
        tables = ((shards[index], *measured.table(index, *scores)) for index in indices)
        kept = (s for shard, part, found in tables for s in _kept(shard, found, decisions.kept(part), captions))
        for number, samples in enumerate(_chunks(kept, config), first_shard(name, known)):
            with output.publish(f"shards/{name}-{number:05d}.tar") as path:
                write_shard(path, samples)


def _kept(shard: Path, scores: pa.Table, kept: Mask, captions: dict[str, str]) -> Iterator[Sample]:
    for sample, row, is_kept in zip(read_shard(shard), scores.to_pylist(), kept.tolist(), strict=True):
        if is_kept:
            if sample.uid in captions:
                sample = with_caption(sample, captions[sample.uid])
            found = {name: value for name, value in row.items() if value is not None}
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


def _counts(decisions: Decisions, kept: Counter[str]) -> dict[str, int]:
    counts = {"samples_read": len(decisions.codes), "samples_kept": kept.total()}
    counts |= {f"dropped/{reason}": number for reason, number in sorted(decisions.counts().items())}
    return counts | {f"kept/{source}": number for source, number in sorted(kept.items())}
