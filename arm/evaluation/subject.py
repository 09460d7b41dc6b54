"""What is evaluated: one training stage's model (or none, for the tools alone) with the tools around it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from arm.device import rank_device
from arm.evaluation.checker import Checker, load_checker
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.imaging import Grid, by_grid, fit, grid_of, square_grid, to_floats, to_pixels
from arm.evaluation.items import Item, Pixels
from arm.progress import Progress
from arm.tokenizer.config import ResolutionConfig

if TYPE_CHECKING:
    from arm.model.generation import Generator
    from arm.tokenizer.protocol import ImageDetokenizer, ImageTokenizer

Codes = NDArray[np.int64]
"""Codes of one image (h, w)."""


class Tools:
    """The tokenizer, detokenizer, encoder and checker; each is loaded when it is first used."""

    def __init__(self, *, tokenizer: Path, detokenizer: Path, encoder: Path | None, config: EvaluateConfig) -> None:
        self.config = config
        self.tokenizer_folder, self.detokenizer_folder, self.encoder = tokenizer, detokenizer, encoder

    @cached_property
    def tokenizer(self) -> "ImageTokenizer":
        """Images to codes."""
        from arm.tokenizer.protocol import load_tokenizer

        return load_tokenizer(self.tokenizer_folder).to(rank_device())

    @cached_property
    def detokenizer(self) -> "ImageDetokenizer":
        """Codes to images."""
        from arm.tokenizer.loading import load_detokenizer

        return load_detokenizer(self.detokenizer_folder).to(rank_device())

    @cached_property
    def checker(self) -> Checker:
        """Reads what an image shows."""
        return load_checker(self.config.checker)

    @property
    def square_grid(self) -> Grid:
        """The grid of images drawn from text alone."""
        return square_grid(self.config.image_size, self.tokenizer.stride)

    def fit(self, image: Pixels, resolution: ResolutionConfig) -> Pixels:
        """The image at the size at which it is read. An original is fitted once: another fit might take another size."""
        height, width = image.shape[:2]
        return fit(image, grid_of(height, width, resolution, self.tokenizer.stride), self.tokenizer.stride)

    @torch.no_grad()
    def encode(self, fitted: Sequence[Pixels]) -> list[Codes]:
        """Codes (h, w) of each image that was fitted, in order."""
        codes: dict[int, Codes] = {}
        for _, chosen in by_grid([image.shape[:2] for image in fitted], self.config.batch_size):
            found = self.tokenizer.encode(to_floats([fitted[index] for index in chosen]))
            codes.update(zip(chosen, found.cpu().numpy(), strict=True))
        return [codes[index] for index in range(len(fitted))]

    @torch.no_grad()
    def render(
        self, codes: Sequence[Codes], seeds: Sequence[int], sources: Sequence[Pixels] | None = None
    ) -> list[Pixels]:
        """Images of the codes, in order; the noise of each is keyed by its seed. A detokenizer may see edits' sources."""
        images: dict[int, Pixels] = {}
        stride = self.tokenizer.stride
        for grid, chosen in by_grid([(len(c), len(c[0])) for c in codes], self.config.batch_size):
            seen = None if sources is None else to_floats([fit(sources[index], grid, stride) for index in chosen])
            rendered = self.detokenizer.render(
                torch.from_numpy(np.stack([codes[index] for index in chosen])),
                self.tokenizer,
                seeds=[seeds[index] for index in chosen],
                steps=self.config.render_steps,
                guidance=self.config.render_guidance,
                sources_BCHW=seen,
            )
            images.update(zip(chosen, to_pixels(rendered), strict=True))
        return [images[index] for index in range(len(codes))]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A stage's name, its model and the tools. `reference` has no model."""

    name: str
    tools: Tools
    generator: "Generator | None" = None

    @property
    def config(self) -> EvaluateConfig:
        """The configuration of the whole evaluation."""
        return self.tools.config

    def seeds(self, items: Sequence[Item]) -> list[int]:
        """Seed of each item: the same at every stage, whatever the batch."""
        return [seed_of(item.uid, self.config.seed) for item in items]

    def draw(self, items: Sequence[Item], seeds: Sequence[int]) -> list[Codes]:
        """Codes of the image that the model draws for each item: from its text, or from its source and text."""
        assert self.generator is not None, "the reference draws nothing"
        edits = any(item.source is not None for item in items)
        prompts: list[Any] = [(item.prompt,) for item in items]
        grids = [self.tools.square_grid] * len(items)
        if edits:
            sources = self.tools.encode([self.tools.fit(_source(item), self.config.editing) for item in items])
            prompts = [(codes, item.prompt) for codes, item in zip(sources, items, strict=True)]
            grids = [(len(codes), len(codes[0])) for codes in sources]
        drawn = dict[int, Codes]()
        progress = Progress(f"{self.name}: {'edit' if edits else 'draw'}", total=len(items))
        for grid, chosen in by_grid(grids, self.config.batch_size):
            rollouts = self.generator.generate_images(
                [prompts[index] for index in chosen], grid, self._sampling(edits), [seeds[index] for index in chosen]
            )
            drawn.update(zip(chosen, rollouts.codes_BHW.cpu().numpy(), strict=True))
            progress.advance(len(chosen))
        progress.close()
        return [drawn[index] for index in range(len(items))]

    def answer(self, items: Sequence[Item]) -> list[str]:
        """The model's answer to each question about its source image."""
        assert self.generator is not None, "the reference answers nothing"
        codes = self.tools.encode([self.tools.fit(_source(item), self.config.reading) for item in items])
        prompts: list[Any] = [(image, item.prompt) for image, item in zip(codes, items, strict=True)]
        answers: list[str] = []
        for start in range(0, len(prompts), self.config.batch_size):
            answers += self.generator.answer(prompts[start : start + self.config.batch_size], self.config.answer_tokens)
        return answers

    def _sampling(self, edits: bool) -> Any:
        from arm.model.generation import Sampling

        chosen = self.config.sampling
        sampling = Sampling(
            temperature=chosen.temperature, top_k=chosen.top_k, top_p=chosen.top_p,
            guidance_text=chosen.guidance_text, guidance_image=1.0,
        )  # fmt: skip
        if edits:
            return replace(sampling, temperature=self.config.edit_temperature, guidance_image=chosen.guidance_image)
        return sampling


def seed_of(uid: str, seed: int) -> int:
    """A seed of 63 bits for one item."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{uid}".encode()).digest()[:8], "big") >> 1


def _source(item: Item) -> Pixels:
    assert item.source is not None, f"item {item.uid} has no source image"
    return item.source
