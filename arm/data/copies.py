"""Copies: of samples with the same content or the same uid the first stays.

    place     0  1  2  3  4
    content   a  a  b  c  c        1 is a copy of 0. 2 stays, although it has 1's uid: 1 is none that stays
    uid       p  q  q  r  r        4 is a copy of 3

As if one sample were looked at after the other, with keys sorted instead of remembered: 8 bytes a sample beside the keys.
"""

import numpy as np
from numpy.typing import NDArray

from arm.data.measured import Integers, Words

NOBODY = -1


def find_copies(uids: Words, contents: Words, alive: NDArray[np.bool_], num_known: int) -> tuple[Integers, Integers]:
    """Places of copies among the living, and the place of the one that each is a copy of, by its content before its uid;
    the first `num_known` are none."""
    groups = [_shared(words, alive) for words in (contents, uids)]
    places = np.union1d(*(found for found, _ in groups))
    labels = [_labels(places, *group) for group in groups]
    owners = [np.full(int(numbers.max(initial=-1)) + 1, NOBODY) for numbers in labels]
    waiting = np.flatnonzero(places >= num_known)
    kept = np.flatnonzero(places < num_known)
    while True:
        for numbers, owner in zip(labels, owners, strict=True):
            owner[numbers[kept]] = kept
        free = [owner[numbers[waiting]] == NOBODY for numbers, owner in zip(labels, owners, strict=True)]
        waiting = waiting[free[0] & free[1]]
        if not len(waiting):
            break
        kept = waiting[_first(labels[0][waiting]) & _first(labels[1][waiting])]
    by_content, by_uid = (owner[numbers] for numbers, owner in zip(labels, owners, strict=True))
    rows = np.arange(len(places))
    copies = np.flatnonzero((by_content != rows) & (places >= num_known))
    told = by_content[copies]
    told = np.where((told != NOBODY) & (told < copies), told, by_uid[copies])
    return places[copies], places[told]


def _shared(words: Words, alive: NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """The living places whose key another has too, sorted by key and then place, and a number for each key."""
    order = np.lexsort((words[1], words[0]))
    order = order[alive[order]]
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for half in words:
        sorted_half = half[order]
        same &= sorted_half[1:] == sorted_half[:-1]
    before, after = np.concatenate([[False], same]), np.concatenate([same, [False]])
    shared = (before | after)[: len(order)]
    return order[shared], np.cumsum(~before[: len(order)][shared]) - 1


def _labels(places: Integers, shared: Integers, numbers: Integers) -> Integers:
    """The number of each place's key; a key that is shared with nobody gets one of its own."""
    labels = np.arange(len(places)) + int(numbers.max(initial=-1)) + 1
    labels[np.searchsorted(places, shared)] = numbers
    return labels


def _first(labels: Integers) -> NDArray[np.bool_]:
    """Whether nobody before has the same number."""
    mask = np.zeros(len(labels), np.bool_)
    mask[np.unique(labels, return_index=True)[1]] = True
    return mask
