"""Image shards read and decoded ahead of the encoder, a window of rows at a time.

A window is one record batch of a token shard: at most WINDOW_ROWS samples and about WINDOW_BYTES of pixels and text,
whichever comes first, so that memory is bounded for any picture, any text and any number of them in a sample. The next
window is decoded while one is encoded. Each image is decoded once and brought to every size that a variant asks for. A
shard that was read is released: the whole data set needs no room on this disk.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from arm.data.images import BadImageError, decode_image
from arm.data.shards import read_shard
from arm.manifest import Manifest
from arm.records import Image, Sample, Text
from arm.tokenizer.config import EncodeConfig, VariantConfig
from arm.tokenizer.encoding.units import Unit
from arm.tokenizer.images import Pixels, fit_pixels
from arm.tokenizer.resolution import Size, target_size

WINDOW_ROWS = 1_024
WINDOW_BYTES = 1 << 30
"""Two windows exist at once: 2 GiB at most, and what CHUNK samples more hold. An Arrow column ends at 2 GiB of text."""
CHUNK = 32
"""Samples decoded between two looks at the window's size: part of the identity, as the windows are."""

Codes = npt.NDArray[np.uint16]


@dataclass(slots=True)
class Picture:
    """An image part: its pixels, later its codes, by size."""

    sizes: dict[str, Size]
    """Variant -> size."""
    pixels: dict[Size, Pixels]
    codes: dict[Size, Codes] = field(default_factory=dict)
    """(rows, columns) of each size."""


@dataclass(frozen=True, slots=True)
class Row:
    """A sample on its way to the token shards; its image parts have given their bytes away."""

    sample: Sample
    pictures: list[Picture]


@dataclass(slots=True)
class Window:
    """Rows of one unit, and what was left out between them."""

    unit: Unit
    rows: list[Row] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    num_read: int = 0
    num_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.rows) >= WINDOW_ROWS or self.num_bytes >= WINDOW_BYTES


def windows(units: Sequence[Unit], images: Manifest, config: EncodeConfig, patch: int) -> Iterator[Window]:
    """Every window of the units, in order; a thread is one window ahead, and `decode_threads` help it."""
    with ThreadPoolExecutor(config.decode_threads) as decoders, ThreadPoolExecutor(1) as reader:
        decode = Decoder(config, patch, images.tombstones)
        coming = _windows(units, images, lambda samples: list(decoders.map(decode, samples)))
        ahead = reader.submit(next, coming, None)
        while (window := ahead.result()) is not None:
            ahead = reader.submit(next, coming, None)
            yield window


class Decoder:
    """Turns a sample into a row with pixels, or names the reason why it cannot."""

    def __init__(self, config: EncodeConfig, patch: int, refused: frozenset[str] = frozenset()) -> None:
        self.config, self.patch, self.refused = config, patch, refused

    def __call__(self, sample: Sample) -> Row | str:
        """The row; a sample that holds a bad image, or that was taken down, gives the reason instead."""
        if sample.uid in self.refused:
            return "tombstone"
        try:
            images = [part for part in sample.parts if isinstance(part, Image)]
            pictures = [self._picture(image, sample.task) for image in images]
        except BadImageError as error:
            return error.reason
        parts = tuple(replace(part, data=b"") if isinstance(part, Image) else part for part in sample.parts)
        return Row(replace(sample, parts=parts), pictures)

    def _picture(self, image: Image, task: str) -> Picture:
        taking = [variant for variant in self.config.variants if variant.takes(task)]
        pixels = decode_image(image, at_least=self._draft_size(image, taking))
        height, width = pixels.shape[:2]
        sizes = {variant.name: target_size(height, width, variant.resolution, self.patch) for variant in taking}
        return Picture(sizes, {size: fit_pixels(pixels, *size) for size in sorted(set(sizes.values()))})

    def _draft_size(self, image: Image, taking: Sequence[VariantConfig]) -> Size | None:
        """What a JPEG decoder that shrinks must keep: the largest size that is asked for."""
        if not self.config.jpeg_draft:
            return None
        sizes = [target_size(image.height, image.width, variant.resolution, self.patch) for variant in taking]
        return max(size[0] for size in sizes), max(size[1] for size in sizes)


def _windows(
    units: Sequence[Unit], images: Manifest, decode: Callable[[tuple[Sample, ...]], list[Row | str]]
) -> Iterator[Window]:
    for unit in units:
        window = Window(unit)
        samples = (sample for path in images.stream(unit.shards) for sample in read_shard(path))
        while chunk := tuple(islice(samples, CHUNK)):
            if window.is_full:
                yield window
                window = Window(unit)
            _fill(window, decode(chunk))
        yield window


def _fill(window: Window, decoded: Sequence[Row | str]) -> None:
    window.num_read += len(decoded)
    for row in decoded:
        if isinstance(row, str):
            window.dropped[row] += 1
        else:
            window.rows.append(row)
            window.num_bytes += sum(array.nbytes for picture in row.pictures for array in picture.pixels.values())
            window.num_bytes += sum(len(part.text.encode()) for part in row.sample.parts if isinstance(part, Text))
