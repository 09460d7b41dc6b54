"""What every image tokenizer offers, ours or one that transformers ships, and how consumers load it.

    images (B, 3, H, W) in [0, 1]  --encode-->  codes (B, H/stride, W/stride)  --embed-->  features (B, N, C)

Code that only encodes, embeds or renders asks for these protocols, never for a class: users of the language model and
of RL may bring a tokenizer that was trained elsewhere (`arm.tokenizer.adapters`) and skip its training.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from arm.manifest import Manifest
from arm.tokenizer.adapters import PretrainedTokenizer
from arm.tokenizer.visual import CONFIG_NAME, VisualTokenizer

FOLDER = "tokenizer"
"""Where an artifact of train-tokenizer, or of import-model with role `image_tokenizer`, keeps its tokenizer."""


class ImageTokenizer(Protocol):
    """Images to codes of one codebook, codes to features. Frozen and in evaluation mode."""

    @property
    def num_codes(self) -> int:
        """Size of the codebook, at most 65,536: codes fit uint16."""

    @property
    def levels(self) -> tuple[int, ...]:
        """FSQ levels of the digits behind a code; empty for a learned codebook, whose codes have no digits."""

    @property
    def stride(self) -> int:
        """Pixels per code and side."""

    @property
    def width(self) -> int:
        """Channels C of the features."""

    @property
    def fingerprint(self) -> str:
        """sha256 over class, config and weights: equal fingerprints mean equal codes."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""

    def to(self, device: torch.device, /) -> Self:
        """Move the weights."""

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Images (B, 3, H, W) float32 in [0, 1] to codes (B, H/stride, W/stride) int64."""

    def embed(self, codes_BHW: Tensor) -> Tensor:
        """Codes (B, h, w) to features (B, h x w, C), raster order."""


class ImageDetokenizer(Protocol):
    """Codes to images. Frozen and in evaluation mode."""

    @property
    def takes_sources(self) -> bool:
        """Whether `render` may be given the sources of edits."""

    def to(self, device: torch.device, /) -> Self:
        """Move the weights."""

    def render(
        self, codes_BHW: Tensor, tokenizer: ImageTokenizer, *, seeds: Sequence[int], steps: int | None = None,
        guidance: float | None = None, sources_BCHW: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Codes (B, h, w) of `tokenizer` to images (B, 3, H, W) in [0, 1]; noise, if any, is keyed by each seed."""


def tokenizer_folder(manifest: Manifest) -> Path:
    """The local folder of an artifact's tokenizer."""
    return manifest.local_folder(FOLDER)


def load_tokenizer(folder: Path) -> ImageTokenizer:
    """Load the tokenizer of a folder: ours, one that import-model took, or a local Hugging Face checkpoint."""
    if (folder / CONFIG_NAME).exists() and "quantizer" in json.loads((folder / CONFIG_NAME).read_text()):
        return VisualTokenizer.from_pretrained(folder)
    return PretrainedTokenizer.from_pretrained(folder)
