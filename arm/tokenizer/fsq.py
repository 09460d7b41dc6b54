"""Finite scalar quantization (Mentzer et al., arXiv 2309.15505) with the symmetric bound, and the index contract.

    levels (2, 2, 3), one value per dimension in [-1, 1]:
    values  (-1, +1, 0)  ->  digits (0, 1, 1)  ->  index 0*1 + 1*2 + 1*4 = 6

Each dimension d takes L_d evenly spaced values from -1 to +1; with two levels these are {-1, +1}. The index is
mixed-radix with dimension 0 the least significant digit. Every token shard on disk depends on that order:
INDEX_ORDER names it.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

INDEX_ORDER = 1
"""Version of the index contract: mixed radix, dimension 0 least significant, digit 0 is -1."""

NORM_GAIN = 1.2
"""Ours: inputs of unit variance times 1.2 keep both halves of tanh in use without saturating its gradient."""

Norm = Literal["none", "batch"]


class FSQ(nn.Module):
    """Quantize (..., D) to codes in {-1 .. +1}^D with a straight-through gradient.

    The forward is q = round to levels of tanh(x); the backward is that of tanh(x): d q / d x = 1 - tanh(x)^2.
    For two levels this equals the published symmetric bound 2 floor((tanh x + 1) / 2 + 1/2) - 1.
    """

    def __init__(self, levels: Sequence[int], *, norm: Norm = "none") -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.norm = nn.BatchNorm1d(len(self.levels), affine=False) if norm == "batch" else None

    @property
    def num_codes(self) -> int:
        """Size of the codebook: the product of the levels."""
        return math.prod(self.levels)

    def bound(self, x: Tensor) -> Tensor:
        """Normalise (if asked) and bring (..., D) into (-1, 1)."""
        if self.norm is not None:
            x = self.norm(x.reshape(-1, x.shape[-1])).view_as(x) * NORM_GAIN
        return torch.tanh(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize: returns (values (..., D) with gradient, bounded inputs (..., D))."""
        bounded = self.bound(x.float())
        values = digits_to_values(values_to_digits(bounded, self.levels), self.levels)
        return bounded + (values - bounded).detach(), bounded

    def encode(self, x: Tensor) -> Tensor:
        """Indices (...) int64 of inputs (..., D)."""
        return digits_to_index(values_to_digits(self.bound(x.float()), self.levels), self.levels)

    def decode(self, index: Tensor) -> Tensor:
        """Values (..., D) in [-1, 1] of indices (...)."""
        return index_to_values(index, self.levels)


def values_to_digits(bounded: Tensor, levels: Sequence[int]) -> Tensor:
    """The nearest level of each dimension: (..., D) in [-1, 1] to int64 digits 0 .. L-1; a tie goes up."""
    steps = _levels(bounded, levels) - 1
    return torch.floor((bounded + 1) / 2 * steps + 0.5).clamp(min=0).minimum(steps).long()


def digits_to_values(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digit 0 is -1, digit L-1 is +1."""
    return digits.float() * 2 / (_levels(digits, levels) - 1) - 1


def digits_to_index(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Mixed radix, dimension 0 least significant: (..., D) to (...)."""
    return (digits * _places(digits, levels)).sum(-1)


def index_to_digits(index: Tensor, levels: Sequence[int]) -> Tensor:
    """The inverse of `digits_to_index`: (...) to (..., D) int64."""
    return index.unsqueeze(-1) // _places(index, levels) % _levels(index, levels).long()


def index_to_values(index: Tensor, levels: Sequence[int]) -> Tensor:
    """Indices (...) to values (..., D) in [-1, 1]: what embeddings of codes can be tied to."""
    return digits_to_values(index_to_digits(index, levels), levels)


def _levels(like: Tensor, levels: Sequence[int]) -> Tensor:
    return torch.tensor(levels, dtype=torch.float32, device=like.device)


def _places(like: Tensor, levels: Sequence[int]) -> Tensor:
    places = [math.prod(levels[:d]) for d in range(len(levels))]
    return torch.tensor(places, dtype=torch.int64, device=like.device)
