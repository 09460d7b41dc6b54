"""Repeats and the order of epochs, seen file by file: memory holds a bit of each document of the shards in use."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from arm.errors import IntegrityError
from arm.training.ledger.format import Group, Listing

Bits = npt.NDArray[np.bool_]


class Place(NamedTuple):
    """Where a repeated document lies."""

    step: int
    group: Group
    row: int


class SeenDocuments:
    """What was consumed so far. `last_files` maps each group to the number of the last file that lists it."""

    def __init__(self, last_files: dict[Group, int]) -> None:
        self._last_files = last_files
        self._seen: dict[Group, Bits] = {}
        self._sizes: Counter[tuple[str, int]] = Counter()
        self._late: Counter[tuple[str, int]] = Counter()

    @property
    def num_late(self) -> int:
        """Documents that came after their own next epoch: they waited in an open row of the packing."""
        return self._late.total()

    @property
    def num_epochs(self) -> int:
        """Epochs that the kind with the most of them began."""
        return 1 + max((epoch for _, epoch in self._sizes), default=-1)

    def add(self, number: int, listing: Listing) -> None:
        """Take the next file; IntegrityError names the first step that repeats a document within its epoch."""
        repeats = [place for group in range(len(listing.groups)) for place in self._repeats(listing, group)]
        if repeats:
            first = min(repeats)
            raise IntegrityError(
                f"step {first.step} repeats a document: row {first.row} of {first.group.shard} as {first.group.kind}, "
                f"epoch {first.group.epoch}, was consumed before"
            )
        here = {group: index for index, group in enumerate(listing.groups)}
        for index, group in enumerate(listing.groups):
            self._late[group.kind, group.epoch] += self._count_late(listing, index, here.get(_next(group)))
        for index, group in enumerate(listing.groups):
            self._sizes[group.kind, group.epoch] += len(_rows(listing, index))
            self._keep(group, _rows(listing, index))
        self._forget(number)

    def check_epochs(self, most_open: int) -> None:
        """Epochs follow one another, but for the `most_open` documents that can wait in open rows of the packing."""
        for (kind, epoch), late in sorted(self._late.items()):
            if late > most_open:
                raise IntegrityError(
                    f"{late} {kind} documents of epoch {epoch} came after those of epoch {epoch + 1}; "
                    f"at most {most_open} can have waited in open rows."
                )
        for (kind, epoch), size in sorted(self._sizes.items()):
            if epoch and size > most_open and not self._sizes[kind, epoch - 1]:
                raise IntegrityError(f"epoch {epoch} of {kind} came and epoch {epoch - 1} never did.")

    def _repeats(self, listing: Listing, index: int) -> list[Place]:
        group, rows = listing.groups[index], _rows(listing, index)
        steps = listing.steps[listing.starts[index] : listing.starts[index + 1]]
        found = []
        twice = np.flatnonzero(rows[1:] == rows[:-1])
        if len(twice):
            later = np.maximum(steps[twice], steps[twice + 1])
            found.append(Place(int(later.min()), group, int(rows[twice[later.argmin()]])))
        again = np.flatnonzero(_taken(self._seen.get(group), rows))
        if len(again):
            first = again[steps[again].argmin()]
            found.append(Place(int(steps[first]), group, int(rows[first])))
        return found

    def _count_late(self, listing: Listing, index: int, following: int | None) -> int:
        """How many documents of a group come after their next epoch."""
        rows = _rows(listing, index)
        late = _taken(self._seen.get(_next(listing.groups[index])), rows)
        if following is not None:
            others = _rows(listing, following)
            _, mine, theirs = np.intersect1d(rows, others, assume_unique=True, return_indices=True)
            steps = listing.steps[listing.starts[index] : listing.starts[index + 1]]
            late[mine] |= steps[mine] > listing.steps[listing.starts[following] + theirs]
        return int(late.sum())

    def _keep(self, group: Group, rows: npt.NDArray[np.uint32]) -> None:
        bits = self._seen.get(group, np.zeros(0, np.bool_))
        if len(bits) <= rows[-1]:
            bits = np.concatenate([bits, np.zeros(int(rows[-1]) + 1 - len(bits), np.bool_)])
        bits[rows] = True
        self._seen[group] = bits

    def _forget(self, number: int) -> None:
        """Drop what no later file can repeat or come after."""
        for group in list(self._seen):
            before = group._replace(epoch=group.epoch - 1)
            if max(self._last_files.get(g, -1) for g in (group, before)) <= number:
                del self._seen[group]


def last_files(files: Iterable[Sequence[Group]]) -> dict[Group, int]:
    """The number of the last file that lists each group."""
    return {group: number for number, groups in enumerate(files) for group in groups}


def _next(group: Group) -> Group:
    return group._replace(epoch=group.epoch + 1)


def _rows(listing: Listing, index: int) -> npt.NDArray[np.uint32]:
    return listing.rows[listing.starts[index] : listing.starts[index + 1]]


def _taken(bits: Bits | None, rows: npt.NDArray[np.uint32]) -> Bits:
    """Which rows are marked."""
    if bits is None:
        return np.zeros(len(rows), np.bool_)
    inside = rows < len(bits)
    taken = np.zeros(len(rows), np.bool_)
    taken[inside] = bits[rows[inside]]
    return taken
