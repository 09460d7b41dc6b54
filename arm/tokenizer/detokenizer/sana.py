"""Sana1.5 as a detokenizer: the paper's ablation decoder, Apache-2.0 in code, on AutoencoderDC's latents (32 x 32 pixels).

    Sana                                      here
    caption embeddings -> caption_projection  projected features with sine positions of their codes
    timestep 1000 sigma, 1000 noise           1000 (1 - t)
    output noise - data                       velocity data - noise = -output

Sana has no position embeddings, so cross-attention alone cannot find the code of a place: a map of the features also
stands beside the noisy latents as further input channels, weightless at first (ours), and so do a source's latents.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arm.errors import UserError
from arm.tokenizer.blocks import grid_positions
from arm.tokenizer.detokenizer.backbone import FOLDER, Backbone, Grid, Shape, common_unit, widen
from arm.tokenizer.detokenizer.latents import load_part, save_part

TIME_SCALE = 1000.0
MAP_CHANNELS = 32
"""Channels of the map that a code gives to its place. Ours."""


class SanaBackbone(Backbone):
    """SanaTransformer2DModel on features of codes."""

    def __init__(self, shape: Shape, weights: Path | None) -> None:
        super().__init__()
        if weights is None:
            raise UserError("The backbone sana starts from weights; give train-detokenizer the input backbone.")
        self.transformer: Any = load_part(weights, FOLDER, ("SanaTransformer2DModel",))
        config = self.transformer.config
        if config.guidance_embeds:
            raise UserError(f"{weights} is a distilled Sana-Sprint, which follows another path of noise; give Sana1.5.")
        if self.transformer.proj_out.out_features != shape.channels * config.patch_size**2:
            raise UserError(f"{weights} does not predict the autoencoder's {shape.channels} channels of latents.")
        self.unit = common_unit(shape, config.patch_size)
        self.latents, self.codes = self.unit // shape.factor, self.unit // shape.stride
        extra = MAP_CHANNELS * self.codes**2 + (shape.channels if shape.source else 0)
        if config.in_channels == shape.channels:
            self.transformer.patch_embed.proj = widen(self.transformer.patch_embed.proj, extra)
            self.transformer.register_to_config(in_channels=shape.channels + extra, out_channels=shape.channels)
        self.tokens = nn.Linear(shape.width_condition, config.caption_channels)
        self.map = nn.Linear(shape.width_condition, MAP_CHANNELS * self.latents**2)

    def forward(self, x_BCHW: Tensor, times_B: Tensor, features_BNC: Tensor, grid: Grid, source: Tensor) -> Tensor:
        """The velocity, in our convention."""
        tokens = self.tokens(features_BNC)
        out = self.transformer(
            hidden_states=torch.cat([x_BCHW, self._map(features_BNC, grid).to(x_BCHW), source], dim=1),
            encoder_hidden_states=tokens + grid_positions(grid, tokens.shape[-1]).to(tokens),
            timestep=(1 - times_B) * TIME_SCALE * self.transformer.config.timestep_scale,
            return_dict=False,
        )[0]
        return -out.float()  # type: ignore[no-any-return]

    def save_pretrained(self, folder: Path) -> None:
        """Write the transformer as diffusers does."""
        save_part(self.transformer, folder / FOLDER)

    def checkpoint_activations(self) -> None:
        """Compute blocks twice."""
        self.transformer.enable_gradient_checkpointing()

    def _map(self, features_BNC: Tensor, grid: Grid) -> Tensor:
        """Features laid out at the latents' places; several codes under one latent become channels."""
        cells = self.map(features_BNC).mT.unflatten(2, grid)
        return F.pixel_unshuffle(F.pixel_shuffle(cells, self.latents), self.codes)
