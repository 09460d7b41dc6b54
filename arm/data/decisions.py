"""What becomes of each sample: kept, or dropped for one reason, the first of these that holds.

hash_list                          an operator's list holds its file, its address or its picture
empty, truncated, damaged, …       its image cannot be read
small, aspect, blank, blurred, text_area, dissimilar, <head>     it breaks a bound of its source's rule
duplicate                          the same pixels and texts, or the same uid, as an earlier sample or an earlier run's
contaminated                       an image of the evaluation sets
popular_hash, near_duplicate       it looks like too many others; it looks like a better one
"""

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from arm.data import pdq
from arm.data.config import CurateConfig, SourceRule
from arm.data.curation_index import Index
from arm.data.deduplication import Fingerprints, contaminated, stack
from arm.data.hash_lists import HASHES
from arm.data.measuring import rule_of
from arm.data.near_duplicates import Bounds, Found, find

Row = dict[str, Any]
Finder = Callable[[pdq.Hashes, Any, Bounds], Found]


def decide(
    rows: list[Row], reference: list[Row], index: Index, listed: Set[str], config: CurateConfig, scratch: Path
) -> None:
    """Give each row its `reason` (None: kept) and `duplicate_of`; `listed` are the uids that a hash list holds."""
    for row in rows:
        row["reason"] = "hash_list" if row["uid"] in listed else _unfit(row, rule_of(row["source"], config.rules))
        row["duplicate_of"] = None
    _drop_copies(rows, index)
    _drop_contaminated(rows, reference, config)
    _drop_near_duplicates(rows, index, config, scratch)


def hash_table(rows: list[Row]) -> pa.Table:
    """Rows of HASHES: one for each image of each sample, one for a sample without."""
    return pa.Table.from_pylist([line for row in rows for line in _hash_lines(row)], HASHES)


def _hash_lines(row: Row) -> list[Row]:
    pictures = row["pdq"] or [None] * len(row["md5"])  # an image that cannot be decoded has none
    common = {name: row[name] for name in ("uid", "source", "url", "original_md5", "original_sha256")}
    files = zip(row["md5"], row["sha256"], pictures, strict=True)
    lines = [
        common | {"image": image, "md5": md5, "sha256": sha256, "pdq": picture}
        for image, (md5, sha256, picture) in enumerate(files)
    ]
    return lines or [common]


def _unfit(row: Row, rule: SourceRule) -> str | None:
    """The first bound of the source's rule that the sample breaks; text alone breaks none."""
    if row["bad_image"]:
        return str(row["bad_image"])
    if row["side"] is None:
        return None
    bounds: tuple[tuple[str, str, float | None, float | None], ...] = (
        ("small", "side", rule.min_side, None), ("aspect", "aspect", None, rule.max_aspect),
        ("blank", "entropy", rule.min_entropy, None), ("blurred", "sharpness", rule.min_sharpness, None),
        ("text_area", "text_area", None, rule.max_text_area), ("dissimilar", "similarity", rule.min_similarity, None),
        *((bound.score, bound.score, bound.minimum, bound.maximum) for bound in rule.scores),
    )  # fmt: skip
    return next((reason for reason, score, low, high in bounds if _is_outside(row[score], low, high)), None)


def _is_outside(value: float | None, low: float | None, high: float | None) -> bool:
    return value is not None and ((low is not None and value < low) or (high is not None and value > high))


def _drop_copies(rows: list[Row], index: Index) -> None:
    """Of samples with the same pixels and texts, or the same uid, the first stays."""
    seen: dict[Any, str] = index.seen()
    for row in rows:
        if row["reason"] is None:
            first = seen.get(row["content"]) or seen.get(row["uid"])
            if first is not None:
                row["reason"], row["duplicate_of"] = "duplicate", first
            else:
                seen[row["content"]] = seen[row["uid"]] = row["uid"]


