"""The mixture planner: which documents, in which rows, at which step. A pure function of (shards, mixture, seed).

    next kind      the one whose tokens lag most behind the integral of its declared share (whole numbers)
    next document  the next of that kind in its epoch's order: shards permuted, rows shuffled inside a window of shards
    its drop       drawn from (seed, uid, epoch, kind), because it changes the length
    its row        best fit over the open rows

Shares are shares of tokens. Held-out samples are never planned. Every rank computes the same plan; step s takes the
rows s·R to (s+1)·R.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from arm.errors import UserError
from arm.model.documents import (
    DROP_BOTH,
    DROP_IMAGE,
    DROP_TEXT,
    KEEP_ALL,
    KINDS,
    TASKS_OF_KIND,
    document_lengths,
)
from arm.model.sampling import mix64
from arm.model.token_shards import Shard
from arm.training.config import MixtureConfig, Schedule
from arm.training.packing import Packer

PARTS_PER_MILLION = 1_000_000
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entries:
    """All documents of one kind: where each sample lies."""

    shards: Integers
    rows: Integers


@dataclass(frozen=True, slots=True)
class Plan:
    """Documents in selection order, and rows of them. Columns of documents are parallel arrays."""

    kinds: Integers
    shards: Integers
    rows: Integers
    epochs: Integers
    drops: Integers
    lengths: Integers
    packed: Integers
    """Documents row after row."""
    packed_starts: Integers
    """Where each row starts in `packed`; one more at the end."""

    @property
    def num_rows(self) -> int:
        return len(self.packed_starts) - 1

    def row(self, index: int) -> Integers:
        """The documents of a row."""
        return self.packed[self.packed_starts[index] : self.packed_starts[index + 1]]

    @property
    def digest(self) -> str:
        """A digest of the whole plan: half of the loader's state, {plan digest, step}."""
        hasher = hashlib.sha256()
        for column in (self.kinds, self.shards, self.rows, self.epochs, self.drops, self.lengths, self.packed):
            hasher.update(np.ascontiguousarray(column).tobytes())
        hasher.update(self.packed_starts.tobytes())
        return hasher.hexdigest()

    def fill(self, capacity: int) -> float:
        """Share of the rows' places that hold a token."""
        return float(self.lengths[self.packed].sum() / max(self.num_rows * capacity, 1))

    def share_of_tokens(self) -> dict[str, float]:
        """Realised share of tokens by kind, over the rows."""
        totals = np.bincount(self.kinds[self.packed], weights=self.lengths[self.packed], minlength=len(KINDS))
        return {kind: float(value / max(totals.sum(), 1)) for kind, value in zip(KINDS, totals, strict=True)}


def plan(shards: Sequence[Shard], mixture: MixtureConfig, *, seed: int, num_rows: int, sequence_length: int) -> Plan:
    """Plan `num_rows` rows of `sequence_length` tokens."""
    schedules = kind_schedules(mixture)
    streams = [
        _Stream(shards, kind, mixture, seed, sequence_length) if max(share for _, share in schedule) > 0 else None
        for kind, schedule in schedules.items()
    ]
    deficits = _Deficits(list(schedules.values()), num_rows * sequence_length)
    packer = Packer(sequence_length, mixture.window_rows)
    chosen: list[tuple[int, int]] = []
    lengths: list[int] = []
    rows: list[list[int]] = []
    while len(rows) < num_rows:
        kind = deficits.largest()
        stream = streams[kind]
        assert stream is not None
        place, length = stream.next()
        rows.extend(packer.add(len(chosen), length))
        chosen.append((kind, place))
        lengths.append(length)
        deficits.count(kind, length)
    return _assemble(streams, chosen, lengths, rows[:num_rows])


