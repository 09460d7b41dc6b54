"""Grounding DINO: boxes of whatever a text names. Not the detector of GenEval's published numbers: the protocol says so.

"bench. cow."      a box's score for a class is that of the class's best token; a box goes to its best class
"""

from collections.abc import Iterator, Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.detectors.detector import Found, best, load_parts
from arm.evaluation.items import Pixels

CLASSES_AT_ONCE = 20
"""Its text holds 256 tokens."""


class GroundingDino:
    """One image at a time; it is asked for the classes alone that the prompt is about."""

    def __init__(self, model: Any, processor: Any, digest: str, config: DetectorConfig) -> None:
        self.model, self.processor, self.config, self._digest = model, processor, config, digest

    def protocol(self) -> dict[str, Any]:
        """Class, files and what is kept."""
        return {
            "detector": type(self.model).__name__, "files": self._digest, "open_vocabulary": True,
            "threshold": self.config.threshold, "max_boxes": self.config.max_boxes,
        }  # fmt: skip

    @torch.no_grad()
    def detect(self, image: Pixels, classes: Sequence[str]) -> dict[str, list[Found]]:
        """Objects of the classes."""
        names = sorted(set(classes))
        found = [
            pair
            for start in range(0, len(names), CLASSES_AT_ONCE)
            for pair in self._pairs(image, names[start : start + CLASSES_AT_ONCE])
        ]
        return best(found, self.config)

    def _pairs(self, image: Pixels, names: Sequence[str]) -> Iterator[tuple[str, Found]]:
        text = " ".join(f"{name.lower()}." for name in names)
        inputs = self.processor(images=PIL.Image.fromarray(image), text=text, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        outputs = self.model(**inputs)
        probabilities_QT = outputs.logits[0].float().sigmoid()
        owners = owners_of(self.processor.tokenizer, text, names)
        scores_QC = _by_class(probabilities_QT, owners, len(names))
        height, width = image.shape[:2]
        for (x, y, w, h), scores in zip(outputs.pred_boxes[0].float().tolist(), scores_QC, strict=True):
            label = int(scores.argmax())
            box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            yield names[label], Found(box, float(scores[label]))


def load(config: DetectorConfig) -> GroundingDino:
    """A checkpoint of GroundingDinoForObjectDetection."""
    return GroundingDino(*load_parts(config, "GroundingDinoForObjectDetection", "grounding-dino"), config)


def owners_of(tokenizer: Any, text: str, names: Sequence[str]) -> list[int]:
    """The class of each token of the text, −1 for full stops and special tokens.

    "bench. cow."  ->  [CLS] bench . cow . [SEP]  ->  −1 0 −1 1 −1 −1
    """
    starts, place = [], 0
    for name in names:
        starts.append(place)
        place += len(name) + len(". ")
    owners = []
    for begin, end in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]:
        inside = [
            label
            for label, name in enumerate(names)
            if begin < end and starts[label] <= begin and end <= starts[label] + len(name)
        ]
        owners.append(inside[0] if inside else -1)
    return owners


def _by_class(probabilities_QT: Tensor, owners: Sequence[int], num_classes: int) -> Tensor:
    """(Q, C): the best token of each class."""
    columns = []
    for label in range(num_classes):
        tokens = [place for place, owner in enumerate(owners) if owner == label]
        best_Q = probabilities_QT[:, tokens].amax(-1) if tokens else torch.zeros_like(probabilities_QT[:, 0])
        columns.append(best_Q)
    return torch.stack(columns, dim=1)
