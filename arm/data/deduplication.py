"""Fingerprints of images, and which of them are the same picture.

    exact        sha256 of size and pixels: the same picture in another file
    phash        64 bits: signs of the lowest 8 × 8 frequencies of the grey image against their median
    thumbnail    12 × 12 RGB, which verifies what the hash claims: two small scenes may share a hash

Near duplicates: hashes that agree in one of `distance + 1` bands (no pair within the distance is missed), at most `distance` bits
apart, thumbnails at most `difference` grey levels apart; linked images form components. Deterministic, whatever the order.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

GREY_SIDE = 32
HASH_SIDE = 8
THUMBNAIL_SIDE = 12
HASH_BITS = 64
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""
CHUNK_PAIRS = 1 << 20
"""Candidate pairs verified at once."""
MAX_BUCKET = 10_000
"""A fuller bucket is compared with its first member only: a hash that common says little (3-data)."""


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
    rows, columns = _cosines() @ _shrink(height, GREY_SIDE), _cosines() @ _shrink(width, GREY_SIDE)
    thumbnail = _shrink(height, THUMBNAIL_SIDE) @ pixels_BCHW @ _shrink(width, THUMBNAIL_SIDE).T
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


def near_pairs(prints: Fingerprints, distance: int, difference: float) -> NDArray[np.int64]:
    """All pairs (i, j), i < j, of images that look alike: array (P, 2)."""
    found = [
        candidates[_alike(prints, prints, candidates, distance, difference)]
        for candidates in _band_candidates(prints.phash, distance)
    ]
    pairs = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    return np.unique(pairs, axis=0)


def contaminated(prints: Fingerprints, reference: Fingerprints, distance: int, difference: float) -> NDArray[np.bool_]:
    """Which images are, or look like, one of the reference: array (N,)."""
    mask: NDArray[np.bool_] = np.isin(prints.exact, reference.exact)
    for band in range(distance + 1):
        keys = _band_keys(reference.phash, band, distance)
        order = np.argsort(keys, kind="stable")
        wanted = _band_keys(prints.phash, band, distance)
        low, high = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
        for items in np.array_split(np.flatnonzero(high > low), 1 + int((high - low).sum()) // CHUNK_PAIRS):
            counts = (high - low)[items]
            steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            pairs = np.stack([order[np.repeat(low[items], counts) + steps], np.repeat(items, counts)], axis=1)
            mask[pairs[_alike(reference, prints, pairs, distance, difference), 1]] = True
    return mask


def components(num_items: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest index of each item's connected component: array (N,)."""
    labels = np.arange(num_items)
    while True:
        before = labels.copy()
        np.minimum.at(labels, pairs[:, 0], before[pairs[:, 1]])
        np.minimum.at(labels, pairs[:, 1], before[pairs[:, 0]])
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def superfluous(prints: Fingerprints, ranks: NDArray[np.int64], distance: int, difference: float) -> dict[int, int]:
    """Image to drop -> the kept image that it looks like; in a component the smallest rank is kept.

    A chain a~b~c may join images that do not look alike: whoever does not look like a kept one stays.
    """
    labels = components(len(prints), near_pairs(prints, distance, difference))
    kept: dict[int, list[int]] = {}
    dropped: dict[int, int] = {}
    for index in np.argsort(ranks, kind="stable").tolist():
        others = kept.setdefault(int(labels[index]), [])
        pairs = np.array([(other, index) for other in others], np.int64).reshape(-1, 2)
        alike = np.flatnonzero(_alike(prints, prints, pairs, distance, difference))
        if len(alike):
            dropped[index] = others[int(alike[0])]
        else:
            others.append(index)
    return dropped


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


@lru_cache(maxsize=4096)
def _shrink(length: int, target: int) -> NDArray[np.float32]:
    """The matrix (target, length) that averages a line of `length` pixels into `target` boxes of equal width."""
    edges = np.linspace(0, length, target + 1)
    left = np.clip(np.arange(length)[None, :], edges[:-1, None], edges[1:, None])
    right = np.clip(np.arange(1, length + 1)[None, :], edges[:-1, None], edges[1:, None])
    matrix: NDArray[np.float32] = ((right - left) * (target / length)).astype(np.float32)
    return matrix


def _band_candidates(hashes: NDArray[np.uint64], distance: int) -> Iterator[NDArray[np.int64]]:
    """Pairs (i, j), i < j, whose hashes agree in a band: by the pigeonhole principle none within the distance is missed."""
    for band in range(distance + 1):
        keys = _band_keys(hashes, band, distance)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
        yield from _chunks(_bucket_pairs(np.sort(bucket)) for bucket in np.split(order, starts[1:]) if len(bucket) > 1)


def _band_keys(hashes: NDArray[np.uint64], band: int, distance: int) -> NDArray[np.uint64]:
    """The bits of one of `distance + 1` bands of nearly equal width."""
    low, high = band * HASH_BITS // (distance + 1), (band + 1) * HASH_BITS // (distance + 1)
    return (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)


def _bucket_pairs(members: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(members) > MAX_BUCKET:
        return np.stack([np.full(len(members) - 1, members[0]), members[1:]], axis=1)
    first, second = np.triu_indices(len(members), 1)
    return np.stack([members[first], members[second]], axis=1)


def _chunks(many: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    waiting: list[NDArray[np.int64]] = []
    for pairs in many:
        waiting.append(pairs)
        if sum(map(len, waiting)) >= CHUNK_PAIRS:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _alike(
    first: Fingerprints, second: Fingerprints, pairs: NDArray[np.int64], distance: int, difference: float
) -> NDArray[np.bool_]:
    """Whether the images of each pair (index into first, index into second) look alike: array (P,)."""
    bits = np.bitwise_count(first.phash[pairs[:, 0]] ^ second.phash[pairs[:, 1]])
    alike: NDArray[np.bool_] = bits <= distance
    near = pairs[alike]
    apart = np.abs(first.thumbnail[near[:, 0]].astype(np.int16) - second.thumbnail[near[:, 1]])
    alike[alike] = apart.max(axis=1, initial=0) <= difference
    return alike
