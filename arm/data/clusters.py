"""Spherical k-means of embeddings in whole numbers: the same clusters whatever the blocks, parts, threads or BLAS.

    quantise([[3, 4]])   ->   [[2400, 3200]]      a direction: length 4,000, components rounded, int16

The product of two such vectors is a whole number below 2^24 (4,000² = 16.0 million; rounding adds at most √D / 2 to a
length, which leaves room up to D = 36,000), and so is every partial sum: float32 adds them without an error, in any order.
Cosines are right to about 0.0003.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LENGTH = 4_000
BLOCK_ROWS = 1_024
Directions = NDArray[np.int16]
"""(N, D)."""
Integers = NDArray[np.int64]


def quantise(vectors_ND: NDArray[np.generic]) -> Directions:
    """Directions of vectors; of one without length, or that holds no numbers, nought."""
    values = np.asarray(vectors_ND, np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    fit = np.isfinite(lengths) & (lengths > 0)
    return np.rint(np.where(fit, values, 0) * (LENGTH / np.where(fit, lengths, 1))).astype(np.int16)


def find_centres(vectors_ND: Directions, num_clusters: int, rounds: int) -> Directions:
    """The centres (K, D) after Lloyd's rounds from the first K vectors; one that nobody is nearest to stays where it is."""
    centres = vectors_ND[:num_clusters].copy()
    for _ in range(rounds):
        sums = np.zeros(centres.shape, np.int64)
        for part in _blocks(len(vectors_ND)):
            labels = nearest(vectors_ND[part], centres)
            order = np.argsort(labels, kind="stable")
            found, starts = np.unique(labels[order], return_index=True)
            sums[found] += np.add.reduceat(vectors_ND[part][order].astype(np.int64), starts, axis=0)
        moved = np.where(sums.any(axis=1, keepdims=True), quantise(sums), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def nearest(vectors_ND: Directions, centres_KD: Directions) -> Integers:
    """The centre of the largest cosine, the first of equals: (N,)."""
    transposed = centres_KD.astype(np.float32).T
    found = np.empty(len(vectors_ND), np.int64)
    for part in _blocks(len(vectors_ND)):
        found[part] = (vectors_ND[part].astype(np.float32) @ transposed).argmax(axis=1)
    return found


def find_alike(vectors_ND: Directions, epsilon: float) -> Integers:
    """Of vectors in the order of preference: (P, 2) of a place to drop and the place kept for it.

    One after the other: whose cosine with one that is kept is at least 1 - epsilon goes, for the best of those; whoever
    is like none stays. Never more than a square of BLOCK_ROWS is compared at once, and vectors may lie on a disk.
    """
    minimum = (1 - epsilon) * LENGTH**2
    owners, kept = np.full(len(vectors_ND), -1), np.empty(0, np.int64)
    for part in _blocks(len(vectors_ND)):
        block_BD, mine = vectors_ND[part].astype(np.float32), owners[part]
        for earlier in _blocks(len(kept)):
            free = np.flatnonzero(mine < 0)
            near = block_BD[free] @ vectors_ND[kept[earlier]].astype(np.float32).T >= minimum
            taken = near.any(axis=1)
            mine[free[taken]] = kept[earlier][near[taken].argmax(axis=1)]
        near = block_BD @ block_BD.T >= minimum
        for place in range(len(mine)):
            if mine[place] < 0:
                later = place + 1 + np.flatnonzero(near[place, place + 1 :] & (mine[place + 1 :] < 0))
                mine[later] = part.start + place
        kept = np.concatenate([kept, part.start + np.flatnonzero(mine < 0)])
    dropped = np.flatnonzero(owners >= 0)
    return np.stack([dropped, owners[dropped]], axis=1)


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK_ROWS, size)) for start in range(0, size, BLOCK_ROWS))
