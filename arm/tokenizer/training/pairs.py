"""Captioned images out of shards, in global batches that depend on the seed alone and resume exactly.

Shards are taken a window at a time; inside a window all pairs are shuffled together. A batch is the same whatever the
number of ranks: every rank draws all of it, as texts and places, and decodes only the rows that it computes.

    epoch -> windows of shards -> shuffled pairs -> batches of B pairs        state {epoch, window, offset, left_over}

Each (seed, epoch, uid) draws one of the resolutions, so a pair's size in an epoch is fixed. A batch is sorted by size; its
rows are dealt to the ranks in equal, contiguous parts, and a micro-batch is a run of rows of one size (`deal_rows`). No
pair waits for others of its size: only what cannot fill the last batch of a window is left over, and counted.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from arm.data.shard_index import Span, index_shard, read_image
from arm.errors import UserError
from arm.model.token_shards import is_held_out
from arm.records import Image, Sample, Text
from arm.tokenizer.config import ResolutionConfig
from arm.tokenizer.images import Pixels, decode_curated, fit_pixels, to_images
from arm.tokenizer.resolution import Size, target_size

Sizing = Callable[["Pair", int], Size]
"""(pair, epoch) to the size that the pair has in that epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A captioned image: its texts, and where its image lies."""

    uid: str
    path: Path
    span: Span
    image: Image
    """Without its bytes."""
    caption: str
    """What the sigmoid loss reads."""
    description: str
    """What the caption loss reads: the sample's longer description where there is one, else the caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A global batch, sorted by size."""

    pairs: list[Pair]
    sizes: list[Size]

    def __len__(self) -> int:
        return len(self.pairs)


def draw_size(resolutions: Sequence[ResolutionConfig], patch: int, seed: int) -> Sizing:
    """The rule of sizes: each (seed, epoch, uid) draws a resolution by a hash, the image's aspect does the rest."""

    def size(pair: Pair, epoch: int) -> Size:
        drawn = hashlib.sha256(f"{seed}/{epoch}/{pair.uid}".encode()).digest()
        resolution = resolutions[int.from_bytes(drawn[:8]) % len(resolutions)]
        return target_size(pair.image.height, pair.image.width, resolution, patch)

    return size


def read_index(path: Path, *, held_out: bool, refused: frozenset[str] = frozenset()) -> list[Pair]:
    """The captioned images of one shard: those held out (1% by uid hash), or all the others; refused uids left out."""
    found = (
        _pair(path, sample, spans)
        for sample, spans in index_shard(path)
        if is_held_out(bytes.fromhex(sample.uid)) == held_out and sample.uid not in refused
    )
    return [pair for pair in found if pair is not None]


def _pair(path: Path, sample: Sample, spans: dict[int, Span]) -> Pair | None:
    """The first image of a sample with its caption; None where either is missing."""
    image = next(((index, part) for index, part in enumerate(sample.parts) if isinstance(part, Image)), None)
    caption = next((part.text for part in sample.parts if isinstance(part, Text) and part.role == "caption"), None)
    if image is None or not caption:
        return None
    return Pair(
        uid=sample.uid, path=path, span=spans[image[0]], image=image[1],
        caption=caption, description=str(sample.meta.get("description") or caption),
    )  # fmt: skip


class PixelReader:
    """Decodes pairs at a size; keeps at most `cache_bytes` of pixels for later epochs, those that came first."""

    def __init__(self, cache_bytes: int, threads: int = 1) -> None:
        self.cache_bytes = cache_bytes
        self._cache: dict[tuple[str, Size], Pixels] = {}
        self._bytes = 0
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def read(self, pairs: Sequence[Pair], size: Size) -> Tensor:
        """(N, 3, H, W) float32 in [0, 1]."""
        if self._pool is None or all((pair.uid, size) in self._cache for pair in pairs):
            pixels = [self._one(pair, size) for pair in pairs]
        else:
            pixels = list(self._pool.map(lambda pair: self._one(pair, size), pairs))
        for pair, found in zip(pairs, pixels, strict=True):
            self._keep(pair, size, found)
        return to_images(np.stack(pixels))

    def _one(self, pair: Pair, size: Size) -> Pixels:
        kept = self._cache.get((pair.uid, size))
        if kept is not None:
            return kept
        image = read_image(pair.path, pair.image, pair.span)
        return fit_pixels(decode_curated(image, pair.uid, pair.path), *size)

    def _keep(self, pair: Pair, size: Size, pixels: Pixels) -> None:
        if (pair.uid, size) not in self._cache and self._bytes + pixels.nbytes <= self.cache_bytes:
            self._cache[pair.uid, size] = pixels
            self._bytes += pixels.nbytes


