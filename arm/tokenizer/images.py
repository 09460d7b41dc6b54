"""Captioned images out of shards, in batches, in an order that depends on the seed alone and resumes exactly.

Shards are read a window at a time; inside a window all pairs are shuffled together. The state is three integers:
{epoch, window, offset}.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from arm.data.shards import decode_image, read_shard
from arm.errors import UserError
from arm.model.token_shards import is_held_out
from arm.records import Image, Sample, Text

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Images with their captions, in memory."""

    pixels_NHWC: Pixels
    captions: list[str]
    """What the sigmoid loss reads."""
    descriptions: list[str]
    """What the caption loss reads: the sample's longer description where there is one, else the caption."""

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> "Pairs":
        """The pairs at these indices."""
        return Pairs(
            pixels_NHWC=self.pixels_NHWC[np.asarray(indices, dtype=np.int64)],
            captions=[self.captions[i] for i in indices],
            descriptions=[self.descriptions[i] for i in indices],
        )

    def images(self) -> Tensor:
        """(N, 3, H, W) float32 in [0, 1]."""
        return to_images(self.pixels_NHWC)


def to_images(pixels_NHWC: Pixels) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [0, 1]."""
    return torch.tensor(pixels_NHWC).permute(0, 3, 1, 2).float() / 255


def fit(image: Image, height: int, width: int) -> Pixels:
    """Decode an image part and bring it to a size: (height, width, 3)."""
    return fit_pixels(decode_image(image), height, width)


def fit_pixels(pixels_HWC: Pixels, height: int, width: int) -> Pixels:
    """Resize to cover the bucket (area average down, bicubic up) and centre-crop: (height, width, 3)."""
    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    picture = PIL.Image.fromarray(pixels_HWC)
    scale = max(height / picture.height, width / picture.width)
    size = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    picture = picture.resize(size, PIL.Image.Resampling.BOX if scale < 1 else PIL.Image.Resampling.BICUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.asarray(picture.crop((left, top, left + width, top + height)))


def captioned(sample: Sample) -> tuple[Image, str, str] | None:
    """(image, caption, description) of a captioned image; None for every other sample."""
    image = next((part for part in sample.parts if isinstance(part, Image)), None)
    caption = next((part.text for part in sample.parts if isinstance(part, Text) and part.role == "caption"), None)
    if image is None or not caption:
        return None
    return image, caption, str(sample.meta.get("description") or caption)


def read_pairs(path: Path, *, height: int, width: int, held_out: bool) -> Pairs:
    """The captioned images of one shard: those held out (1% by uid hash), or all the others."""
    found = [
        pair
        for sample in read_shard(path)
        if is_held_out(bytes.fromhex(sample.uid)) == held_out and (pair := captioned(sample))
    ]
    pixels = [fit(image, height, width) for image, _, _ in found]
    stacked = np.stack(pixels) if pixels else np.zeros((0, height, width, 3), np.uint8)
    return Pairs(pixels_NHWC=stacked, captions=[c for _, c, _ in found], descriptions=[d for _, _, d in found])


def join(parts: Sequence[Pairs]) -> Pairs:
    """Several as one."""
    return Pairs(
        pixels_NHWC=np.concatenate([part.pixels_NHWC for part in parts]),
        captions=[caption for part in parts for caption in part.captions],
        descriptions=[description for part in parts for description in part.descriptions],
    )


class PairStream:
    """Batches of training pairs without end."""

    def __init__(
        self,
        shards: Sequence[Path],
        *,
        size: tuple[int, int],
        batch_size: int,
        seed: int,
        window_shards: int,
        cache_bytes: int,
    ) -> None:
        self.shards, self.size, self.batch_size, self.seed = list(shards), size, batch_size, seed
        self.window_shards, self.cache_bytes = window_shards, cache_bytes
        self.epoch, self.window, self.offset = 0, 0, 0
        self._cache: dict[Path, Pairs] = {}
        self._open: tuple[tuple[int, int], Pairs, npt.NDArray[np.int64]] | None = None

    def state_dict(self) -> dict[str, int]:
        """Where the next batch starts."""
        return {"epoch": self.epoch, "window": self.window, "offset": self.offset}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.window, self.offset = state["epoch"], state["window"], state["offset"]

    def __iter__(self) -> Iterator[Pairs]:
        while True:
            yield self.next_batch()

    def next_batch(self) -> Pairs:
        """The next `batch_size` pairs; what is left of a window that cannot fill a batch waits for the next epoch."""
        for _ in range(2 * len(self.shards) + 2):
            pairs, order = self._current()
            if self.offset + self.batch_size <= len(order):
                chosen = order[self.offset : self.offset + self.batch_size]
                self.offset += self.batch_size
                return pairs.take(chosen)
            self._advance()
        raise UserError(
            f"No window of {self.window_shards} shards holds {self.batch_size} captioned images: lower batch_size, "
            "or raise window_shards."
        )

    def _advance(self) -> None:
        self.window, self.offset = self.window + 1, 0
        if self.window * self.window_shards >= len(self.shards):
            self.epoch, self.window = self.epoch + 1, 0

    def _current(self) -> tuple[Pairs, npt.NDArray[np.int64]]:
        key = (self.epoch, self.window)
        if self._open is None or self._open[0] != key:
            shards = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.shards))
            chosen = shards[self.window * self.window_shards :][: self.window_shards]
            pairs = join([self._read(self.shards[index]) for index in chosen])
            order = np.random.default_rng([self.seed, self.epoch, self.window]).permutation(len(pairs))
            self._open = (key, pairs, order)
        return self._open[1], self._open[2]

    def _read(self, path: Path) -> Pairs:
        if path in self._cache:
            return self._cache[path]
        pairs = read_pairs(path, height=self.size[0], width=self.size[1], held_out=False)
        if sum(item.pixels_NHWC.nbytes for item in self._cache.values()) + pairs.pixels_NHWC.nbytes <= self.cache_bytes:
            self._cache[path] = pairs
        return pairs