def _drop_contaminated(rows: list[Row], reference: list[Row], config: CurateConfig) -> None:
    """A sample with any image of the evaluation set must not be trained on."""
    kept = [row for row in rows if row["reason"] is None]
    for place in showing(kept, reference, config):
        kept[place]["reason"] = "contaminated"


def showing(rows: list[Row], reference: list[Row], config: CurateConfig) -> list[int]:
    """Places of the rows with an image of the reference."""
    rows, known = [row | {"phash": row["phash"] or []} for row in rows], [row for row in reference if row["phash"]]
    owners = [place for place, row in enumerate(rows) for _ in row["phash"]]
    if not owners or not known:
        return []
    rows = [row for row in rows if row["phash"]]
    mask = contaminated(_prints(rows), _prints(known), config.evaluation_distance, config.verify_difference)
    return sorted({owners[position] for position in np.flatnonzero(mask).tolist()})


def _prints(rows: list[Row]) -> Fingerprints:
    """The fingerprints of all images of the rows, in order."""
    return stack([item for row in rows for item in zip(row["exact"], row["phash"], row["thumbnails"], strict=True)])


def is_compared(row: Row, config: CurateConfig) -> bool:
    """Whether a kept sample takes part in the search for near duplicates: captioned images whose rule says so."""
    alone = row["reason"] is None and len(row["near"] or ()) == 1
    return alone and rule_of(row["source"], config.rules).near_duplicates


def _drop_near_duplicates(rows: list[Row], index: Index, config: CurateConfig, scratch: Path) -> None:
    """Of images that look alike the best stays: an earlier run's, the largest, the most similar to its caption."""
    rows = [row for row in rows if is_compared(row, config)]
    crowded = index.is_popular(pdq.from_bytes(b"".join(row["near"][0] for row in rows)))
    for row, popular in zip(rows, crowded.tolist(), strict=True):
        row["reason"] = "popular_hash" if popular else None
    rows = [row for row in rows if row["reason"] is None]
    rows.sort(key=lambda row: (-row["side"], -(row["similarity"] or 0), row["uid"]))
    owners = [*index.compared["uid"].to_pylist(), *(row["uid"] for row in rows)]
    near = b"".join([*index.compared["near"].to_pylist(), *(row["near"][0] for row in rows)])
    small = b"".join([*index.compared["thumbnail"].to_pylist(), *(row["thumbnails"][0] for row in rows)])
    if not rows:
        return
    hashes, thumbnails = pdq.from_bytes(near), np.frombuffer(small, np.uint8).reshape(len(owners), -1)
    bounds = Bounds(distance=config.near_distance, difference=config.verify_difference, max_bucket=config.max_bucket)
    found = _find(hashes, thumbnails, bounds, config, scratch)
    index.note_popular(hashes[found.popular], config.max_bucket)
    start = len(owners) - len(rows)  # what earlier runs kept stays, whatever it looks like
    for place in found.popular[found.popular >= start].tolist():
        rows[place - start]["reason"] = "popular_hash"
    for place, kept in found.duplicates[found.duplicates[:, 0] >= start].tolist():
        rows[place - start]["reason"], rows[place - start]["duplicate_of"] = "near_duplicate", owners[kept]


def _find(hashes: pdq.Hashes, thumbnails: Any, bounds: Bounds, config: CurateConfig, scratch: Path) -> Found:
    """In this process or on Spark: the same result."""
    if len(hashes) <= config.spark_above:
        return find(hashes, thumbnails, bounds)
    from arm.data.near_duplicates_spark import find_on_spark, write_rows
    from arm.data.spark import spark_session

    folder = scratch / "rows"
    folder.mkdir(exist_ok=True)
    for number, places in enumerate(np.array_split(np.arange(len(hashes)), config.spark.shuffle_partitions)):
        if len(places):
            write_rows(folder / f"{number:05d}.parquet", int(places[0]), hashes[places], thumbnails[places])
    with spark_session(config.spark, scratch) as spark:
        return find_on_spark(spark, str(folder), bounds)
