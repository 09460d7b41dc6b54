"""The recorder: writes the ledger while a run trains. Rank 0 has one.

It asks the loader which documents a step holds, on all ranks, and keeps eight bytes of each until its file is complete.
Its state is what the checkpoint holds of each step (`Consumed`): a run that goes on from a checkpoint lists the steps of
the unfinished file anew, so that every step is there once.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from arm.model.documents import KINDS
from arm.storage import Folder
from arm.training.ledger.attempts import AttemptsLog
from arm.training.ledger.format import (
    STEPS_PER_FILE,
    Consumed,
    Group,
    Listing,
    documents_name,
    steps_name,
    write_documents,
    write_steps,
)
from arm.training.ledger.identity import identity_sum, shard_keys


class Documents(Protocol):
    """The documents of a step, on all ranks: parallel columns."""

    @property
    def kinds(self) -> npt.NDArray[np.integer]:
        """Places in KINDS."""
        ...

    @property
    def shards(self) -> npt.NDArray[np.integer]:
        """Places in the names of the shards."""
        ...

    @property
    def rows(self) -> npt.NDArray[np.integer]:
        """Rows of those shards."""
        ...

    @property
    def epochs(self) -> npt.NDArray[np.integer]:
        """Epochs of those kinds."""
        ...


_GROUP_SHIFT, _ROW_SHIFT, _STEP_MASK = np.uint64(44), np.uint64(12), np.uint64(4095)
"""A document is kept as group · 2^44 + row · 2^12 + step inside the file: sorting the numbers sorts the documents."""


class Recorder:
    """Records the steps of a run in order."""

    def __init__(
        self,
        output: Folder,
        documents_of: Callable[[int], Documents],
        shard_names: Sequence[str],
        *,
        num_ranks: int,
        steps_per_file: int = STEPS_PER_FILE,
        tombstones: str = "",
    ) -> None:
        assert steps_per_file <= _STEP_MASK, f"a file of {steps_per_file} steps"
        self._output, self._documents_of, self._names = output, documents_of, shard_names
        self._keys = shard_keys(shard_names)
        self._steps_per_file = steps_per_file
        self._attempts = AttemptsLog(output, num_ranks=num_ranks, tombstones=tombstones)
        self._first, self._consumed = 0, list[Consumed]()
        self._groups: dict[int, int] = {}
        self._documents: list[npt.NDArray[np.uint64]] = []

    def begin(self, consumed: Sequence[Sequence[int]]) -> None:
        """Start after the steps that a checkpoint holds; files of theirs that are missing are written."""
        self._attempts.begin(len(consumed))
        size = self._steps_per_file
        for first in range(0, len(consumed), size):
            self._open(first)
            if first + size <= len(consumed) and self._is_published(first // size):
                continue
            for values in consumed[first : first + size]:
                self._add(Consumed(*values))
        if len(consumed) % size == 0:
            self._open(len(consumed))

    def record(self, values: Sequence[int]) -> None:
        """Add the next step: what the ranks counted and hashed of it."""
        consumed = Consumed(*values)
        self._attempts.note(self._first + len(self._consumed), consumed.digest, consumed.identity)
        self._add(consumed)

    def close(self) -> None:
        """Write the last file."""
        if self._consumed:
            self._publish()
        self._attempts.publish()

    def _open(self, first_step: int) -> None:
        self._first, self._consumed, self._groups, self._documents = first_step, [], {}, []

    def _is_published(self, number: int) -> bool:
        return all(self._output.exists(name) for name in (steps_name(number), documents_name(number)))

    def _add(self, consumed: Consumed) -> None:
        step = self._first + len(self._consumed)
        found = self._documents_of(step)
        listed = identity_sum(found.kinds, self._keys[found.shards], found.rows, found.epochs)
        assert listed == consumed.identity, f"step {step}: the ranks fed other documents than the plan lists"
        groups = (found.shards.astype(np.int64) * 2**20 + found.epochs) * len(KINDS) + found.kinds
        distinct, which = np.unique(groups, return_inverse=True)
        numbers = [self._groups.setdefault(group, len(self._groups)) for group in distinct.tolist()]
        packed = np.asarray(numbers, np.uint64)[which] << _GROUP_SHIFT
        packed |= found.rows.astype(np.uint64) << _ROW_SHIFT
        self._documents.append(packed | np.uint64(len(self._consumed)))
        self._consumed.append(consumed)
        if len(self._consumed) == self._steps_per_file:
            self._publish()

    def _publish(self) -> None:
        """Write the file that is open and open the next."""
        number = self._first // self._steps_per_file
        with self._output.publish(documents_name(number)) as path:
            write_documents(path, self._listing())
        with self._output.publish(steps_name(number)) as path:
            write_steps(path, self._first, self._consumed)
        self._open(self._first + len(self._consumed))

    def _listing(self) -> Listing:
        """The documents in order of kind, shard, epoch and row."""
        packed = np.concatenate(self._documents)
        self._documents.clear()
        codes = sorted(self._groups, key=lambda code: (code % len(KINDS), code // len(KINDS)))
        order = np.zeros(len(codes), np.uint64)
        order[[self._groups[code] for code in codes]] = np.arange(len(codes), dtype=np.uint64)
        rest = packed & ((np.uint64(1) << _GROUP_SHIFT) - np.uint64(1))
        packed = (order[packed >> _GROUP_SHIFT] << _GROUP_SHIFT) | rest
        packed.sort()
        starts = np.searchsorted(packed, np.arange(len(codes) + 1, dtype=np.uint64) << _GROUP_SHIFT)
        rows = (packed >> _ROW_SHIFT).astype(np.uint32)
        steps = (packed & _STEP_MASK).astype(np.uint32) + np.uint32(self._first)
        return Listing([self._group(code) for code in codes], starts.astype(np.int64), rows, steps)

    def _group(self, code: int) -> Group:
        """The group behind (shard · 2^20 + epoch) · number of kinds + kind."""
        place, kind = divmod(code, len(KINDS))
        shard, epoch = divmod(place, 2**20)
        return Group(KINDS[kind], self._names[shard], epoch)
