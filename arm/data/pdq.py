"""PDQ, the perceptual hash that hash lists are exchanged in: 256 bits of an image, the same as Meta's program finds.

    hash_grey(grey)         -> (B, 4) uint64, the most significant word first: bit for bit what lists hold
    hash_averaged(grey)     -> the same of the image averaged into 64 × 64 fields: for comparing our own images
    to_hex(hashes[0])       -> "2d6b1af3a956c529e79ca3d2526fa834d4196c81cedd04de0a26b855fc99b724"

Every step before the comparison with the median is linear (two box filters, every so-many-th pixel, 16 of 64
frequencies), so it is one small matrix a side and many images are hashed at once. The bindings on PyPI (pdqhash 0.2.8)
have no wheel for Linux: every installation would need a compiler.

Meta's program takes 64 × 64 pixels of the smoothed image as they come; where an image is resized, others come, and up to
46 of the 256 bits flip. Averaged fields cover the same ground at any size. Of 702 photographs in other sizes, qualities and
brightnesses 99% share one of eight bands of 32 bits with the original then, 83% otherwise.
Source: github.com/facebook/ThreatExchange, pdq/, hashing.pdf.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from arm.data.deduplication import MATRICES, shrink

SAMPLES = 64
"""The image is brought to 64 × 64 first."""
FREQUENCIES = 16
BITS = FREQUENCIES**2
BYTES = BITS // 8
MIN_SIDE = 5
"""A smaller image has the hash 0, which says nothing."""
Hashes = NDArray[np.uint64]
"""(N, 4)."""
Floats = NDArray[np.float32]


def hash_grey(grey_BHW: Floats) -> Hashes:
    """Meta's hashes of B grey images of one size (B, H, W), levels 0 to 255; nought where a side is too short."""
    height, width = grey_BHW.shape[1:]
    if min(height, width) < MIN_SIDE:
        return np.zeros((len(grey_BHW), 4), np.uint64)
    return _hashes(np.asarray(_of_samples(height) @ grey_BHW @ _of_samples(width).T, np.float32))


def hash_averaged(grey_BHW: Floats) -> Hashes:
    """Hashes of B grey images (B, H, W) averaged into 64 × 64 fields, which PDQ takes as they are."""
    height, width = grey_BHW.shape[1:]
    return _hashes(np.asarray(_of_fields(height) @ grey_BHW @ _of_fields(width).T, np.float32))


def from_bytes(data: bytes) -> Hashes:
    """Hashes that lie one after the other, 32 bytes each: array (N, 4)."""
    return np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, 4)


def to_bytes(hashes: Hashes) -> list[bytes]:
    """32 bytes of each hash, as its hexadecimal form has them."""
    data = hashes.astype(">u8").tobytes()
    return [data[start : start + BYTES] for start in range(0, len(data), BYTES)]


def to_hex(one: NDArray[np.uint64]) -> str:
    """The 64 digits that lists hold."""
    return one.astype(">u8").tobytes().hex()


def from_hex(digits: Iterable[str]) -> Hashes:
    """Hashes of their 64 digits each: array (N, 4)."""
    return from_bytes(b"".join(map(bytes.fromhex, digits)))


def distances(first: Hashes, second: Hashes) -> NDArray[np.int64]:
    """Bits in which hashes differ, pair by pair (…, 4) -> (…)."""
    return np.asarray(np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64))


def bands(hashes: Hashes, num_bands: int) -> NDArray[np.uint32]:
    """Each hash cut into 8 bands of 32 bits, or 16 of 16 bits: array (N, num_bands)."""
    words = hashes.astype(">u8").view(f">u{BYTES // num_bands}")
    return words.astype(np.uint32).reshape(len(hashes), num_bands)


def _hashes(frequencies_BUV: Floats) -> Hashes:
    """A bit for each frequency above the median, the lower of the two middle ones; bit 0 comes last."""
    flat = frequencies_BUV.reshape(-1, BITS)
    median = np.partition(flat, BITS // 2 - 1, axis=1)[:, BITS // 2 - 1 : BITS // 2]
    return from_bytes(np.packbits((flat > median)[:, ::-1], axis=1).tobytes())


@lru_cache(maxsize=MATRICES)
def _of_samples(length: int) -> Floats:
    """The matrix (16, length) from a line of pixels to the frequencies of Meta's 64 samples."""
    return np.asarray(_cosines() @ _samples(length), np.float32)


@lru_cache(maxsize=MATRICES)
def _of_fields(length: int) -> Floats:
    """The matrix (16, length) from a line of pixels to the frequencies of its 64 fields."""
    return np.asarray(_cosines() @ shrink(length, SAMPLES), np.float32)


def _cosines() -> NDArray[np.float64]:
    """Rows 1 to 16 of the DCT-II of length 64: (16, 64)."""
    number, place = np.arange(1, FREQUENCIES + 1)[:, None], np.arange(SAMPLES)[None, :]
    cosines: NDArray[np.float64] = np.sqrt(2 / SAMPLES) * np.cos(np.pi / 2 / SAMPLES * number * (2 * place + 1))
    return cosines


def _samples(length: int) -> NDArray[np.float64]:
    """The matrix (64, length) that smoothes a line twice and takes 64 of its pixels; 64 × 64 images are taken as they are.

    A window averages the pixels around one, fewer at the ends. Of the first smoothing only the 64 rows that are taken are
    written down, and the second sums each of them between two ends: the square of a (length, length) matrix would need 27
    GiB for an image 60,000 pixels long, which a JPEG of 30 KB can be.
    """
    window, at = (length + 2 * SAMPLES - 1) // (2 * SAMPLES), np.arange(length)
    taken = ((np.arange(SAMPLES) + 0.5) * length / SAMPLES).astype(np.int64)
    right = (window + 2) // 2 - 1
    left = window - 1 - right
    counts = np.minimum(at + right, length - 1) - np.maximum(at - left, 0) + 1
    offset = at - taken[:, None]
    rows = ((offset <= right) & (offset >= -left)) / counts[taken][:, None]
    sums = np.concatenate([np.zeros((SAMPLES, 1)), np.cumsum(rows / counts, axis=1)], axis=1)
    first, end = np.maximum(at - right, 0), np.minimum(at + left + 1, length)
    return np.asarray(sums.take(end, axis=1) - sums.take(first, axis=1))
