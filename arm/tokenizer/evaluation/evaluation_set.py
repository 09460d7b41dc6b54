"""The images that evaluate-tokenizer reads, and their batches of one size.

read_samples_of(images, held_out=True)     single images of shards, with caption and meta
read_folder("val")                         val/n01440764/x.JPEG, in ImageNet's layout: `folder` is n01440764
read_photographs("crawl.warc.gz")          images in a folder, in image shards or in WARC files
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from torch import Tensor

from arm.data.images import BadImageError, decode_image, open_image
from arm.data.replay import read_responses
from arm.data.shards import read_samples, read_shard
from arm.errors import UserError
from arm.manifest import Manifest
from arm.model.token_shards import is_held_out
from arm.outside import fetched, outside_addresses
from arm.records import Image, Sample, Text, make_uid
from arm.tokenizer.config import ResolutionConfig
from arm.tokenizer.images import Pixels, fit_pixels, to_images
from arm.tokenizer.resolution import Size, target_size

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One image with what may tell its class."""

    image: Image
    caption: str = ""
    folder: str = ""
    """Name of the folder that it lies in."""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Images of one size."""

    size: Size
    images_BCHW: Tensor
    examples: tuple[Example, ...]
    numbers: tuple[int, ...]
    """Place of each image in its stream: what keys its noise."""


def read_samples_of(manifest: Manifest, *, held_out: bool | None = None) -> Iterator[Example]:
    """The samples of exactly one image: those held out (1% by uid hash), the others, or (None) all."""
    for sample in read_samples(manifest):
        if held_out is None or is_held_out(bytes.fromhex(sample.uid)) == held_out:
            yield from _single(sample)


def read_folder(path: str, counts: Counter[str]) -> Iterator[Example]:
    """The images of a folder in an order that mixes its classes, the same each time; unreadable ones are counted."""
    addresses = {name: address for name, address in outside_addresses(path).items() if _is_image(name)}
    if not addresses:
        raise UserError(f"There is no PNG, JPEG or WebP image in {path!r}.")
    for name in sorted(addresses, key=make_uid):
        data = Path(fetched(addresses[name])).read_bytes()
        yield from _opened(data, counts, folder=PurePosixPath(name).parent.name)


def read_photographs(path: str, counts: Counter[str]) -> Iterator[Example]:
    """The distinct images of a folder, of image shards or of WARC files, in order of their names; all are counted."""
    seen = set[bytes]()
    for name, address in outside_addresses(path).items():
        for data in _photographs(name, Path(fetched(address))):
            counts["photographs_read"] += 1
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                counts["dropped/duplicate"] += 1
                continue
            seen.add(digest)
            yield from _opened(data, counts)


def batches(
    examples: Iterable[Example], resolutions: Sequence[ResolutionConfig], *, patch: int, batch_size: int,
    counts: Counter[str],
) -> Iterator[Batch]:  # fmt: skip
    """Bring every image to each resolution; a batch leaves when it is full, the rest at the end, by size."""
    waiting: dict[Size, list[tuple[int, Example, Pixels]]] = {}
    for number, example in enumerate(examples):
        pixels = _decoded(example, counts)
        if pixels is None:
            continue
        sizes = {target_size(pixels.shape[0], pixels.shape[1], resolution, patch) for resolution in resolutions}
        for size in sorted(sizes):
            rows = waiting.setdefault(size, [])
            rows.append((number, example, fit_pixels(pixels, *size)))
            if len(rows) == batch_size:
                yield _batch(size, waiting.pop(size))
    for size in sorted(waiting):
        yield _batch(size, waiting[size])


def _batch(size: Size, rows: list[tuple[int, Example, Pixels]]) -> Batch:
    numbers, examples, pixels = zip(*rows, strict=True)
    return Batch(size=size, images_BCHW=to_images(np.stack(pixels)), examples=examples, numbers=numbers)


def _decoded(example: Example, counts: Counter[str]) -> Pixels | None:
    try:
        return decode_image(example.image)
    except BadImageError as error:
        counts[f"dropped/{error.reason}"] += 1
        return None


def _single(sample: Sample) -> Iterator[Example]:
    images = [part for part in sample.parts if isinstance(part, Image)]
    captions = [part.text for part in sample.parts if isinstance(part, Text) and part.role == "caption"]
    if len(images) == 1:
        yield Example(image=images[0], caption=captions[0] if captions else "", meta=sample.meta)


def _opened(data: bytes, counts: Counter[str], folder: str = "") -> Iterator[Example]:
    try:
        yield Example(image=open_image(data), folder=folder)
    except BadImageError as error:
        counts[f"dropped/{error.reason}"] += 1


def _photographs(name: str, path: Path) -> Iterator[bytes]:
    """The encoded images of one file; of a file of another kind nothing."""
    if _is_image(name):
        yield path.read_bytes()
    elif name.endswith(".tar"):
        samples = read_shard(path)
        yield from (part.data for sample in samples for part in sample.parts if isinstance(part, Image))
    elif name.endswith((".warc", ".warc.gz")):
        responses = [response for _, response in sorted(read_responses([path]).items())]
        for response in {id(response): response for response in responses}.values():  # known by several names
            kinds = [value for key, value in response.headers if key.lower() == "content-type"]
            if response.status == 200 and kinds and kinds[0].startswith("image/"):
                yield response.body


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)
