"""Text to image: prompts of GenEval's six categories, drawn by the model and read by the checker."""

from collections.abc import Sequence
from typing import Literal

from arm.evaluation.benchmark import Scores, aggregate_strict
from arm.evaluation.checker import judge_prompts, parse_replies
from arm.evaluation.evaluation_set import EvaluationSet
from arm.evaluation.items import Item, Output, Reply, Verdict
from arm.evaluation.subject import Subject


class TextToImage:
    """Share of prompts whose image shows everything asked for and nothing else; mean of the category means."""

    name = "text_to_image"
    subject: Literal["model", "reference"] = "model"

    def items(self, evaluation_set: EvaluationSet) -> list[Item]:
        """The prompts, category by category."""
        return evaluation_set.require("prompts")

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
        """By category, and their mean."""
        return aggregate_strict(
            self.name, verdicts, weighting="macro", headline="mean",
            num_expected=num_expected, num_bootstraps=num_bootstraps, seed=seed,
        )  # fmt: skip
