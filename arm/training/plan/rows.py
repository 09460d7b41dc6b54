"""Rows of documents as columns, and the choices of a document in one number.

row 0 [7 8] row 1 [9]    ->    starts 0 2 3      kinds, shards, rows, epochs, choices, lengths: one value a document
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from arm.model.documents import KINDS

Integers = npt.NDArray[np.int64]
COLUMNS = {"kinds": "<i1", "shards": "<i4", "rows": "<i4", "epochs": "<i4", "choices": "<i4", "lengths": "<i4"}
"""The columns of documents that a digest covers, as little-endian bytes."""
MAX_VARIANTS = 64
_VARIANT_SHIFT, _STRIDE_SHIFT = 2, 8


class Choice(NamedTuple):
    """What was drawn for documents: numbers, or arrays of them."""

    drop: Any
    """KEEP_ALL, DROP_TEXT, DROP_IMAGE or DROP_BOTH."""
    variant: Any
    """Which text of a part: its own (0) or a variant of it."""
    stride: Any
    """Of a video: every k-th frame is kept."""


def packed_choices(choice: Choice) -> Any:
    """Choices as one number each: two bits of drop, six of variant, the rest of stride."""
    return choice.drop | choice.variant << _VARIANT_SHIFT | choice.stride << _STRIDE_SHIFT


def unpacked_choices(numbers: Any) -> Choice:
    """The choices in numbers of `packed_choices`."""
    return Choice(numbers & 3, numbers >> _VARIANT_SHIFT & MAX_VARIANTS - 1, numbers >> _STRIDE_SHIFT)


@dataclass(frozen=True, slots=True)
class Found:
    """Documents of one kind in one shard, in the order of its rows, with what was drawn for them in an epoch."""

    rows: npt.NDArray[np.int32]
    choices: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of the plan: the columns of their documents, row after row."""

    kinds: npt.NDArray[np.int8]
    """Index into KINDS."""
    shards: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    """Row in the shard."""
    epochs: npt.NDArray[np.int32]
    choices: npt.NDArray[np.int32]
    """What was drawn for the document: see `unpacked_choices`."""
    lengths: npt.NDArray[np.int32]
    selected: Integers
    """The how-manieth document it was when the mixture chose it; −1 where that is not known any more."""
    starts: Integers
    """Where each row starts; one more at the end."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def part(self, first: int, last: int) -> "Rows":
        """The rows from `first` to `last`, as views."""
        some = slice(int(self.starts[first]), int(self.starts[last]))
        columns = {name: getattr(self, name)[some] for name in (*COLUMNS, "selected")}
        return Rows(**columns, starts=self.starts[first : last + 1] - self.starts[first])

    def row(self, number: int) -> slice:
        """The documents of a row."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))

    def squared_lengths(self) -> list[int]:
        """Per row, Σ length²: what its attention costs."""
        squares = np.square(self.lengths.astype(np.int64))
        totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(squares)])
        costs: list[int] = (totals[self.starts[1:]] - totals[self.starts[:-1]]).tolist()
        return costs

    def digest(self) -> bytes:
        """A digest of the documents and of where rows start."""
        hasher = hashlib.sha256()
        for name, kind in COLUMNS.items():
            hasher.update(np.ascontiguousarray(getattr(self, name), dtype=kind).tobytes())
        hasher.update(np.ascontiguousarray(self.starts, dtype="<i8").tobytes())
        return hasher.digest()

    def fill(self, capacity: int) -> float:
        """Share of the rows' places that hold a token."""
        return float(self.lengths.sum(dtype=np.int64) / max(len(self) * capacity, 1))

    def tokens_of_kinds(self) -> Integers:
        """Tokens of each kind."""
        found: Integers = np.bincount(self.kinds, weights=self.lengths, minlength=len(KINDS)).astype(np.int64)
        return found


def no_rows() -> Rows:
    """No row at all."""
    columns: dict[str, Any] = {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}
    return Rows(**columns, selected=np.zeros(0, np.int64), starts=np.zeros(1, np.int64))


def joined_rows(pieces: Sequence[Rows]) -> Rows:
    """Rows one after another."""
    pieces = pieces or [no_rows()]
    columns = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in (*COLUMNS, "selected")}
    counts = np.concatenate([np.diff(piece.starts) for piece in pieces])
    return Rows(**columns, starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))
