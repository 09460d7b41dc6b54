"""An index of counted documents for the tests of the plan: lengths by a rule, no files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arm.model.documents import KINDS
from arm.training.config import SOURCES, MixtureConfig
from arm.training.plan.planner import SEGMENT_STEPS, Planner, StageShape
from arm.training.plan.rows import Choice, Found, Rows, packed_choices


class CountedIndex:
    """Every shard holds documents of these lengths for each kind."""

    def __init__(self, lengths: Mapping[str, Sequence[int]], num_shards: int = 3) -> None:
        self.num_shards, self.identity = num_shards, "counted"
        self._lengths = {kind: np.asarray(values, np.int32) for kind, values in lengths.items()}
        self.opened: list[tuple[str, int, int]] = []
        """(kind, shard, epoch) of every look at a shard."""

    def name(self, shard: int) -> str:
        return f"default/{shard}"

    def find(self, kind: str, shard: int, epoch: int) -> Found:
        self.opened.append((kind, shard, epoch))
        lengths = self._lengths.get(kind, np.zeros(0, np.int32))
        choice = packed_choices(Choice(np.zeros(len(lengths), np.int32), 0, 1))
        return Found(np.arange(len(lengths), dtype=np.int32), choice, lengths)


def mixture_of(shares: Mapping[str, Any], **changes: Any) -> MixtureConfig:
    """A mixture of these sources: a number is a constant share; images are captions, web pages no edits."""
    schedules = dict.fromkeys(SOURCES, ((0.0, 0.0),))
    schedules |= {name: ((0.0, share),) if isinstance(share, float) else share for name, share in shares.items()}
    return MixtureConfig(**schedules, caption_share=1.0, edit_share=0.0, **changes)


def planner(
    index: CountedIndex,
    shares: Mapping[str, Any],
    *,
    capacity: int,
    num_rows: int,
    segment_steps: int = SEGMENT_STEPS,
    seed: int = 0,
    **changes: Any,
) -> Planner:
    """A planner of `num_rows` steps of one row."""
    stage = StageShape(steps=num_rows, rows_per_step=1, sequence_length=capacity, segment_steps=segment_steps)
    return Planner(index, mixture_of(shares, **changes), stage, seed=seed)


def made_plan(index: CountedIndex, shares: Mapping[str, Any], *, capacity: int, num_rows: int, **changes: Any) -> Rows:
    """All rows of it."""
    return planner(index, shares, capacity=capacity, num_rows=num_rows, **changes).take(num_rows)


def share_of(rows: Rows) -> dict[str, float]:
    """Realised shares of tokens."""
    tokens = rows.tokens_of_kinds()
    return {kind: float(count / tokens.sum()) for kind, count in zip(KINDS, tokens.tolist(), strict=True)}
