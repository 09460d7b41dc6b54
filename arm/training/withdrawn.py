"""Documents that were taken down: their slots in the plan stay, filled with padding of which nothing is learned.

    withdrawn = Withdrawn(shards, {"00ab…"})
    withdrawn.holds(7, 3)               whether row 3 of shard 7 was taken down
    padding_document(9, kind, end)      nine tokens in the place of a document of nine

Plan, order of rows, documents and tokens of every step, and the identities in the ledger are what they were. A set is
fixed when a process starts: a run that goes on picks up what was taken down meanwhile at its next start.
"""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from arm.model.documents import Document
from arm.model.token_shards import ShardLengths


class Withdrawn:
    """Which rows of token shards were taken down, found shard by shard when it is asked."""

    def __init__(self, shards: Sequence[ShardLengths], uids: Collection[str]) -> None:
        self._shards = shards
        numbers = np.frombuffer(b"".join(bytes.fromhex(uid) for uid in sorted(uids)), "<u8").reshape(-1, 2)
        self._keys, self._uids = np.unique(numbers[:, 0]), {tuple(pair) for pair in numbers.tolist()}
        self._rows: dict[int, frozenset[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._uids)

    def holds(self, shard: int, row: int) -> bool:
        """Whether a row of a shard was taken down."""
        return bool(self._uids) and row in self.rows(shard)

    def rows(self, shard: int) -> frozenset[int]:
        """The rows of a shard that were taken down."""
        if not self._uids:
            return frozenset()
        if shard not in self._rows:
            uids: npt.NDArray[np.uint64] = self._shards[shard].uids
            likely = np.flatnonzero(np.isin(uids[:, 0], self._keys)).tolist()
            self._rows[shard] = frozenset(row for row in likely if tuple(uids[row].tolist()) in self._uids)
        return self._rows[shard]


def padding_document(length: int, kind: int, end_of_text: int) -> Document:
    """A document of a length and kind that holds nothing and teaches nothing."""
    return Document(np.full(length, end_of_text, np.int64), np.zeros(length, np.bool_), kind)
