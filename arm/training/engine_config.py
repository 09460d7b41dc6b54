"""What an engine needs to know of a run: how it updates, how it is cut among the ranks, in which dtype it computes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from arm.training.optimizer import Scaling

MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""Builds the optimiser of some parameter groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What the optimiser and the collectives need to know."""

    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """DeepSpeed, or the plain PyTorch reference, where every rank holds everything."""
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-15
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    micro_batch: int = 1
    zero_stage: Literal[0, 1, 2, 3] = 1
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    gradient_dtype: Literal["model", "float32"] = "model"
    """Type in which gradients are added up over micro-batches and ranks: the model's, or float32."""
    new_rows_factor: float = 1.0
    """Factor on the learning rate of embedding and head."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_factor: float = 1.0
    """Muon's learning rate over AdamW's."""
    muon_scaling: Scaling = "spectral"
    """Size of Muon's updates."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of the float32 weights (0: none is kept)."""

    @property
    def sum_dtype(self) -> Literal["bfloat16", "float32"]:
        """What gradients are added up in."""
        return self.dtype if self.gradient_dtype == "model" else self.gradient_dtype
