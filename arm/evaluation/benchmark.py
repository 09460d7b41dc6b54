"""Benchmarks: generate → judge → parse → aggregate, the same four steps for every number.

    Item      what is asked                uid, group (a category), prompt, source image, reference
    Output    what the model made of it    a text or an image
    Reply     what the judge said          plain JSON; nothing is judged twice
    Verdict   the reply, read              ok | unscorable | failed, strict, score, reasons

Each step's rows are published as a file, so that a killed run goes on and a number can be traced to its items. A reply
that cannot be read is a failed verdict: never guessed, never 0, never dropped; and while one is missing no headline is
given. To add a benchmark: write a class with these methods and add one line to
`BENCHMARKS` of `arm/evaluation/config.py`.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from arm.evaluation.config import BENCHMARKS
from arm.evaluation.evaluation_set import EvaluationSet
from arm.evaluation.items import Item, Output, Reply, Verdict
from arm.evaluation.statistics import Estimate, Weighting, estimate
from arm.evaluation.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The numbers of one benchmark for one subject."""

    benchmark: str
    headline: str
    """Name of the metric that stands for the benchmark; refused while items are missing."""
    estimates: Mapping[str, Estimate]
    num_expected: int
    num_scored: int
    num_failed: int
    aggregation: str

    @property
    def num_missing(self) -> int:
        """Items that were expected, and neither have a score nor failed."""
        return max(0, self.num_expected - self.num_scored - self.num_failed)

    @property
    def refused(self) -> str | None:
        """Why there is no headline, or None."""
        if self.num_scored == self.num_expected:
            return None
        missing = self.num_expected - self.num_scored
        return f"{missing} of {self.num_expected} items have no score ({self.num_failed} failed)"

    def published(self) -> dict[str, Estimate]:
        """The estimates that may be shown: without the headline while it is refused."""
        return {name: value for name, value in self.estimates.items() if not (self.refused and name == self.headline)}


class Benchmark(Protocol):
    """One benchmark. The methods are pure but for `generate` (a model) and `judge` (a detector, a judge)."""

    name: str
    subject: Literal["model", "reference"]
    """Asked of every training stage, or once: of the tools and the baselines."""

    def items(self, evaluation_set: EvaluationSet) -> list[Item]:
        """What is asked, in a fixed order."""
        ...

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """One output an item, in the items' order."""
        ...

    def judge(self, items: Sequence[Item], outputs: Sequence[Output], subject: Subject) -> list[Reply]:
        """One reply an item, in the items' order."""
        ...

    def parse(self, items: Sequence[Item], replies: Sequence[Reply]) -> list[Verdict]:
        """One verdict an item, in the items' order."""
        ...

    def aggregate(self, verdicts: Sequence[Verdict], *, num_expected: int, num_bootstraps: int, seed: int) -> Scores:
        """The benchmark's numbers with intervals."""
        ...


def find(name: str) -> Benchmark:
    """The benchmark of that name: EvaluateConfig has refused a name that is not known."""
    module, _, attribute = BENCHMARKS[name].partition(":")
    return cast(Benchmark, getattr(importlib.import_module(module), attribute)())


def aggregate_strict(
    benchmark: str,
    verdicts: Sequence[Verdict],
    *,
    weighting: Weighting,
    headline: str,
    num_expected: int,
    num_bootstraps: int,
    seed: int,
) -> Scores:
    """Share of strict verdicts: by group where there are several, over all (`headline`), and the graded mean.

    macro: the headline is the mean of the group means (GenEval); micro: over all items.
    """
    scored = [verdict for verdict in verdicts if verdict.outcome == "ok"]
    strict, graded = group_values(scored, "strict"), group_values(scored, "score")
    settings: dict[str, Any] = {"num_bootstraps": num_bootstraps, "seed": seed}
    estimates: dict[str, Estimate] = {}
    if len(strict) > 1:
        estimates = {name: estimate({name: values}, "micro", **settings) for name, values in strict.items()}
    if scored:
        estimates[headline] = estimate(strict, weighting, **settings)
        estimates["graded"] = estimate(graded, weighting, **settings)
    for name in sorted({name for verdict in scored for name in verdict.numbers}):
        values = [verdict.numbers[name] for verdict in scored if name in verdict.numbers]
        estimates[name] = estimate({name: values}, "micro", **settings)
    return Scores(
        benchmark=benchmark, headline=headline, estimates=estimates,
        num_expected=num_expected, num_scored=len(scored),
        num_failed=sum(verdict.outcome == "failed" for verdict in verdicts),
        aggregation="mean of the group means" if weighting == "macro" else "mean over all items",
    )  # fmt: skip


def group_values(verdicts: Sequence[Verdict], name: str) -> dict[str, list[float]]:
    """Group -> the values of one field, in order of uid."""
    groups: dict[str, list[float]] = {}
    for verdict in sorted(verdicts, key=lambda item: item.uid):
        groups.setdefault(verdict.group, []).append(float(getattr(verdict, name)))
    return dict(sorted(groups.items()))
