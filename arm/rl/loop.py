"""The loop of GRPO: collect a step's groups, learn from those that teach, keep a row of numbers, save.

    place 0 ─ prompts ─ rollouts ─ rewards ─┬─ groups that differ ─ learner
              ↑ refilled, up to a cap ──────┘ all equal: dropped and counted

Everything that decides what happens next (rewards, useful groups, missing shares) is known to every rank, so that all
take the same path.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from arm.errors import ServiceError, UserError
from arm.rl.config import PolicyConfig
from arm.rl.grpo import Advantages, group_advantages
from arm.rl.learner import GapTooWide, Learner
from arm.rl.prompts import Draw, PromptStream
from arm.rl.rollout import Picture, Rollout, RolloutMaker, gather

NUM_PICTURES = 6
"""Prompts shown in a sample sheet."""

Row = dict[str, float]


@dataclass(slots=True)
class State:
    """All that is needed to continue, beside the engine's weights and optimizer."""

    step: int = 0
    """Updates done."""
    place: int = 0
    """Next place in the stream of prompts."""
    rows: list[Row] = field(default_factory=list)
    """One row of the curves a step."""

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"step": self.step, "place": self.place, "rows": json.dumps(self.rows)}

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "State":
        """Read back what `to_plain` wrote."""
        return cls(step=values["step"], place=values["place"], rows=json.loads(values["rows"]))


@dataclass(frozen=True, slots=True)
class Collected:
    """The rollouts of one step on all ranks, by place and sample, with what their rewards are worth."""

    rollouts: list[Rollout]
    advantages: Advantages
    next_place: int
    pictures: list[Picture]

    def lessons(self) -> tuple[list[Rollout], list[float]]:
        """The rollouts that enter the loss, with their advantages."""
        learn, values = self.advantages.learn_PG.reshape(-1).tolist(), self.advantages.values_PG.reshape(-1).tolist()
        chosen = [index for index, wanted in enumerate(learn) if wanted]
        return [self.rollouts[index] for index in chosen], [values[index] for index in chosen]


