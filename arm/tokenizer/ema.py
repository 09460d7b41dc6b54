"""An exponential moving average of the weights that learn (Polyak averaging), as a part of a checkpoint.

The statistics of batch normalisation are averaged alike: those of the last step would not fit the averaged weights. The
average is kept in float32, where a share of 1e-4 is not lost beside bfloat16 weights.
"""

from typing import Any

import torch
from torch import Tensor, nn

STATISTICS = ("running_mean", "running_var")
"""Names of the buffers of batch normalisation that are averaged, too."""


class ExponentialAverage:
    """average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at update n counted from 0.

    The growing d lets the first steps be forgotten (the rule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._weights: dict[str, Tensor] = {
            name: value for name, value in module.named_parameters() if value.requires_grad
        }
        self._weights |= {name: value for name, value in module.named_buffers() if name.endswith(STATISTICS)}
        self._average = {name: value.detach().float().clone() for name, value in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        weights = [value.float() for value in self._weights.values()]
        torch._foreach_lerp_(list(self._average.values()), weights, 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the module."""
        for name, value in self._weights.items():
            value.copy_(self._average[name])

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates."""
        return {"updates": self.updates, "average": dict(self._average)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from `state_dict`."""
        self.updates = int(state["updates"])
        average: dict[str, Tensor] = state["average"]
        for name, value in self._average.items():
            value.copy_(average[name])
