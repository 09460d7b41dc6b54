"""curate-images: every image decoded once, a decision for every sample, one reshard at the end.

decisions/part-00000.parquet    uid, source, scores, hashes, reason (null: kept), duplicate_of: one row per sample
shards/<source>-00000.tar       what is kept, in the order of the inputs, with its scores

samples_read = samples_kept + dropped/small + dropped/near_duplicate + dropped/contaminated + ...
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.config import CurateConfig
from arm.data.deduplication import Fingerprints, contaminated, stack, superfluous
from arm.data.measuring import MEASURED, Task, measure_shard, rule_of
from arm.data.processes import map_processes
from arm.data.shards import read_shard, shard_paths, write_shard
from arm.data.tables import check_balance, write_table
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.progress import track
from arm.records import Sample
from arm.storage import Folder

SCORES = ("side", "aspect", "entropy", "sharpness", "similarity")
DECISIONS = pa.schema(
    [
        *(MEASURED.field(name) for name in ("uid", "source", *SCORES, "exact", "phash")),
        ("reason", pa.string()), ("duplicate_of", pa.string()),
    ]
)  # fmt: skip
Row = dict[str, Any]


def curate_images(
    *,
    output: Folder,
    config: CurateConfig,
    crawled: Manifest | None = None,
    imported: Manifest | None = None,
    scorer: Manifest | None = None,
    evaluation: Manifest | None = None,
) -> Outcome:
    """Score every sample, drop the unfit, duplicates and what the evaluation holds; publish curated shards."""
    inputs = [manifest for manifest in (crawled, imported) if manifest is not None]
    if not inputs:
        raise UserError("curate-images needs the input crawled or imported: the folder of a finished job.")
    if scorer is None and any(rule.min_similarity is not None for rule in config.rules):
        raise UserError(
            "CurateConfig.rules bounds the similarity, which needs the input scorer; give it or drop the bound."
        )
    shards = list(chain.from_iterable(shard_paths(manifest) for manifest in inputs))
    weights = scorer.local_folder(config.scorer_path) if scorer else None
    refused = frozenset[str]().union(*(manifest.tombstones for manifest in inputs))
    rows = _measured(shards, "crawl", output, config, weights, refused)
    reference = (
        _measured(shard_paths(evaluation), "evaluation", output, config, None, evaluation.tombstones)
        if evaluation
        else []
    )
    decide(rows, reference, config)
    write_table(output, "decisions/part-00000.parquet", pa.Table.from_pylist(rows, DECISIONS))
    _publish(shards, rows, output, config)
    counts = _counts(rows)
    check_balance(counts, "samples_read", "samples_kept")
    return Outcome(counts=counts)


def decide(rows: list[Row], reference: list[Row], config: CurateConfig) -> None:
    """Give each row its `reason` (None: kept) and `duplicate_of`: rules, copies, contamination, near duplicates."""
    for row in rows:
        row["reason"], row["duplicate_of"] = _unfit(row, config), None
    _drop_copies(rows)
    _drop_contaminated(rows, reference, config)
    _drop_near_duplicates(rows, config)


def _measured(
    shards: list[Path], name: str, output: Folder, config: CurateConfig, weights: Path | None, refused: frozenset[str]
) -> list[Row]:
    """One row per sample, in the order of the shards; tables of an interrupted run are used again."""
    scratch = output.scratch(f"measured-{name}")
    tasks = [
        Task(shard, scratch / f"{index:05d}.parquet", config.rules, weights, config.scorer_batch, refused)
        for index, shard in enumerate(shards)
    ]
    tables = map_processes(measure_shard, tasks, config.workers, f"measure {name}")
    return [row | {"shard": index} for index, table in enumerate(tables) for row in pq.read_table(table).to_pylist()]


def _unfit(row: Row, config: CurateConfig) -> str | None:
    """The first bound of the source's rule that the sample breaks; text alone breaks none."""
    rule = rule_of(row["source"], config.rules)
    if row["bad_image"]:
        return str(row["bad_image"])
    if row["side"] is None:
        return None
    bounds: tuple[tuple[str, bool], ...] = (
        ("small", rule.min_side is not None and row["side"] < rule.min_side),
        ("aspect", rule.max_aspect is not None and row["aspect"] > rule.max_aspect),
        ("blank", rule.min_entropy is not None and row["entropy"] < rule.min_entropy),
        ("blurred", rule.min_sharpness is not None and row["sharpness"] < rule.min_sharpness),
        ("dissimilar", _is_below(row["similarity"], rule.min_similarity)),
    )
    return next((reason for reason, broken in bounds if broken), None)


