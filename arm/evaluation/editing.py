"""Editing: an instruction about an image, and the baseline of handing the source back."""

from collections.abc import Sequence
from typing import Literal

from arm.errors import UserError
from arm.evaluation.checked import CheckedBenchmark
from arm.evaluation.checker import judge_edits
from arm.evaluation.items import Item, Output, Reply
from arm.evaluation.subject import Subject


class Editing(CheckedBenchmark):
    """Share of edits after which everything is as asked for and the rest is as it was."""

    name, asks = "editing", "edits"

    def judge(self, items: Sequence[Item], outputs: Sequence[Output], subject: Subject) -> list[Reply]:
        """Ask the checker, which sees the source too."""
        return judge_edits(items, outputs, subject.tools.checker)


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
