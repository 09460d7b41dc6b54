"""The planner's inner loops, compiled: whole numbers only, so the same on every platform.

    advance     choose a kind that is not ahead, take its next document, put it into the fullest open row that holds it
                before a segment's first row is opened all others are closed: they hold exactly the documents chosen so far
    arrange     documents of closed rows, row after row
    interleave  draw from open shards in proportion to what is left in them
    shuffle     the keyed order of a shard's documents

Compiled once per machine (some seconds) and kept beside the source or in NUMBA_CACHE_DIR. numba compiles anew when this
file changes and looks at no other: so nothing of ours is imported here, and `unit`, a share of 1, is an argument.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Number = Any
"""A whole number, Python's or NumPy's: compiled code makes no difference."""
ENOUGH, NO_ROOM, RUN_DRY = range(3)
"""Why `advance` returned: rows enough, the outputs are full, or the chosen kind has no document at hand."""
TOKENS, TICK, NUM_OPEN, NEXT_ROW, NUM_PUT, CHOSEN = range(6)
"""What the clock counts; CHOSEN is the kind that ran dry."""
SPACE_SHIFT = 42
"""An open row is one number: tokens left, then when it was put down. The smallest that is large enough is the best fit."""
MAX_SEQUENCE_LENGTH = 1 << 20
NEVER = 1 << 62
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@numba.njit(cache=True)
def advance(
    unit: Number,
    shares: Integers,
    edges: Integers,
    lags: Integers,
    lengths: npt.NDArray[np.int32],
    places: Integers,
    ends: Integers,
    active: npt.NDArray[np.bool_],
    open_keys: Integers,
    open_rows: Integers,
    clock: Integers,
    capacity: Number,
    max_open: Number,
    segment_rows: Number,
    want: Number,
    kinds_out: npt.NDArray[np.int8],
    places_out: npt.NDArray[np.int32],
    rows_out: Integers,
    closed_out: Integers,
) -> tuple[int, int, int]:
    """Plan documents until `want` rows have closed, at most `max_open` more; returns (why, documents, closed rows)."""
    num_documents, num_closed = 0, 0
    while num_closed < want:
        if num_documents == len(kinds_out):
            return NO_ROOM, num_documents, num_closed
        kind = _next_kind(unit, shares[clock[TICK]], lags, lengths, places, ends, active)
        if places[kind] == ends[kind]:
            clock[CHOSEN] = kind
            return RUN_DRY, num_documents, num_closed
        length = np.int64(lengths[kind, places[kind]])
        slot = _best(open_keys, clock[NUM_OPEN], length)
        if slot < 0 and clock[NUM_OPEN] > 0 and clock[NEXT_ROW] % segment_rows == 0:
            while clock[NUM_OPEN] > 0:
                closed_out[num_closed] = _close_fullest(open_keys, open_rows, clock)
                num_closed += 1
            continue  # the document is chosen again, unless these rows were enough
        _pass(shares, edges, lags, clock, length)
        lags[kind] -= unit * length
        kinds_out[num_documents], places_out[num_documents] = kind, places[kind]
        places[kind] += 1
        if slot < 0:
            if clock[NUM_OPEN] == max_open:
                closed_out[num_closed] = _close_fullest(open_keys, open_rows, clock)
                num_closed += 1
            slot = clock[NUM_OPEN]
            open_keys[slot], open_rows[slot] = np.int64(capacity) << SPACE_SHIFT, clock[NEXT_ROW]
            clock[NUM_OPEN] += 1
            clock[NEXT_ROW] += 1
        rows_out[num_documents] = open_rows[slot]
        num_documents += 1
        space = (open_keys[slot] >> SPACE_SHIFT) - length
        if space == 0:
            closed_out[num_closed] = _close(open_keys, open_rows, clock, slot)
            num_closed += 1
        else:
            open_keys[slot] = (space << SPACE_SHIFT) + clock[NUM_PUT]
            clock[NUM_PUT] += 1
    return ENOUGH, num_documents, num_closed


@numba.njit(cache=True)
def close_all(open_keys: Integers, open_rows: Integers, clock: Integers) -> Integers:
    """Close every open row, the fullest first."""
    closed = np.empty(clock[NUM_OPEN], np.int64)
    for number in range(len(closed)):
        closed[number] = _close_fullest(open_keys, open_rows, clock)
    return closed


@numba.njit(cache=True)
def arrange(rows: Integers, closed: Integers) -> tuple[Integers, Integers]:
    """Places of the documents of closed rows, row after row in the order of closing, and where each row starts."""
    starts = np.zeros(len(closed) + 1, np.int64)
    if len(rows) == 0:
        return np.empty(0, np.int64), starts
    lowest = rows.min()
    ranks = np.full(rows.max() - lowest + 1, -1, np.int64)
    for rank in range(len(closed)):
        ranks[closed[rank] - lowest] = rank
    for row in rows:
        if ranks[row - lowest] >= 0:
            starts[ranks[row - lowest] + 1] += 1
    for rank in range(len(closed)):
        starts[rank + 1] += starts[rank]
    filled = starts.copy()
    order = np.empty(starts[-1], np.int64)
    for place in range(len(rows)):
        rank = ranks[rows[place] - lowest]
        if rank >= 0:
            order[filled[rank]] = place
            filled[rank] += 1
    return order, starts


@numba.njit(cache=True)
def interleave(left: Integers, key: np.uint64, drawn: Number, slots_out: npt.NDArray[np.uint16]) -> int:
    """Draw slots in proportion to what is left in each, until one is empty or enough are drawn; returns how many.

    left [2, 1]  ->  slots 0 1 (the second is empty then)
    """
    total = left.sum()
    for number in range(len(slots_out)):
        point = np.int64(_draw(key, drawn + number) % np.uint64(total))
        slot = 0
        while point >= left[slot]:
            point -= left[slot]
            slot += 1
        slots_out[number] = slot
        left[slot] -= 1
        total -= 1
        if left[slot] == 0:
            return number + 1
    return len(slots_out)


@numba.njit(cache=True)
def shuffle(count: Number, key: np.uint64) -> npt.NDArray[np.int32]:
    """A keyed order of the numbers below `count` (Fisher and Yates)."""
    order = np.arange(count).astype(np.int32)
    for place in range(count - 1, 0, -1):
        other = np.int64(_draw(key, place) % np.uint64(place + 1))
        order[place], order[other] = order[other], order[place]
    return order


@numba.njit(cache=True)
def _draw(key: np.uint64, number: Number) -> np.uint64:
    """The number-th of a key's random numbers (splitmix64)."""
    value = key + np.uint64(number + 1) * _GOLDEN
    value = (value ^ (value >> _S30)) * _M1
    value = (value ^ (value >> _S27)) * _M2
    return value ^ (value >> _S31)


