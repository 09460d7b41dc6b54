"""Best-fit packing of documents into rows, without cropping.

    capacity 8, at most 2 open rows        5 4 3 2 …
    5 -> row A (3 left)   4 -> row B (4 left)   3 -> row A (full: closed)   2 -> row B (2 left) …

Each document goes into the fullest open row that still holds it. Where none does, a new row is opened, and if that is
one too many, the fullest is closed as it is. Rows come out in the order of their closing; what is open at the end stays
in the state. Integers only: the same on every platform.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Packer:
    """Open rows by the space left in them. `_mask` has bit s set when some row has exactly s tokens left."""

    capacity: int
    max_open: int
    _rows: dict[int, list[list[int]]] = field(default_factory=dict)
    _mask: int = 0
    _num_open: int = 0

    def add(self, document: int, length: int) -> Iterator[list[int]]:
        """Place a document; yields the rows that this closes, each a list of documents."""
        assert 0 < length <= self.capacity, f"a document of {length} tokens in rows of {self.capacity}"
        fitting = self._mask >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = self._take(space)
        else:
            if self._num_open == self.max_open:
                yield self._take((self._mask & -self._mask).bit_length() - 1)
            space, row = self.capacity, []
        row.append(document)
        if space == length:
            yield row
        else:
            self._put(space - length, row)

    def _take(self, space: int) -> list[int]:
        """Remove the oldest row with exactly this space."""
        rows = self._rows[space]
        row = rows.pop(0)
        if not rows:
            self._mask &= ~(1 << space)
        self._num_open -= 1
        return row

    def _put(self, space: int, row: list[int]) -> None:
        self._rows.setdefault(space, []).append(row)
        self._mask |= 1 << space
        self._num_open += 1


def deal(costs: list[int], num_ranks: int) -> list[list[int]]:
    """Deal rows to ranks in equal numbers and about equal cost: dearest first, each to the cheapest rank with room.

    costs [9 1 5 5], 2 ranks  ->  [[0, 1], [2, 3]]
    """
    share = len(costs) // num_ranks
    assert share * num_ranks == len(costs), f"{len(costs)} rows do not divide among {num_ranks} ranks"
    hands: list[list[int]] = [[] for _ in range(num_ranks)]
    totals = [0] * num_ranks
    for row in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        rank = min((r for r in range(num_ranks) if len(hands[r]) < share), key=lambda r: (totals[r], r))
        hands[rank].append(row)
        totals[rank] += costs[row]
    return [sorted(hand) for hand in hands]