def kind_schedules(mixture: MixtureConfig) -> dict[str, Schedule]:
    """The share of tokens of each kind of document over the stage.

    image_to_text .10, caption_share .3  ->  caption .03, question .07
    """

    def part(schedule: Schedule, share: float) -> Schedule:
        return tuple((place, value * share) for place, value in schedule)

    return {
        "text": mixture.text_only,
        "caption": part(mixture.image_to_text, mixture.caption_share),
        "question": part(mixture.image_to_text, 1 - mixture.caption_share),
        "text_to_image": mixture.text_to_image,
        "interleaved_video": mixture.interleaved_video,
        "edit": part(mixture.interleaved_web, mixture.edit_share),
        "interleaved_web": part(mixture.interleaved_web, 1 - mixture.edit_share),
    }


def held_out_entries(shards: Sequence[Shard], kind: str, mixture: MixtureConfig) -> Entries:
    """The held-out samples of a kind, in the order of the shards."""
    return _entries(shards, kind, mixture, held_out=True)


def draw_drops(
    uid_keys: npt.NDArray[np.uint64], kind: str, mixture: MixtureConfig, *, seed: int, epoch: int
) -> Integers:
    """What each document loses in this epoch: a function of (seed, uid, epoch, kind)."""
    with np.errstate(over="ignore"):
        salt = mix64(np.asarray([seed, epoch, KINDS.index(kind)], dtype=np.uint64) + np.uint64(1))
        mixed = mix64(mix64(uid_keys ^ salt[0]) + salt[1] ^ salt[2])
    uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    if kind == "text_to_image":
        return np.where(uniform < mixture.drop_text, DROP_TEXT, KEEP_ALL)
    if kind == "edit":
        edges = np.cumsum([mixture.edit_drop_text, mixture.edit_drop_image, mixture.edit_drop_both])
        outcomes = np.asarray([DROP_TEXT, DROP_IMAGE, DROP_BOTH, KEEP_ALL])
        return outcomes[np.searchsorted(edges, uniform, side="right")]
    return np.full(len(uid_keys), KEEP_ALL)


class _Stream:
    """The endless order of one kind's documents, epoch by epoch."""

    def __init__(self, shards: Sequence[Shard], kind: str, mixture: MixtureConfig, seed: int, capacity: int) -> None:
        self.kind, self.entries = kind, _entries(shards, kind, mixture, held_out=False)
        self._shards, self._mixture, self._seed, self._capacity = shards, mixture, seed, capacity
        self.order: list[Integers] = []
        self.epochs: list[Integers] = []
        self.drops: list[Integers] = []
        self._lengths: Iterator[int] = iter(())
        self._place = -1

    def next(self) -> tuple[int, int]:
        """(place in this stream, tokens) of the next document."""
        length = next(self._lengths, None)
        if length is None:
            self._open_epoch()
            length = next(self._lengths)
        self._place += 1
        return self._place, length

    def _open_epoch(self) -> None:
        epoch = len(self.order)
        order = _epoch_order(self.entries, KINDS.index(self.kind), epoch, self._seed, self._mixture.shuffle_shards)
        drops, lengths = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
        for number in np.unique(self.entries.shards):
            here = self.entries.shards[order] == number
            rows, shard = self.entries.rows[order[here]], self._shards[number]
            drops[here] = draw_drops(shard.uid_keys[rows], self.kind, self._mixture, seed=self._seed, epoch=epoch)
            lengths[here] = document_lengths(shard, rows, self.kind, drops[here])
        fits = lengths <= self._capacity
        if not fits.any():
            raise UserError(
                f"No {self.kind} sample fits into {self._capacity} tokens, or there is none; give that source a share of 0, "
                "more data, or longer sequences."
            )
        self.order.append(order[fits])
        self.epochs.append(np.full(int(fits.sum()), epoch))
        self.drops.append(drops[fits])
        self._lengths = iter(lengths[fits].tolist())


