"""What passes between the steps of a benchmark: the item, what was made of it, and what a judge found.

No model, judge or benchmark is known here, so that everything in this package may import it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An RGB image (H, W, 3)."""
Outcome = Literal["ok", "unscorable", "failed"]
Reply = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question to a model."""

    uid: str
    group: str
    """Category, kind or operation: the unit of macro means and of resampling."""
    prompt: str
    source: Pixels | None = None
    """The image that the prompt is about."""
    reference: str = ""
    """The right answer, where there is one."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the judge wants to know: GenEval's `include` list, the target scene of an edit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What was made for an item."""

    uid: str
    text: str = ""
    image: Pixels | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Measured while making it, such as the PSNR of a reconstruction; an infinite one is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judge's reply, read."""

    uid: str
    group: str
    outcome: Outcome
    strict: bool = False
    """Everything that was asked for, and nothing else."""
    score: float = 0.0
    """Graded, 0 to 1."""
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Further measurements, averaged over the items that have them."""


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain JSON values."""
    return dataclasses.asdict(verdict) | {"reasons": list(verdict.reasons), "score": round(verdict.score, 6)}


def read_verdict(row: Mapping[str, Any]) -> Verdict:
    """The verdict that `verdict_row` wrote."""
    return Verdict(**{**row, "reasons": tuple(row["reasons"])})
