"""One decode per image: scores and fingerprints of the samples of a shard, as a table of a row per sample.

    uid, source, content, side, aspect, entropy, sharpness, similarity, exact [16 bytes each], phash, thumbnails

Of several images the worst value counts: the smallest side, the largest aspect.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from arm.data.config import SourceRule
from arm.data.deduplication import fingerprint
from arm.data.scores import SimilarityScorer, measure
from arm.data.shards import decode_image, read_shard
from arm.records import Image, Sample, Text

MEASURED = pa.schema(
    [
        ("uid", pa.string()), ("source", pa.string()), ("content", pa.binary(16)), ("side", pa.int32()),
        ("aspect", pa.float32()), ("entropy", pa.float32()), ("sharpness", pa.float32()),
        ("similarity", pa.float32()), ("exact", pa.list_(pa.binary(16))), ("phash", pa.list_(pa.uint64())),
        ("thumbnails", pa.list_(pa.binary())), ("undecodable", pa.bool_()),
    ]
)  # fmt: skip
SCORE_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Task:
    """One shard to measure."""

    shard: Path
    target: Path
    """Where its table goes."""
    rules: tuple[SourceRule, ...]
    scorer: Path | None
    scorer_batch: int


def rule_of(source: str, rules: tuple[SourceRule, ...]) -> SourceRule:
    """The first rule that fits a source."""
    return next(rule for rule in rules if rule.source in (source, "*"))


def measure_shard(task: Task) -> Path:
    """Measure the samples of a shard; a table that is there already is kept."""
    if task.target.exists():
        return task.target
    rows: list[dict[str, Any]] = []
    wanted, images, captions = list[int](), list[NDArray[np.uint8]](), list[str]()
    for sample in read_shard(task.shard):
        row, decoded = _row(sample)
        caption = _caption(sample)
        if task.scorer and caption and decoded and rule_of(sample.source, task.rules).min_similarity is not None:
            wanted.append(len(rows))
            images.append(decoded[0])
            captions.append(caption)
        rows.append(row)
    if task.scorer and wanted:
        cosines = _scorer(task.scorer, task.scorer_batch)(images, captions)
        for index, cosine in zip(wanted, cosines.tolist(), strict=True):
            rows[index]["similarity"] = round(cosine, SCORE_DIGITS)
    partial = task.target.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(rows, MEASURED), partial)
    partial.replace(task.target)
    return task.target


def _row(sample: Sample) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
    try:
        decoded = [decode_image(part) for part in sample.parts if isinstance(part, Image)]
    except Exception:  # a bad image costs its sample, whatever Pillow raises
        return {"uid": sample.uid, "source": sample.source, "undecodable": True}, []
    prints = [fingerprint(pixels) for pixels in decoded]
    row: dict[str, Any] = {"uid": sample.uid, "source": sample.source, "undecodable": False}
    row["content"] = _content(sample, iter(prints))
    row |= {"exact": [p[0] for p in prints], "phash": [p[1] for p in prints], "thumbnails": [p[2] for p in prints]}
    if decoded:
        measures = [measure(pixels) for pixels in decoded]
        row["side"] = _original_side(sample) or min(m.side for m in measures)
        row["aspect"] = round(max(m.aspect for m in measures), SCORE_DIGITS)
        row["entropy"] = round(min(m.entropy for m in measures), SCORE_DIGITS)
        row["sharpness"] = round(min(m.sharpness for m in measures), SCORE_DIGITS)
    return row, decoded


def _content(sample: Sample, prints: Iterator[tuple[bytes, int, bytes]]) -> bytes:
    """The same for samples of the same task, pixels and texts, whatever their files and names are."""
    parts = [part.text.encode() if isinstance(part, Text) else next(prints)[0] for part in sample.parts]
    sizes = ",".join(str(len(part)) for part in parts)
    return hashlib.sha256(f"{sample.task}:{sizes}:".encode() + b"".join(parts)).digest()[:16]


def _original_side(sample: Sample) -> int | None:
    """The shorter side of the image as it was found, before the download made it smaller."""
    sides = (sample.meta.get("original_height"), sample.meta.get("original_width"))
    return min(int(side) for side in sides if side) if all(sides) else None


def _caption(sample: Sample) -> str:
    """The caption of a captioned image: a sample of one image and one text."""
    kinds = [type(part) for part in sample.parts]
    text = sample.parts[-1] if kinds == [Image, Text] else None
    return text.text if isinstance(text, Text) else ""


@lru_cache(maxsize=1)
def _scorer(path: Path, batch: int) -> SimilarityScorer:
    return SimilarityScorer(path, batch)