class _Deficits:
    """How many tokens each kind lags behind the integral of its share, doubled and in millionths: whole numbers."""

    def __init__(self, schedules: list[Schedule], total: int) -> None:
        self._segments = [_segments(schedule, total) for schedule in schedules]
        self._current = [segments.pop(0) for segments in self._segments]
        self._taken = [0] * len(schedules)
        self._tokens = 0

    def largest(self) -> int:
        """The kind that lags most; the first of equals."""
        t = self._tokens
        best, best_lag = 0, None
        for kind, (start, end, base, slope, bend, width) in enumerate(self._current):
            passed = t - start
            lag = base + slope * passed - self._taken[kind]
            if bend:
                lag += bend * passed * passed // width
            if best_lag is None or lag > best_lag:
                best, best_lag = kind, lag
            if t >= end and self._segments[kind]:
                self._current[kind] = self._segments[kind].pop(0)
        return best

    def count(self, kind: int, length: int) -> None:
        """Add a chosen document."""
        self._tokens += length
        self._taken[kind] += 2 * PARTS_PER_MILLION * length


def _segments(schedule: Schedule, total: int) -> list[tuple[int, int, int, int, int, int]]:
    """Pieces (start, end, twice the integral at start, twice the share, change of share, width) of a schedule."""
    knots = [(round(place * total), round(share * PARTS_PER_MILLION)) for place, share in schedule]
    pieces, base = [], 0
    for (start, share), (end, later) in pairwise(knots):
        pieces.append((start, end, base, 2 * share, later - share, end - start))
        base += (share + later) * (end - start)
    pieces.append((knots[-1][0], total, base, 2 * knots[-1][1], 0, 1))
    return pieces


def _entries(shards: Sequence[Shard], kind: str, mixture: MixtureConfig, *, held_out: bool) -> Entries:
    numbers, rows = [], []
    for number, shard in enumerate(shards):
        wanted = np.isin(shard.tasks, TASKS_OF_KIND[kind]) & (shard.held_out == held_out) & _fits_grid(shard, mixture)
        found = np.flatnonzero(wanted)
        numbers.append(np.full(len(found), number))
        rows.append(found)
    return Entries(np.concatenate(numbers), np.concatenate(rows))


def _fits_grid(shard: Shard, mixture: MixtureConfig) -> npt.NDArray[np.bool_]:
    """Per row: whether every image's sides lie inside the wanted ones."""
    shortest, longest = mixture.grid_sides
    sides = np.stack([shard.heights, shard.widths])
    outside = ~shard.is_text & ((sides.min(axis=0) < shortest) | (sides.max(axis=0) > longest))
    totals = np.concatenate([[0], np.cumsum(outside)])
    fits: npt.NDArray[np.bool_] = totals[shard.starts[1:]] == totals[shard.starts[:-1]]
    return fits


def _epoch_order(entries: Entries, kind: int, epoch: int, seed: int, window: int) -> Integers:
    """Shards in a keyed order; documents shuffled inside each window of shards."""
    key = hashlib.sha256(f"order {seed} {kind} {epoch}".encode()).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
    shards = random.permutation(np.unique(entries.shards))
    pieces = []
    for first in range(0, len(shards), window):
        inside = np.flatnonzero(np.isin(entries.shards, shards[first : first + window]))
        pieces.append(random.permutation(inside))
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)


def _assemble(
    streams: Sequence[_Stream | None], chosen: list[tuple[int, int]], lengths: list[int], rows: list[list[int]]
) -> Plan:
    kinds, places = np.asarray(chosen, dtype=np.int64).T
    columns = {name: np.zeros(len(kinds), np.int64) for name in ("shards", "rows", "epochs", "drops")}
    for kind, stream in enumerate(streams):
        here = np.flatnonzero(kinds == kind)
        if stream is None or not len(here):
            continue
        order = np.concatenate(stream.order)[places[here]]
        columns["shards"][here], columns["rows"][here] = stream.entries.shards[order], stream.entries.rows[order]
        columns["epochs"][here] = np.concatenate(stream.epochs)[places[here]]
        columns["drops"][here] = np.concatenate(stream.drops)[places[here]]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    packed = np.asarray([document for row in rows for document in row], dtype=np.int64)
    return Plan(kinds=kinds, **columns, lengths=np.asarray(lengths), packed=packed, packed_starts=starts)
