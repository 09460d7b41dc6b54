"""The tools themselves: does the checker read real images right, and what survives image → codes → image?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from arm.evaluation.checked import CheckedBenchmark
from arm.evaluation.items import Item, Output, Pixels
from arm.evaluation.subject import Subject
from arm.tokenizer.metrics import psnr


class RealImages(CheckedBenchmark):
    """Share of real images that the checker reads right: the ceiling of every strict score."""

    name, asks = "real_images", "images"
    subject: Literal["model", "reference"] = "reference"

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """The real image itself."""
        return [Output(uid=item.uid, image=item.source) for item in items]


class Reconstruction(RealImages):
    """Share of images that the checker still reads right after the tokenizer and the detokenizer."""

    name = "reconstruction"

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """Encode and render each image; PSNR per image against the image at the tokenizer's size."""
        sizes = subject.config.editing
        originals = [subject.tools.fit(item.source, sizes) for item in items if item.source is not None]
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