@numba.njit(cache=True)
def _next_kind(
    unit: Number,
    shares: Integers,
    lags: Integers,
    lengths: npt.NDArray[np.int32],
    places: Integers,
    ends: Integers,
    active: npt.NDArray[np.bool_],
) -> int:
    """Of the kinds that are not ahead, the one whose next document the schedule finishes first; the first of equals.

    Worst-case fair queueing (WF2Q, Bennett and Zhang 1996). A kind that has no document at hand is returned at once.
    """
    chosen, earliest = -1, 0
    for kind in range(len(lags)):
        if active[kind] and (lags[kind] > 0 or (lags[kind] == 0 and shares[kind] > 0)):
            if places[kind] == ends[kind]:
                return kind
            end = _finish(unit, np.int64(lengths[kind, places[kind]]), lags[kind], shares[kind])
            if chosen < 0 or end < earliest:
                chosen, earliest = kind, end
    return chosen if chosen >= 0 else _laggard(lags, active)


@numba.njit(cache=True)
def _finish(unit: Number, length: Number, lag: Number, share: Number) -> int:
    """Tokens from now, in 32nds, until the schedule has passed a kind's next document."""
    owed = unit * length - lag
    if share == 0:
        return NEVER if owed > 0 else -NEVER
    return int((owed << 5) // share)


@numba.njit(cache=True)
def _laggard(lags: Integers, active: npt.NDArray[np.bool_]) -> int:
    """The kind that lags most: for the moment after a kind has ended, when all others may be ahead."""
    chosen = -1
    for kind in range(len(lags)):
        if active[kind] and (chosen < 0 or lags[kind] > lags[chosen]):
            chosen = kind
    return chosen


@numba.njit(cache=True)
def _pass(shares: Integers, edges: Integers, lags: Integers, clock: Integers, length: Number) -> None:
    """Let so many tokens pass: every kind is owed its share of them, tick by tick."""
    left = length
    while left > 0:
        span, last = left, len(shares) - 1
        while clock[TICK] < last and clock[TOKENS] >= edges[clock[TICK] + 1]:
            clock[TICK] += 1
        if clock[TICK] < last:
            span = min(left, edges[clock[TICK] + 1] - clock[TOKENS])
        for kind in range(len(lags)):
            lags[kind] += shares[clock[TICK], kind] * span
        clock[TOKENS] += span
        left -= span


@numba.njit(cache=True)
def _best(open_keys: Integers, num_open: Number, length: Number) -> int:
    """The open row with the least space that holds the length, of several the one put down first; −1 for none."""
    lowest = np.int64(length) << SPACE_SHIFT
    best, slot = np.int64(0x7FFFFFFFFFFFFFFF), -1
    for number in range(num_open):
        key = open_keys[number]
        if lowest <= key < best:
            best, slot = key, number
    return slot


@numba.njit(cache=True)
def _close_fullest(open_keys: Integers, open_rows: Integers, clock: Integers) -> int:
    return _close(open_keys, open_rows, clock, _best(open_keys, clock[NUM_OPEN], 0))


@numba.njit(cache=True)
def _close(open_keys: Integers, open_rows: Integers, clock: Integers, slot: Number) -> int:
    row = open_rows[slot]
    last = clock[NUM_OPEN] - 1
    open_keys[slot], open_rows[slot] = open_keys[last], open_rows[last]
    clock[NUM_OPEN] = last
    return int(row)
