"""The tools themselves: does the checker read real images right, and what survives image → codes → image?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from arm.evaluation.benchmark import Scores, aggregate_strict
from arm.evaluation.checker import judge_prompts, parse_replies
from arm.evaluation.evaluation_set import EvaluationSet
from arm.evaluation.items import Item, Output, Pixels, Reply, Verdict
from arm.evaluation.subject import Subject
from arm.tokenizer.metrics import psnr


class RealImages:
    """Share of real images that the checker reads right: the ceiling of every strict score."""

    name = "real_images"
    subject: Literal["model", "reference"] = "reference"

    def items(self, evaluation_set: EvaluationSet) -> list[Item]:
        """The captioned images."""
        return evaluation_set.require("images")

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """The real image itself."""
        return [Output(uid=item.uid, image=item.source) for item in items]

    def judge(self, items: Sequence[Item], outputs: Sequence[Output], subject: Subject) -> list[Reply]:
        """Ask the checker."""
        return judge_prompts(items, outputs, subject.tools.checker)

    def parse(self, items: Sequence[Item], replies: Sequence[Reply]) -> list[Verdict]:
        """Read the checker's replies."""
        return parse_replies(items, replies)

    def aggregate(self, verdicts: Sequence[Verdict], *, num_expected: int, num_bootstraps: int, seed: int) -> Scores:
        """By category of the caption, and over all images."""
        return aggregate_strict(
            self.name, verdicts, weighting="micro", headline="strict",
            num_expected=num_expected, num_bootstraps=num_bootstraps, seed=seed,
        )  # fmt: skip


class Reconstruction(RealImages):
    """Share of images that the checker still reads right after the tokenizer and the detokenizer."""

    name = "reconstruction"

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """Encode and render each image; PSNR per image against the image at the tokenizer's size."""
        originals = [subject.tools.fit(item.source) for item in items if item.source is not None]
        images = subject.tools.render(subject.tools.encode(originals), subject.seeds(items))
        return [
            Output(uid=item.uid, image=image, numbers=_finite_psnr(image, original))
            for item, image, original in zip(items, images, originals, strict=True)
        ]


def _finite_psnr(image: Pixels, original: Pixels) -> dict[str, float]:
    """PSNR in dB to six digits; nothing for equal images, which would make the mean infinite."""
    if np.array_equal(image, original):
        return {}
    both = torch.from_numpy(np.stack([image, original])).double() / 255
    return {"psnr": round(float(psnr(both[:1], both[1:])), 6)}
