"""Which images look alike, of millions: banded PDQ hashes, hubs, components, and the best of each that is kept.

    find(prints)   rows in the order of preference, row 0 the best
                   ->  duplicates [[7, 2], [9, 2]]   rows 7 and 9 look like row 2, which is kept
                       popular    [4, 5, 6, …]       rows of a hash that too many share

1. Each hash is cut into eight bands of 32 bits; rows that share a band form a bucket. Hashes at most 7 bits apart always
   share one; of those 16 apart, spread evenly, two in three.
2. A bucket of more than `max_bucket` rows says little (a logo, a placeholder, a plain ground): its rows are popular.
3. In a bucket the best row is a hub, all within the distance are linked to it, the best of the others is the next hub, …
   So a bucket costs at most MAX_HUBS comparisons a row, never the square of its size.
4. Linked rows form components. In each, hubs are chosen again in the same way, now by hash *and* thumbnail, over all its
   rows: whoever looks like an earlier hub goes, whoever looks like none stays, so that no chain a~b~c drops a stranger.

Everything follows from the order of the rows: the same result whatever the machine, the partitions or the engine
(`arm.data.near_duplicates_spark` shuffles what this module computes in memory).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arm.data.deduplication import same_thumbnails
from arm.data.pdq import Hashes, bands, distances

NUM_BANDS = 8
"""At a billion images sixteen bands of 16 bits would give 1e14 candidate pairs."""
MAX_HUBS = 32
"""Hubs of one bucket or component; ours."""
CHUNK_ROWS = 1 << 16
"""Rows compared at once: 64 MB of thumbnails as int16."""
Integers = NDArray[np.int64]
Alike = Callable[[Integers, Integers], NDArray[np.bool_]]
"""Whether the rows at places of the first look like those of the second, pair by pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """When images look alike."""

    distance: int
    """Bits of 256 in which their PDQ hashes may differ."""
    difference: float
    """Levels by which their 12 × 12 thumbnails may differ anywhere."""
    max_bucket: int
    """A band that more images share makes them popular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What `find` found, as places in the order of preference."""

    duplicates: Integers
    """(D, 2), sorted: a row and the kept row that it looks like."""
    popular: Integers
    """(P,), sorted."""


class Thumbnails(Protocol):
    """Thumbnails (N, 432), an array or what reads them from a disk: only those of linked rows are asked for."""

    def __getitem__(self, places: Integers, /) -> NDArray[np.uint8]:
        """Those at some places."""
        ...


def find(hashes: Hashes, thumbnails: Thumbnails, bounds: Bounds) -> Found:
    """Find what looks alike among rows (N, 4) and (N, 432) in the order of preference, in this process."""
    places = np.arange(len(hashes))
    edges, crowds = [np.empty((0, 2), np.int64)], [np.empty(0, np.int64)]
    for keys in bands(hashes, NUM_BANDS).T:
        order = np.argsort(keys, kind="stable")  # inside a bucket the order of preference stays
        linked, popular = link(keys[order], order, hashes[order], bounds)
        edges.append(linked)
        crowds.append(popular)
    popular = np.unique(np.concatenate(crowds))
    pairs = np.concatenate(edges)
    pairs = pairs[~np.isin(pairs, popular).any(axis=1)]
    labels = components(len(hashes), pairs)
    members = places[np.isin(labels, labels[pairs[:, 0]])]
    members = members[np.argsort(labels[members], kind="stable")]
    chosen = choose(labels[members], hashes[members], thumbnails[members], bounds)
    duplicates = members[chosen]
    return Found(duplicates=duplicates[np.argsort(duplicates[:, 0])], popular=popular)


def link(keys: NDArray[np.generic], ranks: Integers, hashes: Hashes, bounds: Bounds) -> tuple[Integers, Integers]:
    """Link the rows of whole buckets, sorted by key and then rank: edges (E, 2) of rank and hub's rank; popular ranks."""
    starts = np.flatnonzero(_begins(keys))
    sizes = np.diff(starts, append=len(keys))
    size_of_row = np.repeat(sizes, sizes)
    crowded = size_of_row > bounds.max_bucket
    rows = np.flatnonzero((size_of_row > 1) & ~crowded)

    def near(first: Integers, second: Integers) -> NDArray[np.bool_]:
        return distances(hashes[rows[first]], hashes[rows[second]]) <= bounds.distance

    return ranks[rows[_hubs(keys[rows], near)]], ranks[crowded]


def choose(labels: NDArray[np.generic], hashes: Hashes, thumbnails: NDArray[np.uint8], bounds: Bounds) -> Integers:
    """Of whole components, sorted by label and then rank: (D, 2) of the place of a row to drop and of the row kept for it."""

    def alike(first: Integers, second: Integers) -> NDArray[np.bool_]:
        near = distances(hashes[first], hashes[second]) <= bounds.distance
        near[near] = same_thumbnails(thumbnails[first[near]], thumbnails[second[near]], bounds.difference)
        return near

    return _hubs(labels, alike)


def components(num_rows: int, edges: Integers) -> Integers:
    """The smallest row of each row's connected component: array (N,)."""
    labels = np.arange(num_rows)
    while True:
        before = labels.copy()
        np.minimum.at(labels, edges[:, 0], before[edges[:, 1]])
        np.minimum.at(labels, edges[:, 1], before[edges[:, 0]])
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def _hubs(groups: NDArray[np.generic], alike: Alike) -> Integers:
    """Pairs (place, place of its hub): in each group the first is a hub; it takes its like; the first left is the next.

    groups [5 5 5 8 8], 0 ~ 2 and 3 ~ 4   ->   [[2, 0], [4, 3]]; place 1 stays alone
    """
    places, found = np.arange(len(groups)), [np.empty((0, 2), np.int64)]
    for _ in range(MAX_HUBS):
        first = _begins(groups[places])
        hubs = places[np.flatnonzero(first)][np.cumsum(first) - 1]
        taken = first.copy()
        for part in _parts(np.flatnonzero(~first)):
            taken[part] = alike(places[part], hubs[part])
        members = taken & ~first
        found.append(np.stack([places[members], hubs[members]], axis=1))
        places = places[~taken]
        if not len(places):
            break
    return np.concatenate(found)


def _begins(groups: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where a sorted array takes a new value."""
    begins = np.ones(len(groups), np.bool_)
    begins[1:] = groups[1:] != groups[:-1]
    return begins


def _parts(places: Integers) -> Iterator[Integers]:
    for start in range(0, len(places), CHUNK_ROWS):
        yield places[start : start + CHUNK_ROWS]
