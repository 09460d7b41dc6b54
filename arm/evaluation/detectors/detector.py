"""What a detector is asked, and the table of them.

    detector.detect(pixels, ["bench", "cow"])  ->  {"bench": [Found((x0, y0, x1, y1), score, mask)]}     best first

A transformers detector of another class: write `(DetectorConfig) -> Detector` and add one line to DETECTORS.
"""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from arm.config import suggest
from arm.device import computing_dtype, rank_device
from arm.errors import UserError
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.items import Pixels
from arm.evaluation.models.files import SAFE, files_digest, model_folder

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Found:
    """One object: its box in pixels (x right, y down), score, and mask (H, W) where the detector has one."""

    box: Box
    score: float
    mask: NDArray[np.bool_] | None = None


class Detector(Protocol):
    """Finds objects of named classes."""

    def protocol(self) -> dict[str, Any]:
        """What fixes its answers: no path, no time."""
        ...

    def detect(self, image: Pixels, classes: Sequence[str]) -> dict[str, list[Found]]:
        """Objects of the classes above the threshold, best first; classes without any are left out."""
        ...


DETECTORS: dict[str, str] = {
    "mask2former": "arm.evaluation.detectors.mask2former:load",
    "grounding_dino": "arm.evaluation.detectors.grounding_dino:load",
}
"""Name -> `(DetectorConfig) -> Detector`."""


def find_detector(config: DetectorConfig) -> str:
    """The import string of that kind; an unknown one is a UserError that lists the known ones."""
    if config.kind not in DETECTORS:
        raise UserError(f"There is no detector {config.kind!r}; {suggest(config.kind, list(DETECTORS))}")
    return DETECTORS[config.kind]


def load_detector(config: DetectorConfig) -> Detector:
    """The detector of that kind, with its weights."""
    module, _, attribute = find_detector(config).partition(":")
    return cast(Detector, getattr(importlib.import_module(module), attribute)(config))


def load_parts(config: DetectorConfig, model_class: str, model_type: str) -> tuple[Any, Any, str]:
    """(model, processor, digest of the files) of a local folder that holds this type."""
    folder = model_folder(config.model, "config.json")
    import transformers

    try:
        found = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if found.model_type != model_type:
            raise UserError(f"{config.model} is a {found.model_type!r}, no {model_type!r}; give another --kind.")
        loader: Any = transformers.AutoImageProcessor if model_type == "mask2former" else transformers.AutoProcessor
        processor = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = getattr(transformers, model_class).from_pretrained(
            folder, dtype=getattr(torch, computing_dtype(config.dtype)), **SAFE
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{config.model} cannot be loaded as a detector by transformers ({reason}).") from None
    return model.eval().to(rank_device()), processor, files_digest(Path(folder))


def best(found: Iterable[tuple[str, Found]], config: DetectorConfig) -> dict[str, list[Found]]:
    """By class, above the threshold, best first, at most `max_boxes`; ties stay in the order in which they came."""
    classes: dict[str, list[Found]] = {}
    for name, item in found:
        if item.score > config.threshold:
            classes.setdefault(name, []).append(item)
    return {
        name: sorted(items, key=lambda item: -item.score)[: config.max_boxes] for name, items in sorted(classes.items())
    }
