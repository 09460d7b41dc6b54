"""Checks of token shards while they are made: codes read back, pictures rendered again, and histograms that drift."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import torch

from arm.errors import IntegrityError
from arm.tokenizer.encoding.decoding import Codes, Row
from arm.tokenizer.images import Pixels, to_images
from arm.tokenizer.metrics import psnr
from arm.tokenizer.protocol import ImageDetokenizer, ImageTokenizer

Histogram = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, order=True)
class Check:
    """One image as it was encoded, and the place that it went to."""

    key: int
    uid: bytes = field(compare=False)
    batch: int = field(compare=False)
    row: int = field(compare=False)
    codes: Codes = field(compare=False, repr=False)
    pixels: Pixels = field(compare=False, repr=False)


class Checks:
    """Some images of a file, drawn by their uid: the same ones in every run, wherever they lie."""

    def __init__(self, size: int) -> None:
        self.size, self._heap = size, list[Check]()

    def offer(self, row: Row, variant: str, place: tuple[int, int]) -> None:
        """Keep the row's first image while its key is among the smallest; `place` is (record batch, row in it)."""
        if not row.pictures:
            return
        uid = bytes.fromhex(row.sample.uid)
        key = -int.from_bytes(hashlib.sha256(b"check" + uid).digest()[:8], "big")
        if len(self._heap) >= self.size and (not self._heap or key <= self._heap[0].key):
            return
        picture = row.pictures[0]
        size = picture.sizes[variant]
        keep = heapq.heappush if len(self._heap) < self.size else heapq.heappushpop
        keep(self._heap, Check(key, uid, *place, picture.codes[size], picture.pixels[size]))

    def chosen(self) -> list[Check]:
        """The images, in an order that depends on their uids alone."""
        return sorted(self._heap, reverse=True)


def read_back(path: Path, checks: Sequence[Check]) -> None:
    """Compare what lies in a token shard with what was encoded; IntegrityError when they differ."""
    with pa.memory_map(str(path)) as source:
        shard = pa.ipc.open_file(source)
        for check in checks:
            batch = shard.get_batch(check.batch)
            parts = batch["parts"][check.row].as_py()
            found = next(part for part in parts if part["kind"] == "image")
            grid = np.asarray(found["codes"], np.uint16)
            same_place = batch["uid"][check.row].as_py() == check.uid
            same_shape = (found["height"], found["width"]) == check.codes.shape
            if not (same_place and same_shape and np.array_equal(grid, check.codes.ravel())):
                raise IntegrityError(
                    f"{path.name} does not hold the codes of {check.uid.hex()} that were written to it."
                )


def rendered_psnr(checks: Sequence[Check], tokenizer: ImageTokenizer, detokenizer: ImageDetokenizer) -> list[float]:
    """PSNR (dB) of each image after codes and detokenizer; noise is keyed by the uid."""
    found = []
    for check in checks:
        codes = torch.from_numpy(check.codes.astype(np.int64))[None]
        seed = int.from_bytes(check.uid[:4], "big")
        image = detokenizer.render(codes, tokenizer, seeds=[seed]).cpu()
        found.append(round(float(psnr(image, to_images(check.pixels[None]))), 4))
    return found


def drift(histogram: Histogram, others: Histogram) -> float:
    """Jensen-Shannon distance of two histograms, base 2: the root of their divergence, 0 (equal) to 1 (disjoint).

    (1, 1, 0) and (0, 1, 1): mixture (1/4, 1/2, 1/4), divergence 1/2, distance 0.7071        (Endres and Schindelin 2003)
    """
    if not histogram.sum() or not others.sum():
        return 0.0
    shares = [counts / counts.sum() for counts in (histogram, others)]
    mixture = (shares[0] + shares[1]) / 2
    divergence = sum(
        float((share[share > 0] * np.log2(share[share > 0] / mixture[share > 0])).sum()) for share in shares
    )
    return float(np.sqrt(min(max(divergence / 2, 0.0), 1.0)))


def can_drift(histogram: Histogram, everything: Histogram) -> bool:
    """Whether a unit has enough codes for its drift to mean something: twice as many as there are codes in use anywhere.

    Of K equally likely codes, chance alone puts 2K draws at a distance of 0.34 from their source (K = 512), K draws at
    0.48, and K / 8 draws at 0.86.
    """
    return int(histogram.sum()) >= 2 * int((everything > 0).sum())
