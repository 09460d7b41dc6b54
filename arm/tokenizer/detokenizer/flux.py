"""FLUX.1-dev as a detokenizer: its text conditioning is replaced by the features of codes (section 3.1, Eq. 5).

    FLUX                                      here
    prompt embeddings (T5), txt_ids zeros     projected features, txt_ids = the place of each code in img_ids' units
    pooled embedding (CLIP)                   projected mean of the features
    timestep sigma, 1 noise, 0 data           1 - t
    output noise - data                       velocity data - noise = -output

Latents are packed 2 x 2 into tokens as FluxPipeline does. A source's latents are packed alike and stand beside the noisy
ones as further input channels, as in FLUX.1's own Canny and Depth variants.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arm.errors import UserError
from arm.tokenizer.detokenizer.backbone import FOLDER, Backbone, Grid, Shape, common_unit, widen
from arm.tokenizer.detokenizer.latents import load_part, save_part

PACK = 2


class FluxBackbone(Backbone):
    """FluxTransformer2DModel on features of codes."""

    def __init__(self, shape: Shape, weights: Path | None) -> None:
        super().__init__()
        if weights is None:
            raise UserError("The backbone flux starts from weights; give train-detokenizer the input backbone.")
        self.shape, self.unit = shape, common_unit(shape, PACK)
        self.transformer: Any = load_part(weights, FOLDER, ("FluxTransformer2DModel",))
        size = shape.channels * PACK**2
        if self.transformer.out_channels != size:
            raise UserError(
                f"{weights} predicts {self.transformer.out_channels} channels, but 2 x 2 latents of the autoencoder have {size}."
            )
        if shape.source and self.transformer.config.in_channels == size:
            self.transformer.x_embedder = widen(self.transformer.x_embedder, size)
            self.transformer.register_to_config(in_channels=2 * size, out_channels=size)
        config = self.transformer.config
        self.tokens = nn.Linear(shape.width_condition, config.joint_attention_dim)
        self.pooled = nn.Linear(shape.width_condition, config.pooled_projection_dim)

    def forward(self, x_BCHW: Tensor, times_B: Tensor, features_BNC: Tensor, grid: Grid, source: Tensor) -> Tensor:
        """The velocity, in our convention."""
        guided = self.transformer.config.guidance_embeds
        rows, columns = x_BCHW.shape[2] // PACK, x_BCHW.shape[3] // PACK
        out = self.transformer(
            hidden_states=pack(torch.cat([x_BCHW, source], dim=1)),
            encoder_hidden_states=self.tokens(features_BNC),
            pooled_projections=self.pooled(features_BNC.mean(1)),
            timestep=1 - times_B,
            img_ids=places((rows, columns), 1.0).to(x_BCHW.device),
            txt_ids=places(grid, self.shape.stride / (self.shape.factor * PACK)).to(x_BCHW.device),
            guidance=torch.full_like(times_B, self.shape.embedded_guidance) if guided else None,
            return_dict=False,
        )[0]
        return -unpack(out.float(), (rows, columns))

    def save_pretrained(self, folder: Path) -> None:
        """Write the transformer as diffusers does."""
        save_part(self.transformer, folder / FOLDER)

    def checkpoint_activations(self) -> None:
        """Compute blocks twice."""
        self.transformer.enable_gradient_checkpointing()


def pack(latents_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) to tokens (B, H/2 x W/2, 4 C), channels before places inside a token: FluxPipeline's order."""
    return F.pixel_unshuffle(latents_BCHW, PACK).flatten(2).mT


def unpack(tokens_BNC: Tensor, grid: Grid) -> Tensor:
    """The inverse of `pack`."""
    channels_BCN = tokens_BNC.mT
    return F.pixel_shuffle(channels_BCN.reshape(*channels_BCN.shape[:2], *grid), PACK)


def places(grid: Grid, size: float) -> Tensor:
    """Rotary positions (N, 3) of cells of `size` tokens: (0, row, column) of each cell's centre.

    size 1, grid (1, 2)  ->  (0, 0, 0), (0, 0, 1)          size 2: (0, .5, .5), (0, .5, 2.5)
    """
    rows, columns = (torch.arange(count) * size + (size - 1) / 2 for count in grid)
    ids = torch.zeros(*grid, 3)
    ids[..., 1], ids[..., 2] = rows[:, None], columns[None, :]
    return ids.flatten(0, 1)
