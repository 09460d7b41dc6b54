"""One decode per image: scores and fingerprints of the samples of a shard, as a table of a row per sample.

    uid, source, content, side, aspect, entropy, sharpness, similarity, exact [16 bytes each], phash, thumbnails

Of several images the worst value counts: the smallest side, the largest aspect.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from arm.data.config import SourceRule
from arm.data.deduplication import fingerprint_images
from arm.data.images import BadImageError, decode_image
from arm.data.scores import SimilarityScorer, measure_images
from arm.data.shards import read_shard
from arm.records import Image, Sample, Text

MEASURED = pa.schema(
    [
        ("uid", pa.string()), ("source", pa.string()), ("content", pa.binary(16)), ("side", pa.int32()),
        ("aspect", pa.float32()), ("entropy", pa.float32()), ("sharpness", pa.float32()),
        ("similarity", pa.float32()), ("exact", pa.list_(pa.binary(16))), ("phash", pa.list_(pa.uint64())),
        ("thumbnails", pa.list_(pa.binary())), ("bad_image", pa.string()),
    ]
)  # fmt: skip
SCORE_DIGITS = 4
BLOCK_PIXELS = 1 << 22
"""Decoded at once: 4 megapixels, 12 MB as bytes and ten times that while measured."""
Row = dict[str, Any]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Task:
    """One shard to measure."""

    shard: Path
    target: Path
    """Where its table goes."""
    rules: tuple[SourceRule, ...]
    scorer: Path | None
    scorer_batch: int
    refused: frozenset[str] = frozenset()
    """Uids that were taken down: nothing of them is decoded."""


def rule_of(source: str, rules: tuple[SourceRule, ...]) -> SourceRule:
    """The first rule that fits a source."""
    return next(rule for rule in rules if rule.source in (source, "*"))


def measure_shard(task: Task) -> Path:
    """Measure the samples of a shard; a table that is there already is kept."""
    if task.target.exists():
        return task.target
    rows: list[Row] = []
    samples = read_shard(task.shard)
    while block := list(_block(samples)):
        rows += _measured(block, task)
    partial = task.target.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(rows, MEASURED), partial)
    partial.replace(task.target)
    return task.target


def _block(samples: Iterator[Sample]) -> Iterator[Sample]:
    """The next samples, as many as fit the memory decoded."""
    pixels = 0
    for sample in samples:
        yield sample
        pixels += sum(part.height * part.width for part in sample.parts if isinstance(part, Image))
        if pixels > BLOCK_PIXELS:
            return


def _measured(samples: list[Sample], task: Task) -> list[Row]:
    """One row per sample; images of one size are measured together."""
    rows, decoded = list[Row](), list[list[Pixels]]()
    for sample in samples:
        pixels, reason = ([], "tombstone") if sample.uid in task.refused else _decoded(sample)
        rows.append({"uid": sample.uid, "source": sample.source, "bad_image": reason})
        decoded.append(pixels)
    found = _measure_all([pixels for images in decoded for pixels in images])
    for sample, row, images in zip(samples, rows, decoded, strict=True):
        _describe(row, sample, list(islice(found, len(images))))
    if task.scorer:
        _score(samples, rows, decoded, task, task.scorer)
    return rows


def _decoded(sample: Sample) -> tuple[list[Pixels], str | None]:
    """The pixels of every image, or why one of them is bad: it costs its sample."""
    try:
        return [decode_image(part) for part in sample.parts if isinstance(part, Image)], None
    except BadImageError as error:
        return [], error.reason


def _measure_all(images: list[Pixels]) -> Iterator[Row]:
    """What is known of each image, in order."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for index, pixels in enumerate(images):
        sizes.setdefault(pixels.shape, []).append(index)
    found: list[Row] = [{}] * len(images)
    for (height, width, _), indices in sizes.items():
        pixels_BHWC = np.stack([images[index] for index in indices])
        prints, measures = fingerprint_images(pixels_BHWC), measure_images(pixels_BHWC)
        columns = (prints.exact.tolist(), prints.phash.tolist(), prints.thumbnail, measures.entropy, measures.sharpness)
        for index, exact, phash, thumbnail, entropy, sharpness in zip(indices, *columns, strict=True):
            found[index] = {
                "exact": exact, "phash": phash, "thumbnail": thumbnail.tobytes(), "side": min(height, width),
                "aspect": round(max(height, width) / min(height, width), SCORE_DIGITS),
                "entropy": round(float(entropy), SCORE_DIGITS), "sharpness": round(float(sharpness), SCORE_DIGITS),
            }  # fmt: skip
    return iter(found)


def _describe(row: Row, sample: Sample, images: list[Row]) -> None:
    """Fill a sample's row from what is known of its images."""
    if row["bad_image"]:
        return
    row["content"] = _content(sample, iter(image["exact"] for image in images))
    row["exact"], row["phash"] = [image["exact"] for image in images], [image["phash"] for image in images]
    row["thumbnails"] = [image["thumbnail"] for image in images]
    if images:
        row["side"] = _original_side(sample) or min(image["side"] for image in images)
        row["aspect"] = max(image["aspect"] for image in images)
        row["entropy"] = min(image["entropy"] for image in images)
        row["sharpness"] = min(image["sharpness"] for image in images)


def _score(samples: list[Sample], rows: list[Row], decoded: list[list[Pixels]], task: Task, scorer: Path) -> None:
    """Give captioned images whose source bounds it their similarity."""
    wanted = [
        index
        for index, sample in enumerate(samples)
        if decoded[index] and _caption(sample) and rule_of(sample.source, task.rules).min_similarity is not None
    ]
    if wanted:
        captions = [_caption(samples[index]) for index in wanted]
        cosines = _scorer(scorer, task.scorer_batch)([decoded[index][0] for index in wanted], captions)
        for index, cosine in zip(wanted, cosines.tolist(), strict=True):
            rows[index]["similarity"] = round(cosine, SCORE_DIGITS)


def _content(sample: Sample, exact: Iterator[bytes]) -> bytes:
    """The same for samples of the same task, pixels and texts, whatever their files and names are."""
    parts = [part.text.encode() if isinstance(part, Text) else next(exact) for part in sample.parts]
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
