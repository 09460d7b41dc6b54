"""What predicts a detokenizer's latents: one interface, three backbones.

    dit    arm.tokenizer.detokenizer.dit.DitBackbone      ours, from nothing
    flux   arm.tokenizer.detokenizer.flux.FluxBackbone    diffusers' FluxTransformer2DModel (FLUX.1-dev): the paper's
    sana   arm.tokenizer.detokenizer.sana.SanaBackbone    diffusers' SanaTransformer2DModel (Sana1.5): the paper's ablation decoder

All speak our convention: t = 0 is noise, t = 1 data, velocity = data - noise (Eq. 2).
"""

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.tokenizer.config import FlowConfig

Grid = tuple[int, int]
"""(rows, columns) of codes."""

BACKBONES = {
    "dit": "arm.tokenizer.detokenizer.dit:DitBackbone",
    "flux": "arm.tokenizer.detokenizer.flux:FluxBackbone",
    "sana": "arm.tokenizer.detokenizer.sana:SanaBackbone",
}
FOLDER = "transformer"
"""Where a diffusers pipeline, and our detokenizer, keep the transformer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a backbone must fit: the latents, the codes, and whether it sees a source."""

    channels: int
    """Channels of the latents."""
    factor: int
    """Pixels per latent and side."""
    stride: int
    """Pixels per code and side."""
    width_condition: int
    """Channels of the codes' features."""
    flow: FlowConfig
    source: bool
    """Whether a source's latents (zeros: none) stand beside the noisy ones as further channels."""
    embedded_guidance: float = 1.0


class Backbone(nn.Module, ABC):
    """Predicts the velocity (or x_1, as FlowConfig.prediction says) of latents from codes' features."""

    unit: int
    """Pixels: the sides of padded images are multiples of it, so that codes and latents end together."""

    @abstractmethod
    def forward(self, x_BCHW: Tensor, times_B: Tensor, features_BNC: Tensor, grid: Grid, source: Tensor) -> Tensor:
        """Latents (B, C, h, w), times (B,), features in raster order of `grid`; `source` like the latents, or no channels."""

    def save_pretrained(self, folder: Path) -> None:
        """Write what came from weights of others; nothing by default."""

    def checkpoint_activations(self) -> None:
        """Compute blocks twice to hold fewer activations."""


def build(name: str, shape: Shape, weights: Path | None) -> Backbone:
    """A backbone for that shape, from pretrained weights where its kind has them."""
    module, _, cls = BACKBONES[name].partition(":")
    made: Backbone = getattr(importlib.import_module(module), cls)(shape, weights)
    return made


def common_unit(shape: Shape, patch: int) -> int:
    """Pixels that whole codes and whole tokens of `patch` latents cover."""
    return lcm(shape.stride, shape.factor * patch)


def widen(layer: Any, extra: int) -> Any:
    """A linear or convolution layer with `extra` more input channels, which count nothing at first (InstructPix2Pix)."""
    weight, bias = layer.weight, layer.bias
    grown = torch.cat([weight, weight.new_zeros(len(weight), extra, *weight.shape[2:])], dim=1)
    if isinstance(layer, nn.Linear):
        made: Any = nn.Linear(grown.shape[1], grown.shape[0], bias=bias is not None)
    else:
        made = nn.Conv2d(
            grown.shape[1], grown.shape[0], layer.kernel_size, stride=layer.stride, padding=layer.padding,
            bias=bias is not None,
        )  # fmt: skip
    made.weight.data.copy_(grown)
    if bias is not None:
        made.bias.data.copy_(bias)
    return made
