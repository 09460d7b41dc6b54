"""An exponential moving average of the weights that learn (Polyak averaging), as a part of a checkpoint."""

from typing import Any

import torch
from torch import Tensor, nn


class ExponentialAverage:
    """average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at update n counted from 0.

    The growing d lets the first steps be forgotten (the rule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._weights = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._average = {name: value.detach().clone() for name, value in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), 1 - decay)

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
