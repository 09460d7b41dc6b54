"""The pixel DiT: rectified flow in pixel space, conditioned on z_q (Eq. 2). It only supervises; it never renders for users."""

import torch
from torch import Tensor, nn

from arm.tokenizer import flow
from arm.tokenizer.config import FlowConfig
from arm.tokenizer.dit import ConditionedDiT


class PixelDiT(nn.Module):
    """Pixels are scaled to [-1, 1]; features are normalised before they condition."""

    def __init__(self, config: FlowConfig, *, stride: int, width_condition: int) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(width_condition)
        self.dit = ConditionedDiT(config, channels=3, area=stride, width_condition=width_condition)

    def loss(self, features_BNC: Tensor, images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity; images (B, 3, H, W) in [0, 1]."""
        condition = self.norm(features_BNC)
        return flow.flow_loss(lambda x, t: self.dit(x, t, condition), images_BCHW * 2 - 1, self.config, generator)

    @torch.no_grad()
    def sample(self, features_BNC: Tensor, size: tuple[int, int], *, steps: int, generator: torch.Generator) -> Tensor:
        """Images (B, 3, *size) in [0, 1] from features, by Euler steps."""
        condition = self.norm(features_BNC)
        noise = torch.randn((len(features_BNC), 3, *size), generator=generator).to(features_BNC.device)
        images = flow.integrate(lambda x, t: self.dit(x, t, condition), noise, steps, self.config)
        return (images / 2 + 0.5).clamp(0, 1)
