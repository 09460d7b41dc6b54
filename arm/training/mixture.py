"""The mixture of a stage: shares by kind of document, and the plan that follows from (shards, mixture, seed).

Shares are shares of tokens. Held-out samples are never planned. How a plan is made stands in `arm.training.plan`; here
is the form in memory, for what fits there (`plan`); a stage reads `arm.training.plan.files.PlanFiles`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from arm.model.documents import KEEP_ALL, KINDS, document_lengths
from arm.model.token_shards import Shard, ShardLengths
from arm.training.config import MixtureConfig, Schedule
from arm.training.plan.index import ShardIndex, wanted_rows
from arm.training.plan.rows import Rows
from arm.training.plan.shares import parts_of_kinds


class Planned(Protocol):
    """A plan, in memory or in files: which documents lie in which rows."""

    @property
    def digest(self) -> str:
        """A digest of the whole plan: half of the loader's state, {plan digest, step}."""
        ...

    @property
    def num_rows(self) -> int:
        """Rows of the plan."""
        ...

    def rows(self, first: int, last: int) -> Rows:
        """The rows from `first` to `last`."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan in memory."""

    all_rows: Rows

    @property
    def num_rows(self) -> int:
        return len(self.all_rows)

    @property
    def digest(self) -> str:
        """A digest of all rows."""
        return hashlib.sha256(self.all_rows.digest()).hexdigest()

    def rows(self, first: int, last: int) -> Rows:
        """The rows from `first` to `last`."""
        return self.all_rows.part(first, last)


def plan(
    shards: Sequence[Shard],
    mixture: MixtureConfig,
    *,
    seed: int,
    num_rows: int,
    sequence_length: int,
    rows_per_step: int = 1,
) -> Plan:
    """Plan `num_rows` rows of `sequence_length` tokens at once."""
    from arm.training.plan.planner import Planner, StageShape  # here: it imports numba, which only planning needs

    stage = StageShape(steps=num_rows // rows_per_step, rows_per_step=rows_per_step, sequence_length=sequence_length)
    index = ShardIndex(shards, names_of(shards), mixture, seed=seed)
    return Plan(Planner(index, mixture, stage, seed=seed).take(stage.num_rows))


def names_of(shards: Sequence[Shard]) -> Sequence[str]:
    """The names of shards, without opening those that are opened on demand."""
    names: Sequence[str] | None = getattr(shards, "names", None)
    return names if names is not None else [shard.name for shard in shards]


def kind_schedules(mixture: MixtureConfig) -> dict[str, Schedule]:
    """The share of tokens of each kind of document over the stage.

    image_to_text .10, caption_share .3  ->  caption .03, question .07
    """
    return {
        kind: tuple((point[0], point[1] * float(part), *point[2:]) for point in schedule)
        for kind, (schedule, part) in parts_of_kinds(mixture).items()
    }


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out samples that a stage measures."""

    places: dict[str, list[tuple[int, int]]]
    """By kind, (shard, row) of each."""
    too_long: dict[str, int]
    """By kind, those before the last of them that are longer than a batch; others took their place."""


def find_held_out(
    shards: Sequence[ShardLengths], mixture: MixtureConfig, *, num_documents: int, max_tokens: int
) -> HeldOut:
    """By kind, the first held-out samples of at most `max_tokens` in the order of the shards; no shard is opened, no more
    lengths are read than that needs, and none for a kind without a share: of that there may be no sample in any."""
    places: dict[str, list[tuple[int, int]]] = {kind: [] for kind in KINDS}
    too_long = dict.fromkeys(KINDS, 0)
    wanted = [kind for kind, schedule in kind_schedules(mixture).items() if any(point[1] for point in schedule)]
    for number in range(len(shards)):
        missing = [kind for kind in wanted if len(places[kind]) < num_documents]
        if not missing:
            break
        for kind, rows, lengths in _held_out_rows(shards[number], missing, mixture):
            fitting = np.flatnonzero(lengths <= max_tokens)[: num_documents - len(places[kind])]
            places[kind] += [(number, row) for row in rows[fitting].tolist()]
            enough = len(places[kind]) == num_documents
            too_long[kind] += int((lengths[: fitting[-1] if enough else None] > max_tokens).sum())
    return HeldOut(places, {kind: count for kind, count in too_long.items() if count})


def _held_out_rows(
    shard: ShardLengths, kinds: Sequence[str], mixture: MixtureConfig
) -> Iterator[tuple[str, npt.NDArray[np.int32], npt.NDArray[np.int64]]]:
    """Kind, rows, and the tokens of the undropped documents that they give."""
    for kind in kinds:
        rows = wanted_rows(shard, kind, mixture, held_out=True)
        yield kind, rows, document_lengths(shard, rows, kind, np.full(len(rows), KEEP_ALL))
