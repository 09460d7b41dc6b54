"""A DiT of ours as a detokenizer's backbone: what small recipes train from nothing."""

from pathlib import Path

import torch
from torch import Tensor

from arm.errors import UserError
from arm.tokenizer.detokenizer.backbone import Backbone, Grid, Shape, common_unit
from arm.tokenizer.dit import ConditionedDiT


class DitBackbone(Backbone):
    """A DiT of ours over the latents, of the size that FlowConfig gives."""

    def __init__(self, shape: Shape, weights: Path | None) -> None:
        super().__init__()
        if weights is not None:
            raise UserError(
                "The backbone dit starts from nothing; leave the input backbone out, or choose flux or sana."
            )
        self.unit = common_unit(shape, shape.flow.patch)
        if self.unit != shape.stride:
            raise UserError(
                f"A token of the DiT covers {shape.factor * shape.flow.patch} pixels (the autoencoder's factor "
                f"{shape.factor} x FlowConfig.patch); that must divide the {shape.stride} pixels of a code."
            )
        self.dit = ConditionedDiT(
            shape.flow, channels=shape.channels, area=shape.stride // shape.factor,
            width_condition=shape.width_condition, beside=shape.channels if shape.source else 0,
        )  # fmt: skip

    def forward(self, x_BCHW: Tensor, times_B: Tensor, features_BNC: Tensor, grid: Grid, source: Tensor) -> Tensor:
        """Velocity or x_1, as FlowConfig.prediction says."""
        return self.dit(torch.cat([x_BCHW, source], dim=1), times_B, features_BNC)  # type: ignore[no-any-return]