def _is_below(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value < bound


def _drop_copies(rows: list[Row]) -> None:
    """Of samples with the same pixels and texts, or the same uid, the first stays."""
    seen: dict[Any, str] = {}
    for row in rows:
        if row["reason"] is None:
            first = seen.get(row["content"]) or seen.get(row["uid"])
            if first is not None:
                row["reason"], row["duplicate_of"] = "duplicate", first
            else:
                seen[row["content"]] = seen[row["uid"]] = row["uid"]


def _drop_contaminated(rows: list[Row], reference: list[Row], config: CurateConfig) -> None:
    """A sample with any image of the evaluation set must not be trained on."""
    kept = [row for row in rows if row["reason"] is None and row["phash"]]
    known = [row for row in reference if row["phash"]]
    if not kept or not known:
        return
    owners = [index for index, row in enumerate(kept) for _ in row["phash"]]
    mask = contaminated(_prints(kept), _prints(known), config.evaluation_distance, config.verify_difference)
    for position in np.flatnonzero(mask).tolist():
        kept[owners[position]]["reason"] = "contaminated"


def _drop_near_duplicates(rows: list[Row], config: CurateConfig) -> None:
    """Of captioned images that look alike the best stays: the largest, then the most similar to its caption."""
    rows = [row for row in rows if row["reason"] is None and len(row["phash"] or ()) == 1]
    rows = [row for row in rows if rule_of(row["source"], config.rules).near_duplicates]
    if not rows:
        return
    order = sorted(range(len(rows)), key=lambda i: (-rows[i]["side"], -(rows[i]["similarity"] or 0), rows[i]["uid"]))
    ranks = np.empty(len(rows), np.int64)
    ranks[order] = np.arange(len(rows))
    dropped = superfluous(_prints(rows), ranks, config.near_distance, config.verify_difference)
    for index, kept in dropped.items():
        rows[index]["reason"], rows[index]["duplicate_of"] = "near_duplicate", rows[kept]["uid"]


def _prints(rows: list[Row]) -> Fingerprints:
    """The fingerprints of all images of the rows, in order."""
    return stack([item for row in rows for item in zip(row["exact"], row["phash"], row["thumbnails"], strict=True)])


def _publish(shards: list[Path], rows: list[Row], output: Folder, config: CurateConfig) -> None:
    """Reshard what is kept: all shards of one name (`crawl-00000.tar`, `crawl-00001.tar`) become one stream, cut anew."""
    groups: dict[str, list[int]] = {}
    for index, shard in enumerate(shards):
        groups.setdefault(shard.stem.rpartition("-")[0] or shard.stem, []).append(index)
    of_shard: dict[int, list[Row]] = {}
    for row in rows:
        of_shard.setdefault(row["shard"], []).append(row)
    for name, indices in track(sorted(groups.items()), "publish shards", total=len(groups)):
        kept = chain.from_iterable(_kept(shards[index], of_shard.get(index, [])) for index in indices)
        for number, samples in enumerate(_chunks(kept, config.samples_per_shard)):
            with output.publish(f"shards/{name}-{number:05d}.tar") as path:
                write_shard(path, samples)


def _kept(shard: Path, rows: list[Row]) -> Iterator[Sample]:
    for sample, row in zip(read_shard(shard), rows, strict=True):
        if row["reason"] is None:
            scores = {name: row[name] for name in SCORES if row[name] is not None}
            yield replace(sample, scores=sample.scores | scores)


def _chunks(samples: Iterator[Sample], size: int) -> Iterator[Iterator[Sample]]:
    for first in samples:
        yield chain([first], islice(samples, size - 1))


def _counts(rows: list[Row]) -> dict[str, int]:
    reasons = Counter(row["reason"] for row in rows if row["reason"] is not None)
    kept = Counter(row["source"] for row in rows if row["reason"] is None)
    counts = {"samples_read": len(rows), "samples_kept": sum(kept.values())}
    counts |= {f"dropped/{reason}": count for reason, count in sorted(reasons.items())}
    return counts | {f"kept/{source}": count for source, count in sorted(kept.items())}
