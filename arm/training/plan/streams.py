"""The order of one kind's documents, epoch after epoch, in blocks: shards in a keyed order, `shuffle_shards` of them open.

    each open shard   its documents in a keyed order (seed, kind, epoch, shard)
    next document     of an open shard, drawn in proportion to what is left in it
    an empty shard    gives its place to the next of the epoch; an epoch is read to its end before the next begins

A stream's state is a few numbers (`state`, `put_back`): the shards that are open, how much of each is read, and how many
were drawn. Memory holds the open shards.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from arm.errors import UserError
from arm.model.documents import KINDS
from arm.training.config import EpochLimit, MixtureConfig
from arm.training.plan import kernel
from arm.training.plan.rows import Found

FIRST_BLOCK, LARGEST_BLOCK = 1 << 10, 1 << 16
"""Documents of the first block; each is twice as large as the one before, up to the largest."""
State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents of one kind, as columns."""

    shards: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    epochs: npt.NDArray[np.int32]
    choices: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]


class Index(Protocol):
    """Where documents lie and how long they are; a shard's lengths are read when it is asked for."""

    @property
    def num_shards(self) -> int:
        """Shards, numbered from 0."""
        ...

    @property
    def identity(self) -> str:
        """What names the data: another index, another plan."""
        ...

    def name(self, shard: int) -> str:
        """The name of a shard."""
        ...

    def find(self, kind: str, shard: int, epoch: int) -> Found:
        """The documents of a kind in a shard; held-out ones are never among them."""
        ...


@dataclass(slots=True)
class _Open:
    """A shard that is read."""

    shard: int
    taken: int
    found: Found


class Stream:
    """One kind's documents. `block` is at hand; `next_block` replaces it."""

    def __init__(self, index: Index, kind: str, mixture: MixtureConfig, *, seed: int, capacity: int) -> None:
        self.kind, self.limit = kind, mixture.limits.get(kind, EpochLimit())
        self._index, self._mixture, self._seed, self._capacity = index, mixture, seed, capacity
        self._open: list[_Open] = []
        self._epoch = self._next = self._drawn = self._blocks = self._found_in_epoch = 0
        self.too_long, self.ended = 0, False
        self.order = self._order()
        self.before = self._state()
        """The state before the block at hand."""

    def next_block(self) -> Documents | None:
        """The next documents; None once the kind has ended."""
        self.before = self._state()
        size = min(FIRST_BLOCK << min(self._blocks, 6), LARGEST_BLOCK)
        self._blocks += 1
        pieces, made = [], 0
        while made < size and self._fill():
            pieces.append(self._draw(size - made))
            made += len(pieces[-1].rows)
        if not pieces:
            self.before = self._state()  # no block follows: what was counted on the way to the end stays counted
            return None
        names = Documents.__dataclass_fields__
        return Documents(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names})

    def put_back(self, state: State) -> None:
        """Go back to a state: the next block is the one that followed it."""
        numbers = ("epoch", "next", "drawn", "blocks", "found_in_epoch")
        self._epoch, self._next, self._drawn, self._blocks, self._found_in_epoch = (state[name] for name in numbers)
        self.too_long, self.ended = state["too_long"], state["ended"]
        self.order = self._order()
        self._open = [self._opened(shard, taken)[0] for shard, taken in state["open"]]
        self.before = self._state()

    def _state(self) -> State:
        return {
            "epoch": self._epoch, "next": self._next, "drawn": self._drawn, "blocks": self._blocks,
            "found_in_epoch": self._found_in_epoch, "too_long": self.too_long, "ended": self.ended,
            "open": [[item.shard, item.taken] for item in self._open],
        }  # fmt: skip

    def _fill(self) -> bool:
        """Open shards until enough are open; False once the kind has ended."""
        while not self.ended:
            while len(self._open) < self._mixture.shuffle_shards and self._next < len(self.order):
                opened, left_out = self._opened(int(self.order[self._next]), 0)
                self._next += 1
                self._count(opened, left_out)
                if len(opened.found.rows):
                    self._open.append(opened)
            if self._open:
                return True
            self._begin_epoch()
        return False

    def _begin_epoch(self) -> None:
        if not self._found_in_epoch:
            raise UserError(
                f"No {self.kind} sample fits into {self._capacity} tokens, or there is none; give that source a share "
                "of 0, more data, or longer sequences."
            )
        self._epoch += 1
        self._next = self._drawn = self._found_in_epoch = 0
        self.ended = self.limit.at_end != "repeat" and self._epoch >= self.limit.max_epochs
        self.order = self._order()

    def _order(self) -> npt.NDArray[np.int32]:
        """The epoch's order of shards."""
        order: npt.NDArray[np.int32] = kernel.shuffle(self._index.num_shards, self._key("shards"))
        return order

    def _opened(self, shard: int, taken: int) -> tuple[_Open, int]:
        """A shard with what fits of it, shuffled, and how many do not fit."""
        found = self._index.find(self.kind, shard, self._epoch)
        fits = np.flatnonzero(found.lengths <= self._capacity)
        order = fits[kernel.shuffle(len(fits), self._key("documents", shard))]
        opened = _Open(shard, taken, Found(found.rows[order], found.choices[order], found.lengths[order]))
        return opened, len(found.lengths) - len(fits)

    def _count(self, opened: _Open, left_out: int) -> None:
        """Account for a shard that is opened for the first time in its epoch."""
        if left_out and self._mixture.too_long == "refuse":
            raise UserError(
                f"{left_out} {self.kind} samples of {self._index.name(opened.shard)} are longer than a row of "
                f"{self._capacity} tokens; set MixtureConfig.too_long to 'drop', or lengthen the rows."
            )
        self.too_long += left_out
        self._found_in_epoch += len(opened.found.rows)

    def _draw(self, size: int) -> Documents:
        """At most `size` documents, up to the one that empties a shard."""
        left = np.asarray([len(item.found.rows) - item.taken for item in self._open], np.int64)
        slots = np.empty(min(size, int(left.sum())), np.uint16)
        num_drawn = kernel.interleave(left, self._key("order"), self._drawn, slots)
        self._drawn += num_drawn
        slots = slots[:num_drawn]
        places = np.argsort(slots, kind="stable")
        drawn = Documents(*(np.empty(num_drawn, np.int32) for _ in range(5)))
        drawn.epochs[:] = self._epoch
        ends = np.cumsum(np.bincount(slots, minlength=len(self._open)))
        for item, start, end in zip(self._open, [0, *ends[:-1]], ends, strict=True):
            some, here = slice(item.taken, item.taken + end - start), places[start:end]
            drawn.shards[here] = item.shard
            drawn.rows[here] = item.found.rows[some]
            drawn.choices[here] = item.found.choices[some]
            drawn.lengths[here] = item.found.lengths[some]
            item.taken += int(end - start)
        self._open = [item for item in self._open if item.taken < len(item.found.rows)]
        return drawn

    def _key(self, what: str, number: int = 0) -> np.uint64:
        text = f"{what} {self._seed} {KINDS.index(self.kind)} {self._epoch} {number}"
        return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
