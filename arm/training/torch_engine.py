"""The reference backend: plain PyTorch. Every rank holds everything; gradients are summed by one all-reduce a tensor.

It is what the DeepSpeed backend must agree with (tests/training/test_engine.py), and it runs where DeepSpeed is not wanted.
"""

import contextlib
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arm.device import rank_device
from arm.training.engine_config import EngineConfig, MakeOptimizer
from arm.training.fragments import Master, Piece

CLIP_MARGIN = 1e-6
"""Added to the norm before it is compared with the clip, as DeepSpeed does."""


class TorchBackend:
    """A module in its training dtype, with float32 masters under a torch optimiser."""

    whole = True

    def __init__(
        self, module: nn.Module, groups: list[dict[str, Any]], make_optimizer: MakeOptimizer, config: EngineConfig
    ) -> None:
        dtype = getattr(torch, config.dtype)
        names = {parameter: name for name, parameter in module.named_parameters()}
        self.module = module.to(device=rank_device(), dtype=dtype)
        self._clip, self._weights = config.gradient_clip, [p for group in groups for p in group["params"]]
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), 0)
        self._masters = [p.detach().float().clone() if dtype != torch.float32 else p for p in self._weights]
        for master in self._masters:
            master.requires_grad_()
        self._holders = self._masters if config.sum_dtype == "float32" else self._weights
        """Their `grad` is the step's gradient, in their type."""
        taken = iter(self._masters)
        for group in groups:
            group["params"] = [next(taken) for _ in group["params"]]
        self.optimizer: torch.optim.Optimizer = make_optimizer(groups)
        self.skipped_steps, self.gradient_norm = 0, 0.0
        self.masters = [
            Master(master, (Piece(names[weight], tuple(weight.shape), 0, 0, weight.numel()),))
            for master, weight in zip(self._masters, self._weights, strict=True)
        ]

    def __call__(self, *arguments: Any) -> Any:
        return self.module(*arguments)

    def mark(self, *, last: bool) -> None:
        """Gradients are reduced in `step`."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this rank's share of the loss."""
        loss.backward()  # type: ignore[no-untyped-call]
        for holder, weight in zip(self._holders, self._weights, strict=True):
            if holder is not weight and weight.grad is not None:
                holder.grad = weight.grad.float() if holder.grad is None else holder.grad.add_(weight.grad)
                weight.grad = None

    def step(self) -> None:
        """Sum over ranks, clip, update; a gradient that is not finite leaves the step out."""
        gradients = [_summed(holder) for holder in self._holders]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        self.gradient_norm = float(norm)
        if bool(torch.isfinite(norm)):
            factor = min(1.0, self._clip / (self.gradient_norm + CLIP_MARGIN)) if self._clip else 1.0
            for master, gradient in zip(self._masters, gradients, strict=True):
                master.grad = gradient.mul_(factor)
            self.optimizer.step()
            self.publish()
        else:
            self.skipped_steps += 1
        for tensor in (*self._masters, *self._weights):
            tensor.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the module."""
        for weight, master in zip(self._weights, self._masters, strict=True):
            if weight is not master:
                weight.copy_(master)

    def gathered(self) -> contextlib.AbstractContextManager[nn.Module]:
        """The module, which is whole."""
        return contextlib.nullcontext(self.module)


def _summed(weight: Tensor) -> Tensor:
    """A weight's gradient over all ranks, in float32."""
    gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
    gradient = gradient.float()
    if dist.get_world_size() > 1:
        dist.all_reduce(gradient)
    return gradient
