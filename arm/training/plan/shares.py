"""Schedules as whole numbers: for each kind of document its share in each tick of the stage, the same on every platform.

A stage has `NUM_TICKS` ticks of equal width (one when every share is constant). A kind's share in a tick, in units of
2^-36, is the difference of its integral at the tick's ends, so nothing adds up over 2.5T tokens; the units of all kinds
are UNIT in every tick. Integrals are 64-bit fixed point (Python's whole numbers); the sine under a cosine is the Taylor
polynomial of degree 21 in the same numbers: no platform's libm.

    .7 -> .5 over four ticks   ->   .675 .625 .575 .525 of UNIT
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from arm.errors import UserError
from arm.training.config import MixtureConfig, Schedule, Shape, shape_of

UNIT = 1 << 36
"""A share of 1. Times a document of 2^20 tokens it is 2^56: lags fit 64 bits."""
NUM_TICKS = 1 << 13
"""At 2.5T tokens a tick is 305M tokens; a share that moves by .2 leaves its straight line by 930 tokens inside one."""
_BITS = 64
_ONE = 1 << _BITS
_PI = 57952155664616982739
"""π · 2^64, rounded."""
Integers = npt.NDArray[np.int64]
Piece = tuple[int, int, int, int, Shape]
"""(start, end, share at start, share at end, shape) in fixed point."""


def parts_of_kinds(mixture: MixtureConfig) -> dict[str, tuple[Schedule, Fraction]]:
    """For each kind the schedule of its source, and which part of it the kind has.

    image_to_text, caption_share .3  ->  caption 3/10, question 7/10
    """
    captions, edits = Fraction(str(mixture.caption_share)), Fraction(str(mixture.edit_share))
    return {
        "text": (mixture.text_only, Fraction(1)),
        "caption": (mixture.image_to_text, captions),
        "question": (mixture.image_to_text, 1 - captions),
        "text_to_image": (mixture.text_to_image, Fraction(1)),
        "interleaved_video": (mixture.interleaved_video, Fraction(1)),
        "edit": (mixture.interleaved_web, edits),
        "interleaved_web": (mixture.interleaved_web, 1 - edits),
    }


def tick_shares(
    schedules: Sequence[tuple[Schedule, Fraction]], mixture: MixtureConfig, *, step: int, total: int
) -> Integers:
    """Units of each (schedule, part of it) in each tick: (ticks, kinds). A step has `step` tokens, the stage `total`."""
    scale = {"fraction": Fraction(1), "tokens": Fraction(1, total), "steps": Fraction(step, total)}[
        mixture.schedule_unit
    ]
    num_ticks = NUM_TICKS if any(len(schedule) > 1 for schedule, _ in schedules) else 1
    integrals = {schedule: _integrals(_pieces(schedule, scale), num_ticks) for schedule, _ in schedules}
    parts = [
        [value * part.numerator // part.denominator for value in integrals[schedule]] for schedule, part in schedules
    ]
    order = sorted(range(len(parts)), key=lambda kind: parts[kind][-1])
    edges = np.zeros((num_ticks + 1, len(parts)), np.int64)
    below, passed = [0] * (num_ticks + 1), [0] * (num_ticks + 1)
    for kind in order:
        below = [a + b for a, b in zip(below, parts[kind], strict=True)]
        if kind == order[-1]:  # the largest takes what rounding left
            rounded = [tick * UNIT for tick in range(num_ticks + 1)]
        else:
            rounded = [(value * num_ticks * UNIT + _ONE // 2) // _ONE for value in below]
        edges[:, kind] = [a - b for a, b in zip(rounded, passed, strict=True)]
        passed = rounded
    return np.diff(edges, axis=0)


def tick_edges(total: int, num_ticks: int) -> Integers:
    """Where each tick starts, in tokens; one more at the end."""
    return np.asarray([tick * total // num_ticks for tick in range(num_ticks + 1)], np.int64)


def renormalised(shares: Integers, active: npt.NDArray[np.bool_], *, from_tick: int = 0) -> Integers:
    """The shares of the active kinds, scaled to UNIT in every tick from one on; the largest takes what rounding left. Those
    of ticks that are over stay as they were: in them a kind that has ended may have been alone.

    .5 .3 .2 without the second   ->   .714 0 .286
    """
    kept = np.where(active, shares[from_tick:], 0).astype(object)
    totals = kept.sum(axis=1, keepdims=True)
    if np.any(totals <= 0):
        raise UserError("Every kind of document with a share has ended; raise max_epochs, or let one repeat.")
    scaled = np.asarray(kept * UNIT // totals, np.int64)
    largest = scaled.argmax(axis=1)
    scaled[np.arange(len(scaled)), largest] += UNIT - scaled.sum(axis=1)
    return np.concatenate([shares[:from_tick], scaled])


def _pieces(schedule: Schedule, scale: Fraction) -> tuple[Piece, ...]:
    """A schedule over the whole stage; what lies beyond its end is a mistake."""
    places = [Fraction(str(point[0])) * scale for point in schedule]
    if places[-1] > 1:
        raise UserError(f"A schedule goes on to {schedule[-1][0]:g}, beyond the end of the stage; let it end there.")
    knots = [int(place * _ONE) for place in places] + [_ONE]
    shares = [int(Fraction(str(point[1])) * _ONE) for point in schedule]
    shapes: list[Shape] = [shape_of(point) for point in schedule]
    ends = [*shares[1:], shares[-1]]
    return tuple(
        (start, end, share, later, shape)
        for (start, end), share, later, shape in zip(pairwise(knots), shares, ends, shapes, strict=True)
        if end > start
    )


@lru_cache(maxsize=32)
def _integrals(pieces: tuple[Piece, ...], num_ticks: int) -> list[int]:
    """The integral of a schedule at the edges of the ticks."""
    found, base, number = [], 0, 0
    for tick in range(num_ticks + 1):
        place = tick * _ONE // num_ticks
        while number + 1 < len(pieces) and place >= pieces[number][1]:
            base += _integral(pieces[number], pieces[number][1])
            number += 1
        found.append(base + _integral(pieces[number], place))
    return found


def _integral(piece: Piece, place: int) -> int:
    """The integral of a piece from its start to a place in it."""
    start, end, share, later, shape = piece
    passed, width, change = place - start, end - start, later - share
    area = share * passed >> _BITS
    if shape == "linear" and change:
        area += change * passed // width * passed >> _BITS + 1
    elif shape == "cosine" and change:
        sine = _sine_of_half_turns((passed << _BITS) // width)
        area += change * (passed - width * sine // _PI) >> _BITS + 1
    return area


def _sine_of_half_turns(turn: int) -> int:
    """sin(π x) for x from 0 to 1.

    x ½  ->  1
    """
    angle = min(turn, _ONE - turn) * _PI >> _BITS
    square = angle * angle >> _BITS
    term, total = angle, 0
    for degree in range(1, 22, 2):
        total += term
        term = -(term * square >> _BITS) // ((degree + 1) * (degree + 2))
    return total
