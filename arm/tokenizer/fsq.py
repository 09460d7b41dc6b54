"""Finite scalar quantization (Mentzer et al., arXiv 2309.15505) with the symmetric bound, and the index contract.

    levels (2, 2, 3), one value per dimension in [-1, 1]:
    values  (-1, +1, 0)  ->  digits (0, 1, 1)  ->  index 0*1 + 1*2 + 1*4 = 6

Each dimension d takes L_d evenly spaced values from -1 to +1; with two levels these are {-1, +1}. The index is
mixed-radix with dimension 0 the least significant digit. Every token shard on disk depends on that order:
INDEX_ORDER names it.

    forward     y = tanh(n(x))          n: nothing, or batch normalisation times NORM_GAIN
                digit = floor((y + 1) / 2 (L - 1) + 1/2)                  the nearest level, a tie goes up
                q = 2 digit / (L - 1) - 1                                 symmetric: q(-x) = -q(x), ties apart
    backward    dq/dx = dy/dx = (1 - y^2) dn/dx                           straight through the rounding alone

The published bound (arXiv 2411.19842, section 3.2) is the same for every L. The gradient dies where tanh saturates: 0.07
of it is left at |n(x)| = 2, 0.0002 at 5, none at 10, and a dimension that drifted there never comes back. Batch
normalisation keeps n(x) at a standard deviation of NORM_GAIN whatever the scale and offset of x, so that about half of
the gradient passes; without it (the paper states none) `gradient_share` says how much still does.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from arm.tokenizer.normalisation import BatchNorm

INDEX_ORDER = 1
"""Version of the index contract: mixed radix, dimension 0 least significant, digit 0 is -1."""

NORM_GAIN = 1.2
"""Ours: inputs of unit variance times 1.2 keep both halves of tanh in use without saturating its gradient."""

Norm = Literal["none", "batch"]


class FSQ(nn.Module):
    """Quantize (..., D) to codes in {-1 .. +1}^D with a straight-through gradient."""

    def __init__(self, levels: Sequence[int], *, norm: Norm = "none") -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.norm = BatchNorm(len(self.levels)) if norm == "batch" else None

    @property
    def num_codes(self) -> int:
        """Size of the codebook: the product of the levels."""
        return math.prod(self.levels)

    def bound(self, x: Tensor) -> Tensor:
        """Normalise (if asked) and bring (..., D) into [-1, 1]."""
        if self.norm is not None:
            x = self.norm(x.reshape(-1, x.shape[-1])).view_as(x) * NORM_GAIN
        return torch.tanh(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize: returns (values (..., D) with gradient, bounded inputs (..., D))."""
        bounded = self.bound(x.float())
        return _Nearest.apply(bounded, self.levels), bounded  # type: ignore[no-untyped-call]

    def encode(self, x: Tensor) -> Tensor:
        """Indices (...) int64 of inputs (..., D)."""
        return digits_to_index(values_to_digits(self.bound(x.float()), self.levels), self.levels)

    def decode(self, index: Tensor) -> Tensor:
        """Values (..., D) in [-1, 1] of indices (...)."""
        return index_to_values(index, self.levels)


class _Nearest(torch.autograd.Function):
    """The nearest level's value; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, bounded: Tensor, levels: tuple[int, ...]) -> Tensor:
        return _to_values(_nearest(bounded, levels), levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def gradient_share(bounded: Tensor) -> Tensor:
    """Of each dimension, the mean share of the gradient that passes tanh: bounded inputs (..., D) to (D,).

    bounded 0 -> 1, ±0.5 -> 0.75, ±1 -> 0; standard normal inputs times NORM_GAIN -> 0.54
    """
    return 1 - bounded.detach().float().square().flatten(0, -2).mean(dim=0)


def values_to_digits(bounded: Tensor, levels: Sequence[int]) -> Tensor:
    """The nearest level of each dimension: (..., D) in [-1, 1] to int64 digits 0 .. L-1; a tie goes up."""
    return _nearest(bounded.detach(), levels).long()


def digits_to_values(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digit 0 is -1, digit L-1 is +1."""
    return _to_values(digits.to(torch.float32, copy=True), levels)


def digits_to_index(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Mixed radix, dimension 0 least significant: (..., D) to (...)."""
    return (digits * _places(tuple(levels), digits.device)).sum(-1)


def index_to_digits(index: Tensor, levels: Sequence[int]) -> Tensor:
    """The inverse of `digits_to_index`: (...) to (..., D) int64."""
    chosen = tuple(levels)
    return index.unsqueeze(-1) // _places(chosen, index.device) % (_steps(chosen, index.device).long() + 1)


def index_to_values(index: Tensor, levels: Sequence[int]) -> Tensor:
    """Indices (...) to values (..., D) in [-1, 1]: what embeddings of codes can be tied to."""
    return digits_to_values(index_to_digits(index, levels), levels)


def _nearest(bounded: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits as float32, in memory of their own."""
    return (bounded + 1).mul_(_steps(tuple(levels), bounded.device) / 2).add_(0.5).floor_()


def _to_values(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Values of float digits, in place."""
    return digits.mul_(2).div_(_steps(tuple(levels), digits.device)).sub_(1)


@lru_cache(maxsize=64)
def _steps(levels: tuple[int, ...], device: torch.device) -> Tensor:
    """L - 1 of each dimension (D,) float32."""
    with torch.inference_mode(False):
        return torch.tensor([level - 1 for level in levels], dtype=torch.float32, device=device)


@lru_cache(maxsize=64)
def _places(levels: tuple[int, ...], device: torch.device) -> Tensor:
    """Place values of the digits (D,) int64."""
    with torch.inference_mode(False):
        return torch.tensor([math.prod(levels[:d]) for d in range(len(levels))], dtype=torch.int64, device=device)
