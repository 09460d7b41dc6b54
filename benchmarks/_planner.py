"""The planner in plain Python, a document at a time.

plan_rows     the same plan as `arm.training.plan`, written to be read: the oracle of the tests
plan_before   the loop of the planner that this project had before, which knew straight lines only: the benchmark's peer

plan_rows(shares, edges, streams, capacity=8, max_open=2, segment_rows=9, num_rows=3)   ->   [(kind, number), …] and rows
of places in it
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

UNIT = 1 << 36


def plan_rows(
    shares: Sequence[Sequence[int]],
    edges: Sequence[int],
    streams: Sequence[Iterator[int] | None],
    *,
    capacity: int,
    max_open: int,
    segment_rows: int,
    num_rows: int,
) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """Choose, among the kinds that are not ahead, the one whose next document the schedule finishes first, the first of
    equals, and pack by best fit; `streams` give lengths.

    Every `segment_rows` rows all open rows are closed.
    """
    lags, counts = [0] * len(streams), [0] * len(streams)
    heads: list[int | None] = [None] * len(streams)
    chosen: list[tuple[int, int]] = []
    rows: list[list[int]] = []
    packer = Packer(capacity, max_open)
    tokens = tick = 0
    while len(rows) < num_rows:
        now = shares[tick]
        fair = [k for k in range(len(lags)) if streams[k] and (lags[k] > 0 or (lags[k] == 0 and now[k] > 0))]
        for k in fair:
            if heads[k] is None:
                heads[k] = next(streams[k])
        owed = {k: UNIT * heads[k] - lags[k] for k in fair}
        kind = min(
            fair, key=lambda k: (owed[k] * 32 // now[k] if now[k] else math.inf if owed[k] > 0 else -math.inf, k)
        )
        length = left = heads[kind]
        heads[kind] = None
        while left:
            while tick < len(shares) - 1 and tokens >= edges[tick + 1]:
                tick += 1
            span = left if tick == len(shares) - 1 else min(left, edges[tick + 1] - tokens)
            lags = [lag + share * span for lag, share in zip(lags, shares[tick], strict=True)]
            tokens, left = tokens + span, left - span
        lags[kind] -= UNIT * length
        if packer.num_opened % segment_rows == 0 and not packer.holds(length):
            rows.extend(packer.close_all())
        rows.extend(packer.add(len(chosen), length))
        chosen.append((kind, counts[kind]))
        counts[kind] += 1
    return chosen, rows[:num_rows]


@dataclass(slots=True)
class Packer:
    """Open rows by the space left in them. `_mask` has bit s set when some row has exactly s tokens left."""

    capacity: int
    max_open: int
    rows: dict[int, list[list[int]]] = field(default_factory=dict)
    num_opened: int = 0
    _mask: int = 0
    _num_open: int = 0

    def add(self, document: int, length: int) -> Iterator[list[int]]:
        """Place a document; yields the rows that this closes, each a list of documents."""
        fitting = self._mask >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = self._take(space)
        else:
            if self._num_open == self.max_open:
                yield self._take((self._mask & -self._mask).bit_length() - 1)
            space, row = self.capacity, []
            self.num_opened += 1
        row.append(document)
        if space == length:
            yield row
        else:
            self._put(space - length, row)

    def holds(self, length: int) -> bool:
        """Whether an open row has so much space."""
        return self._mask >> length > 0

    def close_all(self) -> Iterator[list[int]]:
        """Close every open row, the fullest first."""
        while self._num_open:
            yield self._take((self._mask & -self._mask).bit_length() - 1)

    def _take(self, space: int) -> list[int]:
        """Remove the oldest row with exactly this space."""
        rows = self.rows[space]
        row = rows.pop(0)
        if not rows:
            self._mask &= ~(1 << space)
        self._num_open -= 1
        return row

    def _put(self, space: int, row: list[int]) -> None:
        self.rows.setdefault(space, []).append(row)
        self._mask |= 1 << space
        self._num_open += 1


Schedule = Sequence[tuple[float, float]]


def plan_before(
    schedules: Sequence[Schedule],
    total: int,
    streams: Sequence[Iterator[int]],
    *,
    capacity: int,
    max_open: int,
    num_rows: int,
) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """Choose and pack as the planner before did; `total` tokens in the stage."""
    deficits, packer = Deficits(list(schedules), total), Packer(capacity, max_open)
    chosen: list[tuple[int, int]] = []
    rows: list[list[int]] = []
    while len(rows) < num_rows:
        kind = deficits.largest()
        length = next(streams[kind])
        rows.extend(packer.add(len(chosen), length))
        chosen.append((kind, length))
        deficits.count(kind, length)
    return chosen, rows[:num_rows]


class Deficits:
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
        self._taken[kind] += 2_000_000 * length


def _segments(schedule: Schedule, total: int) -> list[tuple[int, int, int, int, int, int]]:
    """Pieces (start, end, twice the integral at start, twice the share, change of share, width) of a schedule."""
    knots = [(round(place * total), round(share * 1_000_000)) for place, share in schedule]
    pieces, base = [], 0
    for (start, share), (end, later) in pairwise(knots):
        pieces.append((start, end, base, 2 * share, later - share, end - start))
        base += (share + later) * (end - start)
    pieces.append((knots[-1][0], total, base, 2 * knots[-1][1], 0, 1))
    return pieces
