"""The mixture of a stage: shares by kind of document, and the plan that follows from (shards, mixture, seed).

Shares are shares of tokens. Held-out samples are never planned. How a plan is made stands in `arm.training.plan`; here
is the form in memory, for what fits there (`plan`); a stage reads `arm.training.plan.files.PlanFiles`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from arm.model.documents import KINDS
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


def held_out_places(
    shards: Sequence[ShardLengths], mixture: MixtureConfig, num_documents: int
) -> dict[str, list[tuple[int, int]]]:
    """By kind, (shard, row) of the first held-out samples in the order of the shards; no shard is opened, no more lengths are
    read than that needs, and none for a kind without a share: of that there may be no sample in any."""
    found: dict[str, list[tuple[int, int]]] = {kind: [] for kind in KINDS}
    wanted = [kind for kind, schedule in kind_schedules(mixture).items() if any(point[1] for point in schedule)]
    for number in range(len(shards)):
        missing = [kind for kind in wanted if len(found[kind]) < num_documents]
        if not missing:
            break
        for kind, rows in _held_out_rows(shards[number], missing, mixture):
            found[kind] += [(number, row) for row in rows[: num_documents - len(found[kind])]]
    return found


def _held_out_rows(
    shard: ShardLengths, kinds: Sequence[str], mixture: MixtureConfig
) -> Iterator[tuple[str, list[int]]]:
    for kind in kinds:
        yield kind, wanted_rows(shard, kind, mixture, held_out=True).tolist()
