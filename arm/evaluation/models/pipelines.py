"""Any text-to-image or editing pipeline of diffusers: FLUX, SD3, Qwen-Image, SDXL, …

The class is the one that the folder's model_index.json names, if diffusers has it. Each image has its own generator at
its seed, on the CPU, so that it depends neither on the batch nor on the device's random numbers.
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from arm.device import computing_dtype, rank_device
from arm.errors import UserError
from arm.evaluation.items import Pixels
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.files import SAFE, files_digest, model_folder
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed, Unable

INDEX = "model_index.json"
TRUE_GUIDANCE = "true_cfg_scale"
"""Qwen-Image guides by this, against a negative prompt; its `guidance_scale` is for distilled models."""


class Pipeline(Unable):
    """A pipeline as it comes, at its own settings unless others are given."""

    def __init__(self, pipeline: Any, config: ModelConfig, folder: Path) -> None:
        self.pipeline, self.config, self.name = pipeline, config, folder.name
        self._digest = files_digest(folder)
        self._takes = frozenset(inspect.signature(pipeline.__call__).parameters)

    def protocol(self) -> dict[str, Any]:
        """Class, files and settings; None: the pipeline's own."""
        return {
            "class": type(self.pipeline).__name__, "files": self._digest,
            "dtype": computing_dtype(self.config.dtype), "batch_size": self.config.batch_size,
            "image_size": self.config.image_size or None, "steps": self.config.steps, "guidance": self.config.guidance,
        }  # fmt: skip

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        """A batch of prompts in one call."""
        with clock.phase("all"):
            return self._call(
                prompt=[drawing.prompt for drawing in drawings],
                generator=[_generator(drawing) for drawing in drawings],
                **self._size(), **self._settings(len(drawings)),
            )  # fmt: skip

    def edit(self, drawings: Sequence[Drawing]) -> list[Pixels | Failed]:
        """One call a source: editing pipelines fit the size of their output to it."""
        if "image" not in self._takes:
            raise self._cannot("takes no source image and edits none")
        made: list[Pixels | Failed] = []
        for drawing in drawings:
            assert drawing.source is not None, f"{drawing.uid} has no source image"
            image, settings = PIL.Image.fromarray(drawing.source), {**self._size(), **self._settings(1)}
            made += self._call(image=image, prompt=drawing.prompt, generator=_generator(drawing), **settings)
        return made

    def _call(self, **arguments: Any) -> list[Pixels | Failed]:
        with torch.no_grad():
            made = self.pipeline(output_type="pil", **arguments).images
        return [np.asarray(picture.convert("RGB")) for picture in made]

    def _size(self) -> dict[str, int]:
        if not self.config.image_size:
            return {}
        if not {"height", "width"} <= self._takes:
            raise UserError(f"{self.name} takes no height and width; leave image_size out.")
        return {"height": self.config.image_size, "width": self.config.image_size}

    def _settings(self, num_prompts: int) -> dict[str, Any]:
        """Steps and guidance; a negative prompt for each prompt, since Qwen-Image makes no more of one."""
        settings: dict[str, Any] = {}
        if self.config.steps is not None:
            settings["num_inference_steps"] = self.config.steps
        if self.config.guidance is not None and TRUE_GUIDANCE in self._takes and "Qwen" in type(self.pipeline).__name__:
            settings |= {TRUE_GUIDANCE: self.config.guidance, "negative_prompt": [" "] * num_prompts}
        elif self.config.guidance is not None:
            settings["guidance_scale"] = self.config.guidance
        unknown = sorted(settings.keys() - self._takes)
        if unknown:
            raise UserError(f"{self.name} ({type(self.pipeline).__name__}) takes no {unknown[0]}; leave it out.")
        return settings


def load(config: ModelConfig) -> Pipeline:
    """Load the pipeline that model_index.json names, from diffusers alone."""
    folder = model_folder(config.model, INDEX)
    import diffusers

    try:
        name = str(json.loads((folder / INDEX).read_bytes())["_class_name"])
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{config.model}/{INDEX} names no pipeline; give a folder saved by diffusers.") from None
    if not isinstance(getattr(diffusers, name, None), type):
        raise UserError(
            f"{config.model} asks for the pipeline {name!r}, which diffusers {diffusers.__version__} lacks."
        )
    loader: Any = diffusers.DiffusionPipeline
    try:
        pipeline = loader.from_pretrained(folder, torch_dtype=getattr(torch, computing_dtype(config.dtype)), **SAFE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{config.model} cannot be loaded as a pipeline by diffusers ({reason}).") from None
    pipeline.set_progress_bar_config(disable=True)
    return Pipeline(pipeline.to(rank_device()), config, folder)


def _generator(drawing: Drawing) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(drawing.seed)
