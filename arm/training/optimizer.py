"""Optimisers under ZeRO: torch's AdamW, or Muon for the matrices of the layers.

ZeRO hands an optimiser one flat float32 slice of each parameter group, this rank's partition. AdamW acts element by
element and does not mind. Muon (K. Jordan et al. 2024) makes the update of a whole matrix orthogonal:

    group      | matrix 0 | matrix 1 | matrix 2 |          flat, in the order of the parameters
    partitions |   rank 0      |    rank 1      |          matrix 1 lies in both

so the momentum of all partitions is gathered, each rank makes the matrices that reach into its slice orthogonal, and
keeps its slice. The result is that of one rank, at any number of ranks. Where every rank holds whole matrices (ZeRO
stage 0, plain PyTorch) nothing is gathered.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arm.device import has_fast_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic Newton-Schulz iteration of Muon's reference implementation."""
ITERATIONS = 5
MOMENTUM = 0.95
"""Muon's momentum, with Nesterov's look-ahead (its reference implementation)."""

Scaling = Literal["spectral", "adamw"]
"""Size of a matrix's update. spectral: sqrt(max(1, rows / columns)), the reference implementation's; adamw:
0.2 sqrt(max side), the root mean square of AdamW's, so that one rate serves both (arXiv 2502.16982, section 2.2)."""


def parameter_groups(module: nn.Module, *, muon: bool, muon_factor: float, rows_factor: float) -> list[dict[str, Any]]:
    """Matrices of the layers (for Muon), embedding and head, and the rest; `factor` multiplies the learning rate.

    Frozen parameters are in no group. A convolution kernel is a matrix of out x rest.
    """
    matrices, rows, rest = [], [], []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if "embed_tokens" in name or "lm_head" in name:
            rows.append(parameter)
        elif muon and parameter.ndim >= 2 and min(_matrix_shape(parameter)) > 1:
            matrices.append(parameter)
        else:
            rest.append(parameter)
    groups = [
        {"params": matrices, "factor": muon_factor, "shapes": [_matrix_shape(p) for p in matrices]},
        {"params": rows, "factor": rows_factor, "shapes": None},
        {"params": rest, "factor": 1.0, "shapes": None},
    ]
    return [group for group in groups if group["params"]]


def _matrix_shape(parameter: Tensor) -> tuple[int, int]:
    return parameter.shape[0], parameter[0].numel()


def _update_scale(shape: tuple[int, int], scaling: Scaling) -> float:
    if scaling == "adamw":
        return 0.2 * math.sqrt(max(shape))
    return math.sqrt(max(1.0, shape[0] / shape[1]))


class Muon(torch.optim.Optimizer):
    """Muon for groups with `shapes`, AdamW for the others, on flat partitions or whole parameters."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        betas: tuple[float, float],
        epsilon: float,
        weight_decay: float,
        scaling: Scaling = "spectral",
    ) -> None:
        self.scaling = scaling
        super().__init__(groups, {"lr": 0.0, "betas": betas, "eps": epsilon, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update this rank's partition of every group."""
        for group in self.param_groups:
            for values in group["params"]:
                if values.grad is None:
                    continue
                values.mul_(1 - group["lr"] * group["weight_decay"])
                if not group["shapes"]:
                    step_adamw(values, self.state[values], group)
                elif values.ndim > 1:
                    _step_matrix(values, self.state[values], group, self.scaling)
                else:
                    _step_matrices(values, self.state[values], group, self.scaling)


def orthogonalise(matrices_BMN: Tensor) -> Tensor:
    """Each matrix with its singular values brought to about 1 (.7 to 1.2), by Newton-Schulz in bfloat16 where that is fast."""
    a, b, c = COEFFICIENTS
    tall = matrices_BMN.shape[1] > matrices_BMN.shape[2]
    x = matrices_BMN.mT.contiguous() if tall else matrices_BMN
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.to(_working_dtype())
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def _working_dtype() -> torch.dtype:
    """What updates are computed in and sent as: bfloat16 is enough, where it is fast."""
    return torch.bfloat16 if has_fast_bfloat16() else torch.float32


def _step_matrix(matrix: Tensor, state: dict[str, Any], group: dict[str, Any], scaling: Scaling) -> None:
    shape = _matrix_shape(matrix)
    (update,) = orthogonalise(_looked_ahead(matrix, state).to(_working_dtype()).view(1, *shape))
    matrix.add_(update.view_as(matrix), alpha=-group["lr"] * _update_scale(shape, scaling))


def _looked_ahead(values: Tensor, state: dict[str, Any]) -> Tensor:
    """The gradient with momentum, after Nesterov."""
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(values)
    assert values.grad is not None
    state["momentum"].lerp_(values.grad, 1 - MOMENTUM)
    return values.grad.lerp(state["momentum"], MOMENTUM)


def _step_matrices(flat: Tensor, state: dict[str, Any], group: dict[str, Any], scaling: Scaling) -> None:
    whole, start = _gathered(_looked_ahead(flat, state))
    end = start + flat.numel()
    for shape, offsets in _overlapping(group["shapes"], start, end).items():
        size = shape[0] * shape[1]
        updates = orthogonalise(torch.stack([whole[offset : offset + size].view(shape) for offset in offsets]))
        rate = group["lr"] * _update_scale(shape, scaling)
        for offset, update in zip(offsets, updates, strict=True):
            first, last = max(offset, start), min(offset + size, end)
            flat[first - start : last - start].add_(update.reshape(-1)[first - offset : last - offset], alpha=-rate)


def _gathered(partition: Tensor) -> tuple[Tensor, int]:
    """All ranks' partitions side by side in the working dtype, and where this rank's begins."""
    mine = partition.to(_working_dtype())
    world = dist.get_world_size() if dist.is_initialized() else 1
    if world == 1:
        return mine, 0
    whole = mine.new_empty(world * mine.numel())
    dist.all_gather_into_tensor(whole, mine)
    return whole, dist.get_rank() * mine.numel()


def _overlapping(shapes: list[tuple[int, int]], start: int, end: int) -> dict[tuple[int, int], list[int]]:
    """Offsets of the matrices that reach into [start, end), by shape."""
    found: dict[tuple[int, int], list[int]] = {}
    offset = 0
    for shape in shapes:
        size = shape[0] * shape[1]
        if offset < end and offset + size > start:
            found.setdefault(shape, []).append(offset)
        offset += size
    return found


def step_adamw(flat: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """One AdamW update of a parameter in place; the decay is already applied."""
    if "step" not in state:
        state |= {"step": 0, "first": torch.zeros_like(flat), "second": torch.zeros_like(flat)}
    assert flat.grad is not None
    state["step"] += 1
    beta1, beta2 = group["betas"]
    state["first"].lerp_(flat.grad, 1 - beta1)
    state["second"].mul_(beta2).addcmul_(flat.grad, flat.grad, value=1 - beta2)
    spread = (state["second"] / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
    flat.addcdiv_(state["first"], spread, value=-group["lr"] / (1 - beta1 ** state["step"]))
