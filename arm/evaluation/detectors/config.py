"""Which detector looks at the images. Standard library only."""

from dataclasses import dataclass
from typing import Literal

from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """A detector and the CLIP model that names colours."""

    kind: str = "mask2former"
    """Name in `arm/evaluation/detectors/detector.py:DETECTORS`: mask2former (GenEval's own class) or grounding_dino."""
    model: str = ""
    """Folder of the detector's weights, e.g. of facebook/mask2former-swin-small-coco-instance."""
    clip: str = ""
    """Folder of a CLIP model, e.g. of openai/clip-vit-large-patch14; needed where a prompt names a colour."""
    threshold: float = 0.3
    """Boxes with a higher score are written. GenEval: 0.3; its 0.9 for counting is the rule's."""
    max_boxes: int = 16
    """Boxes of a class, by score. GenEval: 16."""
    dtype: Literal["auto", "bfloat16", "float32"] = "float32"
    """Type of weights and activations of both models."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise UserError(f"DetectorConfig.threshold is {self.threshold}; it must lie in [0, 1).")
        if self.max_boxes < 1:
            raise UserError(f"DetectorConfig.max_boxes is {self.max_boxes}; give at least 1.")
