"""One decode per image: scores and fingerprints of the samples of a shard, as a table of a row per sample.

    uid, source, content, side, aspect, entropy, sharpness, text_area, similarity, bad_image,
    images [exact, phash, near, thumbnails] and what hash lists are compared with: url, md5, sha256, pdq
    and a column for each head; with `embeds`, the image's embedding as a direction (`arm.data.clusters`)

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

from arm.data import pdq
from arm.data.clusters import quantise
from arm.data.config import HeadConfig, SourceRule
from arm.data.deduplication import GREY_WEIGHTS, fingerprint_images
from arm.data.hash_lists import url_digest
from arm.data.heads import Head, load_head
from arm.data.images import BadImageError, decode_image
from arm.data.scores import Scorer, measure_grey
from arm.data.shards import read_shard
from arm.records import Image, Sample, Text

MEASURED = pa.schema(
    [
        ("uid", pa.string()), ("source", pa.string()), ("content", pa.binary(16)), ("side", pa.int32()),
        ("aspect", pa.float32()), ("entropy", pa.float32()), ("sharpness", pa.float32()), ("text_area", pa.float32()),
        ("similarity", pa.float32()), ("exact", pa.list_(pa.binary(16))), ("phash", pa.list_(pa.uint64())),
        ("near", pa.list_(pa.binary(32))), ("thumbnails", pa.list_(pa.binary())), ("bad_image", pa.string()),
        ("url", pa.binary()), ("md5", pa.list_(pa.binary())), ("sha256", pa.list_(pa.binary())),
        ("original_md5", pa.binary()), ("original_sha256", pa.binary()), ("pdq", pa.list_(pa.binary())),
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
    heads: tuple[HeadConfig, ...] = ()
    refused: frozenset[str] = frozenset()
    """Uids that were taken down: nothing of them is decoded."""
    embeds: bool = False
    """Whether the scorer's embeddings of what is compared with others are wanted, too."""

    @property
    def columns(self) -> pa.Schema:
        """The columns of its table: MEASURED, a score for each head, and an embedding where it is wanted."""
        embedding = [("embedding", pa.binary())] if self.embeds else []
        return pa.schema([*MEASURED, *((head.name, pa.float32()) for head in self.heads), *embedding])


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
    pq.write_table(pa.Table.from_pylist(rows, task.columns), partial)
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
        rows.append({"uid": sample.uid, "source": sample.source, "bad_image": reason} | _file_hashes(sample))
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


def _file_hashes(sample: Sample) -> Row:
    """What is known of the files alone: it stays known of images that cannot be decoded."""
    files = [part.data for part in sample.parts if isinstance(part, Image)]
    url = sample.meta.get("url")
    return {
        "url": url_digest(url) if isinstance(url, str) else None,
        "md5": [hashlib.md5(data, usedforsecurity=False).digest() for data in files],
        "sha256": [hashlib.sha256(data).digest() for data in files],
        "original_md5": _told(sample, "md5", 16), "original_sha256": _told(sample, "sha256", 32),
    }  # fmt: skip


def _told(sample: Sample, name: str, length: int) -> bytes | None:
    """A hash that the download wrote down of the file as it was found; None where there is none."""
    told = sample.meta.get(name)
    try:
        digest = bytes.fromhex(told) if isinstance(told, str) else b""
    except ValueError:
        return None
    return digest if len(digest) == length else None


def _measure_all(images: list[Pixels]) -> Iterator[Row]:
    """What is known of each image, in order."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for index, pixels in enumerate(images):
        sizes.setdefault(pixels.shape, []).append(index)
    found: list[Row] = [{}] * len(images)
    for (height, width, _), indices in sizes.items():
        pixels_BHWC = np.stack([images[index] for index in indices])
        grey_BHW = np.tensordot(pixels_BHWC.astype(np.float32), GREY_WEIGHTS, axes=(3, 0))
        prints, measures = fingerprint_images(pixels_BHWC), measure_grey(grey_BHW)
        listed, near = (pdq.to_bytes(hashed(grey_BHW)) for hashed in (pdq.hash_grey, pdq.hash_averaged))
        for place, index in enumerate(indices):
            found[index] = {
                "exact": prints.exact[place].tobytes(), "phash": int(prints.phash[place]), "pdq": listed[place],
                "near": near[place], "thumbnail": prints.thumbnail[place].tobytes(), "side": min(height, width),
                "aspect": _rounded(max(height, width) / min(height, width)),
                "entropy": _rounded(measures.entropy[place]), "sharpness": _rounded(measures.sharpness[place]),
                "text_area": _rounded(measures.text_area[place]),
            }  # fmt: skip
    return iter(found)


def _rounded(value: Any) -> float:
    return round(float(value), SCORE_DIGITS)


def _describe(row: Row, sample: Sample, images: list[Row]) -> None:
    """Fill a sample's row from what is known of its images."""
    if row["bad_image"]:
        return
    row["content"] = _content(sample, iter(image["exact"] for image in images))
    for name in ("exact", "phash", "pdq", "near"):
        row[name] = [image[name] for image in images]
    row["thumbnails"] = [image["thumbnail"] for image in images]
    if images:
        row["side"] = _original_side(sample) or min(image["side"] for image in images)
        for name, worst in (("aspect", max), ("text_area", max), ("entropy", min), ("sharpness", min)):
            row[name] = worst(image[name] for image in images)


def _score(samples: list[Sample], rows: list[Row], decoded: list[list[Pixels]], task: Task, scorer: Path) -> None:
    """Give samples whose source bounds it their similarity, and what the heads say of their worst image; embeddings to
    those that are compared with others by them."""
    rules = [rule_of(sample.source, task.rules) for sample in samples]
    embedded = [
        task.embeds and rule.near_duplicates and len(images) == 1 for rule, images in zip(rules, decoded, strict=True)
    ]
    wanted = [
        index
        for index, (sample, rule) in enumerate(zip(samples, rules, strict=True))
        if embedded[index] or (needs_scorer(rule) and decoded[index] and (_caption(sample) or rule.scores))
    ]
    if not wanted:
        return
    owners = [index for index in wanted for _ in decoded[index]]
    images = [pixels for index in wanted for pixels in decoded[index]]
    cosines, embeddings = _scorer(scorer, task.scorer_batch)(images, [_caption(samples[index]) for index in owners])
    for index, cosine in zip(owners, cosines.tolist(), strict=True):
        if _caption(samples[index]):
            rows[index]["similarity"] = round(cosine, SCORE_DIGITS)
    for index, vector in zip(owners, embeddings, strict=True):
        if embedded[index]:
            rows[index]["embedding"] = quantise(vector[None])[0].tobytes()
    for head in task.heads:
        worst = max if is_bounded_above(head.name, task.rules) else min
        for index, value in zip(owners, _head(head)(embeddings).tolist(), strict=True):
            value = round(value, SCORE_DIGITS)
            rows[index][head.name] = worst(rows[index].get(head.name, value), value)


def needs_scorer(rule: SourceRule) -> bool:
    """Whether a rule bounds what only the scorer can say."""
    return rule.min_similarity is not None or bool(rule.scores)


def is_bounded_above(score: str, rules: tuple[SourceRule, ...]) -> bool:
    """Whether a large value of a head's score is the bad one."""
    return any(bound.score == score and bound.maximum is not None for rule in rules for bound in rule.scores)


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
def _scorer(path: Path, batch: int) -> Scorer:
    return Scorer(path, batch)


@lru_cache(maxsize=64)
def _head(config: HeadConfig) -> Head:
    return load_head(config)
