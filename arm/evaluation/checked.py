"""What benchmarks have in common whose images the checker reads: prompts, edits, and images that are there already."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from arm.evaluation.benchmark import Scores, aggregate_strict
from arm.evaluation.checker import judge_prompts, parse_replies
from arm.evaluation.evaluation_set import EvaluationSet
from arm.evaluation.items import Item, Output, Reply, Verdict
from arm.evaluation.statistics import Weighting
from arm.evaluation.subject import Subject


class CheckedBenchmark:
    """The model draws what is asked for and the checker reads it; a class overrides what it does otherwise."""

    name: str
    subject: Literal["model", "reference"] = "model"
    asks: ClassVar[str]
    """The field of the evaluation set that holds the items."""
    weighting: ClassVar[Weighting] = "micro"
    headline: ClassVar[str] = "strict"

    def items(self, evaluation_set: EvaluationSet) -> list[Item]:
        """What is asked, group by group."""
        return evaluation_set.require(self.asks)

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """Draw the codes and render them."""
        seeds = subject.seeds(items)
        images = subject.tools.render(subject.draw(items, seeds), seeds)
        return [Output(uid=item.uid, image=image) for item, image in zip(items, images, strict=True)]

    def judge(self, items: Sequence[Item], outputs: Sequence[Output], subject: Subject) -> list[Reply]:
        """Ask the checker."""
        return judge_prompts(items, outputs, subject.tools.checker)

    def parse(self, items: Sequence[Item], replies: Sequence[Reply]) -> list[Verdict]:
        """Read the checker's replies."""
        return parse_replies(items, replies)

    def aggregate(self, verdicts: Sequence[Verdict], *, num_expected: int, num_bootstraps: int, seed: int) -> Scores:
        """By group, and over all of them."""
        return aggregate_strict(
            self.name, verdicts, weighting=self.weighting, headline=self.headline,
            num_expected=num_expected, num_bootstraps=num_bootstraps, seed=seed,
        )  # fmt: skip
