"""The plan of a recipe: every step of its road, totals, and what cannot run.

make_plan(Setting(recipe=…, gpu=…))  ->  Plan(steps=(StepPlan(step="extract-pairs", …), …), curves=…)
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from arm.preflight import memory
from arm.preflight.data import plan_data
from arm.preflight.documents import TASKS_OF_KIND, shares_at
from arm.preflight.evaluating import plan_evaluation
from arm.preflight.outline import Setting, StepPlan
from arm.preflight.policy import plan_policy
from arm.preflight.training import plan_stage
from arm.preflight.visual import plan_detokenizer, plan_encoding, plan_tokenizer, plan_tokenizer_evaluation
from arm.recipes import BESIDE, STEPS, job_of

PLANNERS: dict[str, Callable[[Setting, str], StepPlan]] = {
    "train-tokenizer": plan_tokenizer,
    "tokenize-images": plan_encoding,
    "train-detokenizer": plan_detokenizer,
    "train-model": plan_stage,
    "train-policy": plan_policy,
    "evaluate-model": plan_evaluation,
    "evaluate-tokenizer": plan_tokenizer_evaluation,
}
"""Job -> what plans it; all others are data jobs on CPUs."""
CURVE_POINTS = 21

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps in the order of the road, and the share of every kind of document over the three stages."""

    setting: Setting
    steps: tuple[StepPlan, ...]
    curves: dict[str, list[Point]]
    """Kind -> (tokens read so far, share)."""

    @property
    def refusals(self) -> list[str]:
        """Every reason why something cannot run."""
        return [sentence for step in self.steps for sentence in step.refusals]

    @property
    def gpu_hours(self) -> float:
        """Over all steps."""
        return sum(step.gpu_hours for step in self.steps)

    @property
    def cost(self) -> float:
        """Dollars: GPUs and judgements."""
        extra = sum(step.extra_cost for step in self.steps)
        return self.gpu_hours * self.setting.price_per_gpu_hour + extra

    @property
    def seconds(self) -> float:
        """One step after the other: those on GPUs, where there are any."""
        return sum(step.seconds for step in self.steps if step.gpus or not self.gpu_hours)

    @property
    def core_hours(self) -> float:
        """Of the jobs on CPUs."""
        return sum(step.core_hours for step in self.steps if not step.gpus)

    @property
    def disk(self) -> float:
        """Everything kept."""
        return sum(step.disk for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {
            "recipe": self.setting.recipe.name,
            "gpu": self.setting.gpu.name,
            "world": self.setting.world,
            "price_per_gpu_hour": self.setting.price_per_gpu_hour,
            "refusals": self.refusals,
            "gpu_hours": self.gpu_hours,
            "cost": self.cost,
            "seconds": self.seconds,
            "core_hours": self.core_hours,
            "disk_bytes": self.disk,
            "steps": [
                dataclasses.asdict(step) | {"gpu_hours": step.gpu_hours, "memory_bytes": memory.total(step.memory)}
                for step in self.steps
            ],
            "shares": self.curves,
        }


def make_plan(setting: Setting) -> Plan:
    """Plan every step that the recipe configures."""
    order = [step for step in (*STEPS, *BESIDE) if step in setting.recipe.configs]
    steps = tuple(PLANNERS.get(job_of(step), plan_data)(setting, step) for step in order)
    return Plan(setting, steps, share_curves(setting))


def share_curves(setting: Setting) -> dict[str, list[Point]]:
    """The share of every kind over the tokens of the three stages, one after the other."""
    curves: dict[str, list[Point]] = {kind: [] for kind in TASKS_OF_KIND}
    before = 0.0
    for stage in ("pretrain", "continue", "finetune"):
        config = setting.recipe.config(f"train-model-{stage}")
        tokens = config.steps * config.rows_per_step * config.sequence_length
        for index in range(CURVE_POINTS):
            place = index / (CURVE_POINTS - 1)
            for kind, share in shares_at(config, place).items():
                curves[kind].append((before + place * tokens, share))
        before += tokens
    return curves
