"""The same road from several seeds: the scores of every evaluation in the store whose whole history differs in seeds alone.

train-tokenizer (seed 0) → … → evaluate-model (seed 0)  ┐
train-tokenizer (seed 1) → … → evaluate-model (seed 1)  ┴→  text to image, finetuned: .774 (.763 to .785), .763, .785
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from arm.evaluation.page.markup import Markup, Node, section, table, words
from arm.evaluation.page.scores import STAGES, TITLES, headline, read_protocols
from arm.evaluation.page.store import Step, read_all
from arm.manifest import complete_artifacts

SEED = "seed"
NOTE = (
    "The mean over the seeds, the range, and each by itself. A seed moves every training, the order of its data and its "
    "evaluation; world and teachers are the same."
)


class Histories:
    """What every artifact of a store was made by, seeds left out."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = {step.manifest.digest: step for step in steps}
        self._known: dict[str, str] = {}

    def of(self, digest: str) -> str:
        """A digest over jobs, versions and configs without seeds, back to what came from outside."""
        if digest not in self._steps:
            return digest
        if digest not in self._known:
            made = self._steps[digest].manifest
            inputs = {role: self.of(found) for role, found in made.inputs.items()}
            said = json.dumps([made.job, made.version, _without_seed(made.config), inputs], sort_keys=True)
            self._known[digest] = hashlib.sha256(said.encode()).hexdigest()
        return self._known[digest]


def evaluations_by_seed(store: str, evaluation: Step) -> dict[int, Step]:
    """Seed -> the evaluation at the end of that road; empty where the store holds no other than this one."""
    if len(complete_artifacts(f"{store.rstrip('/')}/{evaluation.name}")) < 2:
        return {}
    steps = read_all(store)
    family = [step for step in steps if step.name == evaluation.name and SEED in step.manifest.config]
    histories = Histories(steps)
    wanted = histories.of(evaluation.manifest.digest)
    alike = {step.manifest.config[SEED]: step for step in family if histories.of(step.manifest.digest) == wanted}
    return dict(sorted(alike.items()))


def render_seeds(store: str, evaluation: Step | None) -> Markup:
    """A table a benchmark with a row a stage; nothing where the store holds one seed."""
    found = evaluations_by_seed(store, evaluation) if evaluation else {}
    if len(found) < 2:
        return Markup("")
    head: list[Node] = ["Benchmark", "Stage", "Mean", "Range", *(f"seed {seed}" for seed in found)]
    return section(
        "Seeds", NOTE, table(head, _rows([read_protocols(step) for step in found.values()]), class_="scores")
    )


def _rows(protocols: Sequence[Mapping[str, Any]]) -> Iterator[list[Node]]:
    for benchmark in (
        name for name in TITLES if any(name in records[stage] for records in protocols for stage in records)
    ):
        for stage in STAGES:
            values = [(headline(records, stage, benchmark) or {}).get("value") for records in protocols]
            known = [value for value in values if value is not None]
            if known:
                yield [
                    TITLES[benchmark], words(stage), f"{mean(known):.3f}", f"{min(known):.3f}–{max(known):.3f}",
                    *("refused" if value is None else f"{value:.3f}" for value in values),
                ]  # fmt: skip


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != SEED}
