"""Colours of boxes by CLIP, as GenEval names them: 10 colours × 3 templates, on the crop with a grey background (#999)."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from arm.device import computing_dtype, rank_device
from arm.errors import UserError
from arm.evaluation.detectors.classes import COLOURS
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.detectors.detector import Found
from arm.evaluation.items import Pixels
from arm.evaluation.models.files import SAFE, files_digest, model_folder

TEMPLATES = ("a photo of a {colour} {name}", "a photo of a {colour}-colored {name}", "a photo of a {colour} object")
BACKGROUND = (0x99, 0x99, 0x99)


class ColourNamer:
    """A CLIP model and the embeddings of the colours of each class."""

    def __init__(self, model: Any, processor: Any, digest: str) -> None:
        self.model, self.processor, self._digest = model, processor, digest
        self._colours = lru_cache(maxsize=None)(self._embedded)

    def protocol(self) -> dict[str, Any]:
        """Class, files and templates."""
        return {"clip": type(self.model).__name__, "clip_files": self._digest, "colour_templates": list(TEMPLATES)}

    @torch.no_grad()
    def name(self, image: Pixels, name: str, found: Sequence[Found]) -> list[str]:
        """The colour of each object."""
        if not found:
            return []
        crops = [crop(image, item) for item in found]
        pixels = self.processor(images=crops, return_tensors="pt")["pixel_values"]
        pooled = self.model.vision_model(pixel_values=pixels.to(self.model.device, self.model.dtype)).pooler_output
        images_ND = _unit(self.model.visual_projection(pooled))
        return [COLOURS[index] for index in (images_ND @ self._colours(name).T).argmax(dim=1).tolist()]

    def _embedded(self, name: str) -> Tensor:
        """(10, D): unit vectors of the filled templates, averaged, made unit again."""
        texts = [template.format(colour=colour, name=name) for colour in COLOURS for template in TEMPLATES]
        inputs = self.processor(text=texts, return_tensors="pt", padding=True).to(self.model.device)
        pooled = self.model.text_model(**inputs).pooler_output
        filled = _unit(self.model.text_projection(pooled)).view(len(COLOURS), len(TEMPLATES), -1)
        return _unit(filled.mean(dim=1))


def crop(image: Pixels, found: Found) -> PIL.Image.Image:
    """The box's part of the image, grey outside of the mask; at least a pixel."""
    shown = image
    if found.mask is not None:
        shown = np.where(found.mask[:, :, None], image, np.array(BACKGROUND, np.uint8))
    left, top, right, bottom = (round(side) for side in found.box)
    return PIL.Image.fromarray(shown).crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def load_namer(config: DetectorConfig) -> ColourNamer:
    """The CLIP model of the config."""
    if not config.clip:
        raise UserError("Some prompts name a colour; give DetectorConfig.clip, the folder of a CLIP model.")
    folder = model_folder(config.clip, "config.json")
    from transformers import AutoProcessor, CLIPModel

    loader: Any = AutoProcessor
    try:
        processor = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = CLIPModel.from_pretrained(folder, dtype=getattr(torch, computing_dtype(config.dtype)), **SAFE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{config.clip} cannot be loaded as a CLIP model by transformers ({reason}).") from None
    return ColourNamer(model.eval().to(rank_device()), processor, files_digest(Path(folder)))


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
