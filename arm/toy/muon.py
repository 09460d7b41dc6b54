"""Muon: momentum whose matrix updates are made orthogonal (K. Jordan et al., 2024, github.com/KellerJordan/Muon).

Matrices and convolution kernels (as out x rest) take the orthogonal update; vectors, scales and whatever is named in
`plain` take AdamW. `torch.optim.Muon` refuses convolution kernels and mixed parameter lists, hence this one. It is for
modules that train in one process without the engine (`arm.toy`'s teachers); `arm.training.optimizer` does the same under it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from arm.training.optimizer import orthogonalise, step_adamw


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices, AdamW for the rest; the learning rate is AdamW's scale for both."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        chosen = [p for p in parameters if p.requires_grad]
        matrices = [p for p in chosen if p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 1]
        rest = [p for p in chosen if p.ndim < 2 or min(p.shape[0], p[0].numel()) <= 1]
        groups = [{"params": matrices, "matrix": True}, {"params": rest, "matrix": False}]
        defaults = {"lr": learning_rate, "betas": betas, "weight_decay": weight_decay, "eps": 1e-8}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            update = _step_matrix if group["matrix"] else step_adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, self.state[parameter], group)


def _step_matrix(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    gradient = parameter.grad
    assert gradient is not None
    momentum = state.setdefault("momentum", torch.zeros_like(parameter))
    momentum.lerp_(gradient, 1 - group["betas"][1])
    direction = gradient.lerp(momentum, group["betas"][1])
    flat = direction.reshape(len(direction), -1)
    # 0.2 sqrt(max side) gives the update the root mean square of AdamW's, so that one learning rate serves both
    # (Moonlight, arXiv 2502.16982, section 2.2).
    scale = 0.2 * max(flat.shape) ** 0.5
    parameter.add_(orthogonalise(flat[None])[0].view_as(parameter), alpha=-group["lr"] * scale)