class PairStream:
    """Global batches of training pairs without end."""

    def __init__(
        self,
        shards: Sequence[Path],
        *,
        sizing: Sizing,
        batch_size: int,
        seed: int,
        window_shards: int,
        refused: frozenset[str] = frozenset(),
    ) -> None:
        self.shards, self.sizing, self.batch_size, self.seed = list(shards), sizing, batch_size, seed
        self.window_shards, self.refused = window_shards, refused
        self.epoch, self.window, self.offset, self.left_over = 0, 0, 0, 0
        self._indices: dict[Path, list[Pair]] = {}
        self._open: tuple[tuple[int, int], list[Pair], npt.NDArray[np.int64]] | None = None

    def state_dict(self) -> dict[str, int]:
        """Where the next batch starts, and how many pairs were left over so far."""
        return {"epoch": self.epoch, "window": self.window, "offset": self.offset, "left_over": self.left_over}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.window, self.offset = state["epoch"], state["window"], state["offset"]
        self.left_over = state["left_over"]

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.next_batch()

    def next_batch(self) -> Batch:
        """The next `batch_size` pairs."""
        for _ in range(2 * len(self.shards) + 2):
            pairs, order = self._current()
            if self.offset + self.batch_size <= len(order):
                chosen = [pairs[index] for index in order[self.offset : self.offset + self.batch_size]]
                self.offset += self.batch_size
                return self._sorted(chosen)
            self.left_over += len(order) - self.offset
            self._advance()
        raise UserError(
            f"No window of {self.window_shards} shards holds {self.batch_size} captioned images: lower batch_size, "
            "or raise window_shards."
        )

    def _sorted(self, pairs: list[Pair]) -> Batch:
        sizes = [self.sizing(pair, self.epoch) for pair in pairs]
        order = sorted(range(len(pairs)), key=sizes.__getitem__)
        return Batch(pairs=[pairs[index] for index in order], sizes=[sizes[index] for index in order])

    def _advance(self) -> None:
        self.window, self.offset = self.window + 1, 0
        if self.window * self.window_shards >= len(self.shards):
            self.epoch, self.window = self.epoch + 1, 0

    def _current(self) -> tuple[list[Pair], npt.NDArray[np.int64]]:
        key = (self.epoch, self.window)
        if self._open is None or self._open[0] != key:
            shards = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.shards))
            chosen = [self.shards[index] for index in shards[self.window * self.window_shards :][: self.window_shards]]
            self._indices = {
                path: self._indices.get(path) or read_index(path, held_out=False, refused=self.refused)
                for path in chosen
            }
            pairs = [pair for path in chosen for pair in self._indices[path]]
            order = np.random.default_rng([self.seed, self.epoch, self.window]).permutation(len(pairs))
            self._open = (key, pairs, order)
        return self._open[1], self._open[2]


def deal_rows(sizes: Sequence[Size], num_ranks: int, micro_batch: int) -> list[list[slice]]:
    """The rows of each rank's micro-batches: as many on every rank, each of one size, with at most `micro_batch` rows.

    Ranks take equal, contiguous parts of a batch that is sorted by size; 0 means no bound. A rank with fewer runs splits
    its longest, so that all ranks meet at every collective operation of a forward pass.

        sizes a a a b c c, 2 ranks   ->   rank 0: rows 0-1, 2     rank 1: row 3, rows 4-5
    """
    if len(sizes) % num_ranks:
        raise UserError(f"batch_size {len(sizes)} does not divide among {num_ranks} ranks; make it a multiple.")
    share = len(sizes) // num_ranks
    dealt = [_runs(sizes, start, start + share, micro_batch or share) for start in range(0, len(sizes), share)]
    most = max(len(runs) for runs in dealt)
    return [_split_to(runs, most) for runs in dealt]


def _runs(sizes: Sequence[Size], start: int, end: int, longest: int) -> list[slice]:
    """Rows start .. end in runs of one size, none longer than `longest`."""
    found, first = [], start
    for _, group in groupby(sizes[start:end]):
        last = first + len(list(group))
        found += [slice(row, min(row + longest, last)) for row in range(first, last, longest)]
        first = last
    return found


def _split_to(runs: list[slice], count: int) -> list[slice]:
    """Halve the longest run until there are `count`."""
    runs = list(runs)
    while len(runs) < count:
        at = max(range(len(runs)), key=lambda index: runs[index].stop - runs[index].start)
        run = runs[at]
        middle = (run.start + run.stop + 1) // 2
        runs[at : at + 1] = [slice(run.start, middle), slice(middle, run.stop)]
    return runs
