"""Mask2Former for instance segmentation, read as GenEval's own detector (mmdet's) reads it.

The 100 best of all (query, class) pairs; score = class probability × mean mask probability inside the mask; the box is
the mask's. Masks are logits resized to the image, then cut at 0.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional

from arm.errors import UserError
from arm.evaluation.detectors.classes import CLASSES
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.detectors.detector import Found, best, load_parts
from arm.evaluation.items import Pixels

MAX_PAIRS = 100
"""mmdet's `max_per_image`."""


class Mask2Former:
    """One image at a time."""

    def __init__(self, model: Any, processor: Any, digest: str, config: DetectorConfig) -> None:
        self.model, self.processor, self.config, self._digest = model, processor, config, digest
        labels = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
        self.names = list(CLASSES) if len(labels) == len(CLASSES) else labels

    def protocol(self) -> dict[str, Any]:
        """Class, files and what is kept."""
        return {
            "detector": type(self.model).__name__, "files": self._digest,
            "threshold": self.config.threshold, "max_boxes": self.config.max_boxes,
        }  # fmt: skip

    @torch.no_grad()
    def detect(self, image: Pixels, classes: Sequence[str]) -> dict[str, list[Found]]:
        """Objects of the classes, which the detector must know."""
        unknown = sorted(set(classes) - set(self.names))
        if unknown:
            raise UserError(f"The detector knows no {unknown[0]!r} among its {len(self.names)} classes.")
        inputs = self.processor(images=PIL.Image.fromarray(image), return_tensors="pt").to(self.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        outputs = self.model(**inputs)
        masks_QHW = _resized(outputs.masks_queries_logits[0].float(), inputs, image.shape[:2])
        scores_QC = outputs.class_queries_logits[0].float().softmax(-1)[:, :-1]
        return best(self._pairs(scores_QC, masks_QHW, frozenset(classes)), self.config)

    def _pairs(self, scores_QC: Tensor, masks_QHW: Tensor, wanted: frozenset[str]) -> Iterator[tuple[str, Found]]:
        values, places = scores_QC.flatten().topk(min(MAX_PAIRS, scores_QC.numel()))
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            query, label = divmod(place, scores_QC.shape[1])
            mask_HW = masks_QHW[query] > 0
            if self.names[label] not in wanted or value <= self.config.threshold or not bool(mask_HW.any()):
                continue
            rows, columns = mask_HW.any(1).nonzero()[:, 0], mask_HW.any(0).nonzero()[:, 0]
            box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            score = value * float(masks_QHW[query].sigmoid()[mask_HW].mean())
            yield self.names[label], Found(box, score, mask_HW.cpu().numpy())


def load(config: DetectorConfig) -> Mask2Former:
    """A checkpoint of Mask2FormerForUniversalSegmentation, trained for instances."""
    return Mask2Former(*load_parts(config, "Mask2FormerForUniversalSegmentation", "mask2former"), config)


def _resized(masks_Qhw: Tensor, inputs: Any, size: tuple[int, int]) -> Tensor:
    """Logits at the image's size; what the processor padded is cut off first."""
    padded = tuple(inputs["pixel_values"].shape[-2:])
    masks = functional.interpolate(masks_Qhw[None], padded, mode="bilinear", align_corners=False)
    if "pixel_mask" in inputs:
        valid_HW = inputs["pixel_mask"][0].bool()
        masks = masks[:, :, : int(valid_HW.any(1).sum()), : int(valid_HW.any(0).sum())]
    return functional.interpolate(masks, size, mode="bilinear", align_corners=False)[0]
