"""Fingerprints of images, and which of them are a picture of the evaluation sets.

    exact        sha256 of size and pixels: the same picture in another file
    phash        64 bits: signs of the lowest 8 × 8 frequencies of the grey image against their median
    thumbnail    12 × 12 RGB, which verifies what the hash claims: two small scenes may share a hash

Near means: hashes at most `distance` bits apart (they agree in one of `distance + 1` bands, so none is missed), thumbnails
at most `difference` grey levels apart. Complete, and made for a small set against a large one; what looks alike inside a
large set is found by `arm.data.near_duplicates`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

GREY_SIDE = 32
MATRICES = 64
"""Matrices of sides that are kept of each kind: 300 bytes a pixel, so 1.1 GB of the longest sides and 20 MB of common ones. Ours."""
HASH_SIDE = 8
THUMBNAIL_SIDE = 12
HASH_BITS = 64
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""
CHUNK_PAIRS = 1 << 20
"""Candidate pairs verified at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """Fingerprints of N images."""

    exact: NDArray[np.void]
    """(N,) 16 bytes."""
    phash: NDArray[np.uint64]
    """(N,)."""
    thumbnail: NDArray[np.uint8]
    """(N, 432): 12 × 12 × 3."""

    def __len__(self) -> int:
        return len(self.phash)


def fingerprint_images(pixels_BHWC: NDArray[np.uint8]) -> Fingerprints:
    """Fingerprints of B images of one size, RGB (B, H, W, 3)."""
    height, width = pixels_BHWC.shape[1:3]
    size = f"{height}x{width}:".encode()
    exact = b"".join(hashlib.sha256(size + pixels.tobytes()).digest()[:16] for pixels in pixels_BHWC)
    pixels_BCHW = np.ascontiguousarray(pixels_BHWC.transpose(0, 3, 1, 2), np.float32)
    grey_BHW = np.tensordot(pixels_BCHW, GREY_WEIGHTS, axes=(1, 0))
    rows, columns = _cosines() @ shrink(height, GREY_SIDE), _cosines() @ shrink(width, GREY_SIDE)
    thumbnail = shrink(height, THUMBNAIL_SIDE) @ pixels_BCHW @ shrink(width, THUMBNAIL_SIDE).T
    return Fingerprints(
        exact=np.frombuffer(exact, dtype="V16"),
        phash=_hashes(rows @ grey_BHW @ columns.T),
        thumbnail=np.rint(thumbnail).astype(np.uint8).reshape(len(pixels_BHWC), -1),
    )


def stack(rows: Sequence[tuple[bytes, int, bytes]]) -> Fingerprints:
    """Fingerprints (exact, phash, thumbnail) of many images as arrays."""
    width = 3 * THUMBNAIL_SIDE**2
    return Fingerprints(
        exact=np.frombuffer(b"".join(row[0] for row in rows), dtype="V16"),
        phash=np.array([row[1] for row in rows], dtype=np.uint64),
        thumbnail=np.frombuffer(b"".join(row[2] for row in rows), np.uint8).reshape(len(rows), width),
    )


def join(prints: Sequence[Fingerprints]) -> Fingerprints:
    """The fingerprints of several sets of images as one."""
    prints = [stack([]), *prints]
    return Fingerprints(
        exact=np.concatenate([item.exact for item in prints]),
        phash=np.concatenate([item.phash for item in prints]),
        thumbnail=np.concatenate([item.thumbnail for item in prints]),
    )


def contaminated(prints: Fingerprints, reference: Fingerprints, distance: int, difference: float) -> NDArray[np.bool_]:
    """Which images are, or look like, one of the reference: array (N,)."""
    mask: NDArray[np.bool_] = np.isin(prints.exact, reference.exact)
    for band in range(distance + 1):
        keys = _band_keys(reference.phash, band, distance)
        order = np.argsort(keys, kind="stable")
        wanted = _band_keys(prints.phash, band, distance)
        for places, items in equal_places(keys[order], wanted):
            pairs = np.stack([order[places], items], axis=1)
            mask[pairs[_alike(reference, prints, pairs, distance, difference), 1]] = True
    return mask


def equal_places(
    keys: NDArray[np.unsignedinteger[Any]], wanted: NDArray[np.unsignedinteger[Any]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of places of equal values in sorted keys and in `wanted`, CHUNK_PAIRS or so at a time."""
    low, high = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
    for items in np.array_split(np.flatnonzero(high > low), 1 + int((high - low).sum()) // CHUNK_PAIRS):
        counts = (high - low)[items]
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.repeat(low[items], counts) + steps, np.repeat(items, counts)


def _hashes(frequencies_BUV: NDArray[np.float32]) -> NDArray[np.uint64]:
    """64 bits of each 8 × 8 block of frequencies: above the median of all but the mean brightness."""
    flat = frequencies_BUV.reshape(len(frequencies_BUV), HASH_BITS)
    bits = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float32]:
    """The first 8 rows of the DCT-II of length 32: (8, 32)."""
    frequency, position = np.arange(HASH_SIDE)[:, None], np.arange(GREY_SIDE)[None, :]
    cosines: NDArray[np.float32] = np.cos(np.pi / GREY_SIDE * (position + 0.5) * frequency).astype(np.float32)
    return cosines


@lru_cache(maxsize=MATRICES)
def shrink(length: int, target: int) -> NDArray[np.float32]:
    """The matrix (target, length) that averages a line of `length` pixels into `target` boxes of equal width."""
    edges = np.linspace(0, length, target + 1)
    left = np.clip(np.arange(length)[None, :], edges[:-1, None], edges[1:, None])
    right = np.clip(np.arange(1, length + 1)[None, :], edges[:-1, None], edges[1:, None])
    matrix: NDArray[np.float32] = ((right - left) * (target / length)).astype(np.float32)
    return matrix


def _band_keys(hashes: NDArray[np.uint64], band: int, distance: int) -> NDArray[np.uint64]:
    """The bits of one of `distance + 1` bands of nearly equal width."""
    low, high = band * HASH_BITS // (distance + 1), (band + 1) * HASH_BITS // (distance + 1)
    return (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)


def _alike(
    first: Fingerprints, second: Fingerprints, pairs: NDArray[np.int64], distance: int, difference: float
) -> NDArray[np.bool_]:
    """Whether the images of each pair (index into first, index into second) look alike: array (P,)."""
    bits = np.bitwise_count(first.phash[pairs[:, 0]] ^ second.phash[pairs[:, 1]])
    alike: NDArray[np.bool_] = bits <= distance
    near = pairs[alike]
    alike[alike] = same_thumbnails(first.thumbnail[near[:, 0]], second.thumbnail[near[:, 1]], difference)
    return alike


def same_thumbnails(first: NDArray[np.uint8], second: NDArray[np.uint8], difference: float) -> NDArray[np.bool_]:
    """Whether no level of two thumbnails (P, 432) differs by more, pair by pair: array (P,)."""
    same: NDArray[np.bool_] = np.abs(first.astype(np.int16) - second).max(axis=1, initial=0) <= difference
    return same
