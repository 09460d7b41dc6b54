"""Editing: an instruction about an image, and the baseline of handing the source back."""

from collections.abc import Sequence
from typing import Literal

from arm.errors import UserError
from arm.evaluation.benchmark import Scores, aggregate_strict
from arm.evaluation.checker import judge_edits, parse_replies
from arm.evaluation.evaluation_set import EvaluationSet
from arm.evaluation.items import Item, Output, Reply, Verdict
from arm.evaluation.subject import Subject


class Editing:
    """Share of edits after which everything is as asked for and the rest is as it was."""

    name = "editing"
    subject: Literal["model", "reference"] = "model"

    def items(self, evaluation_set: EvaluationSet) -> list[Item]:
        """The edits, operations in turn."""
        return evaluation_set.require("edits")

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """Draw the codes of the edited image and render them."""
        seeds = subject.seeds(items)
        images = subject.tools.render(subject.draw(items, seeds), seeds)
        return [Output(uid=item.uid, image=image) for item, image in zip(items, images, strict=True)]

    def judge(self, items: Sequence[Item], outputs: Sequence[Output], subject: Subject) -> list[Reply]:
        """Ask the checker, which sees the source too."""
        return judge_edits(items, outputs, subject.tools.checker)

    def parse(self, items: Sequence[Item], replies: Sequence[Reply]) -> list[Verdict]:
        """Read the checker's replies."""
        return parse_replies(items, replies)

    def aggregate(self, verdicts: Sequence[Verdict], *, num_expected: int, num_bootstraps: int, seed: int) -> Scores:
        """By operation, and over all edits."""
        return aggregate_strict(
            self.name, verdicts, weighting="micro", headline="strict",
            num_expected=num_expected, num_bootstraps=num_bootstraps, seed=seed,
        )  # fmt: skip


class EditingWithSource(Editing):
    """Editing by a detokenizer that sees the source too: an option of ours, beside the paper's way."""

    name = "editing_with_source"

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """Draw the same codes as `editing` and render them beside their sources."""
        if not subject.tools.detokenizer.takes_sources:
            raise UserError(f"{self.name} needs a detokenizer trained with source_condition; leave the benchmark out.")
        seeds = subject.seeds(items)
        sources = [item.source for item in items if item.source is not None]
        images = subject.tools.render(subject.draw(items, seeds), seeds, sources)
        return [Output(uid=item.uid, image=image) for item, image in zip(items, images, strict=True)]


class CopySource(Editing):
    """What a model would score that returns the source as it is: the floor of every edit score."""

    name = "copy_source"
    subject: Literal["model", "reference"] = "reference"

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """The source itself, at full quality."""
        return [Output(uid=item.uid, image=item.source) for item in items]
