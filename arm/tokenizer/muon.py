"""Muon: momentum whose matrix updates are made orthogonal (K. Jordan et al., 2024, github.com/KellerJordan/Muon).

Matrices and convolution kernels (as out x rest) take the orthogonal update; vectors, scales and whatever is named in
`plain` take AdamW. `torch.optim.Muon` refuses convolution kernels and mixed parameter lists, hence this one.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic Newton-Schulz iteration of the reference implementation."""
ITERATIONS = 5


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
            update = _step_matrix if group["matrix"] else _step_adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, parameter.grad, self.state[parameter], group)


def orthogonalize(matrix_MN: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly (singular values in about [0.7, 1.2]), by Newton-Schulz in bfloat16."""
    a, b, c = COEFFICIENTS
    x = matrix_MN.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: Tensor = x.mT if tall else x
    return found.to(matrix_MN.dtype)


def _step_matrix(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    momentum = state.setdefault("momentum", torch.zeros_like(parameter))
    momentum.lerp_(gradient, 1 - group["betas"][1])
    direction = gradient.lerp(momentum, group["betas"][1])
    flat = direction.reshape(len(direction), -1)
    # 0.2 sqrt(max side) gives the update the root mean square of AdamW's, so that one learning rate serves both
    # (Moonlight, arXiv 2502.16982, section 2.2).
    scale = 0.2 * max(flat.shape) ** 0.5
    parameter.add_(orthogonalize(flat).view_as(parameter), alpha=-group["lr"] * scale)


def _step_adamw(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    first = state.setdefault("first", torch.zeros_like(parameter))
    second = state.setdefault("second", torch.zeros_like(parameter))
    state["step"] = state.get("step", 0) + 1
    beta1, beta2 = group["betas"]
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    rate = group["lr"] / (1 - beta1 ** state["step"])
    parameter.addcdiv_(first, (second / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"]), value=-rate)