class Host(Protocol):
    """Where the loop keeps what outlives it."""

    def save(self, state: State) -> None:
        """Write a checkpoint of the engine and the state."""
        ...

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Publish a sheet of rollouts of the policy after `step` updates."""
        ...

    def log(self, row: Row, seconds: Row) -> None:
        """Tell the tracker."""
        ...


def run_loop(
    maker: RolloutMaker,
    learner: Learner,
    stream: PromptStream,
    host: Host,
    state: State,
    config: PolicyConfig,
    rank: int = 0,
    num_ranks: int = 1,
) -> None:
    """Go on from `state` to the last step; ServiceError or GapTooWide leave a checkpoint behind, too many skipped updates
    the last one that there is."""
    while state.step < config.steps:
        wants_pictures = state.step % config.samples_every == 0 or state.step == config.steps - 1
        started = time.monotonic()
        try:
            collected = collect(maker, stream, state, config, rank, num_ranks, NUM_PICTURES if wants_pictures else 0)
            collected_at = time.monotonic()
            row = _learn(learner, collected)
        except (ServiceError, GapTooWide):
            host.save(state)
            raise
        if wants_pictures:
            host.show(state.step, collected.pictures)
        state.step, state.place = state.step + 1, collected.next_place
        state.rows.append({"step": state.step, **_finite(row)})
        seconds = {"learn": time.monotonic() - collected_at, "step": time.monotonic() - started, **maker.seconds}
        maker.seconds = dict.fromkeys(maker.seconds, 0.0)
        host.log(state.rows[-1], {f"seconds/{name}": value for name, value in seconds.items()})
        check_skipped(state.rows, config.max_skipped)
        if state.step % config.checkpoint_every == 0 or state.step == config.steps:
            host.save(state)


def collect(
    maker: RolloutMaker,
    stream: PromptStream,
    state: State,
    config: PolicyConfig,
    rank: int,
    num_ranks: int,
    num_pictures: int,
) -> Collected:
    """Make the groups of a step, drawing further prompts (up to a cap) for groups whose rewards are all equal."""
    rollouts: list[Rollout] = []
    pictures: list[Picture] = []
    place, wanted = state.place, config.prompts_per_step
    for _ in range(1 + config.refill_rounds):
        draws: list[Draw] = stream.take(place, wanted)
        made, shown = maker.make(draws[rank::num_ranks], num_pictures - len(pictures))
        rollouts += gather(made)
        pictures += shown
        place += wanted
        check_missing(rollouts, config, state.step)
        advantages = group_advantages(rewards_of(rollouts, config.group_size), config.std_floor)
        wanted = config.prompts_per_step - int(advantages.useful_P.sum())
        if not wanted:
            break
    return Collected(rollouts, advantages, place, pictures)


def rewards_of(rollouts: Sequence[Rollout], group_size: int) -> Tensor:
    """Rewards (P, G) of rollouts in order of place and sample; NaN where missing."""
    values = [float("nan") if r.reward.value is None else r.reward.value for r in rollouts]
    return torch.tensor(values).view(-1, group_size)


def check_missing(rollouts: Sequence[Rollout], config: PolicyConfig, step: int) -> None:
    """Pause the run when too many rewards are missing: ServiceError with the commonest reason."""
    reasons = Counter(r.reward.reason for r in rollouts if r.reward.value is None)
    missing = sum(reasons.values())
    if missing > config.max_missing_share * len(rollouts):
        reason, count = reasons.most_common(1)[0]
        raise ServiceError(
            f"{missing} of {len(rollouts)} rewards are missing after {step} steps ({count} times: {reason}); "
            f"the run is saved: mend the judge {config.reward.names!r} and run the same command again."
        )


def check_skipped(rows: Sequence[Row], most: int) -> None:
    """Refuse to go on when more than `most` of the last updates were skipped; steps that learned nothing count for neither.

    skipped_steps 0 1 1 2 3  ->  2 in a row
    """
    counts = [0.0, *(row["skipped_steps"] for row in rows if "skipped_steps" in row)]
    in_a_row = sum(1 for _ in takewhile(lambda two: two[1] > two[0], reversed(list(pairwise(counts)))))
    if in_a_row > most:
        raise UserError(
            f"{in_a_row} updates in a row up to step {rows[-1]['step']:.0f} were skipped, as their gradient was not finite "
            "(max_skipped); lower learning_rate, or start from another model."
        )


def reward_metrics(rollouts: Sequence[Rollout], advantages: Advantages) -> Row:
    """Mean and standard deviation of the reward and its parts, by task; shares of groups and rewards lost; diversity."""
    group_size = advantages.values_PG.shape[1]
    row = {
        "groups/zero_variance": float((~advantages.useful_P).float().mean()),
        "rewards/missing": float((~advantages.present_PG).float().mean()),
        "num_groups": float(len(advantages.useful_P)),
        "num_rollouts": float(len(rollouts)),
        "diversity": _diversity(rollouts, group_size),
    }
    for task in sorted({r.task for r in rollouts}):
        found = [r.reward for r in rollouts if r.task == task and r.reward.value is not None]
        columns = {}
        for name in sorted({name for reward in found for name in reward.parts}):
            columns[name] = [reward.parts[name] for reward in found if name in reward.parts]
        columns["reward"] = [reward.value or 0.0 for reward in found]  # last: a judge may name a part so
        for name, values in columns.items():
            if values:
                row[f"{task}/{name}/mean"] = float(np.mean(values))
                row[f"{task}/{name}/std"] = float(np.std(values))
    return row


def _diversity(rollouts: Sequence[Rollout], group_size: int) -> float:
    """Mean share of different images among the rollouts of a prompt: 1 when all differ, 1/G when all are the same."""
    images = [rollout.codes.tobytes() for rollout in rollouts]
    groups = [images[first : first + group_size] for first in range(0, len(images), group_size)]
    return sum(len(set(group)) / group_size for group in groups) / len(groups)


def _finite(row: Row) -> Row:
    """Rounded numbers in order of name, without infinity and nan: no JSON knows them."""
    return {name: round(value, 6) for name, value in sorted(row.items()) if math.isfinite(value)}


def _learn(learner: Learner, collected: Collected) -> Row:
    """One update; without a single useful group nothing is learned, and the row says so."""
    row = reward_metrics(collected.rollouts, collected.advantages)
    rollouts, advantages = collected.lessons()
    return {**row, **(learner.update(rollouts, advantages) if rollouts else {})}
