"""Batch normalisation whose statistics cover the batches of all ranks.

torch's SyncBatchNorm runs on GPUs alone; this one runs wherever the process group does. N rows, D dimensions.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of (N, D) without scale and shift.

    In training the mean and variance are those of all ranks' rows together, and so is the gradient: with the sum of the
    ranks' losses it is what one process with all the rows would have. Ranks may hold different numbers of rows; every
    rank must call it equally often. In evaluation the running statistics are used, which are part of the state.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, affine=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, D) to (N, D)."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        rows = torch.full_like(input[0, :1], len(input))
        total = _SumOverRanks.apply(torch.cat([input.sum(dim=0), rows]))  # type: ignore[no-untyped-call]
        mean, count = total[:-1] / total[-1], total[-1].detach()
        centred = input - mean
        variance = _SumOverRanks.apply(centred.square().sum(dim=0)) / count  # type: ignore[no-untyped-call]
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        return centred * torch.rsqrt(variance + self.eps)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _remember(self, mean_D: Tensor, variance_D: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_D, self.momentum)
        self.running_var.lerp_(variance_D, self.momentum)


class _SumOverRanks(torch.autograd.Function):
    """Sum a tensor over the ranks; the gradient is summed over them too, because each rank's loss used the sum."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return _summed(local)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
