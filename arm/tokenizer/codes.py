"""Statistics of codes: how evenly, how independently and how steadily the FSQ digits behind them are used.

All but the flip rate come from one histogram of codes, which adds up over batches and ranks:

    codes (0, 1, 1, 3), levels (2, 2)  ->  histogram (1, 2, 0, 1), digits (0,0) (1,0) (1,0) (1,1)
    shares        dimension 0: (.25, .75)   dimension 1: (.75, .25)
    balance       (.5, .5)       levels x the smallest share: 1 is even, 0 means a level that never occurs
    usage         (1, 1)         share of the levels that occur
    perplexity    (.88, .88)     2^entropy / levels: 1 is even, 1 / levels is constant
    correlation   1/3            between the two dimensions, over the codes as they occur

D dimensions. A learned codebook has no digits: its levels are () and every statistic is empty.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from arm.tokenizer.fsq import index_to_digits

NOISE = 2 / 255
"""Standard deviation of the pixel noise of `perturb`: two grey levels of 255, which nobody sees. Ours."""


def histogram(codes: Tensor, num_codes: int) -> Tensor:
    """How often each code occurs: codes of any shape to (num_codes,) int64."""
    return torch.bincount(codes.flatten(), minlength=num_codes)


def digit_shares(counts: Tensor, levels: Sequence[int]) -> list[Tensor]:
    """Of each dimension, the share of codes at each of its levels: a histogram (num_codes,) to D tensors (L_d,)."""
    digits = _digits_of_all(counts, levels)
    weights = _weights(counts)
    return [torch.bincount(digits[:, d], weights, minlength=size) for d, size in enumerate(levels)]


def digit_balance(counts: Tensor, levels: Sequence[int]) -> Tensor:
    """Levels times the smallest share (D,): 1 when every level occurs equally often, 0 when one never does."""
    return _stacked([len(share) * share.min() for share in digit_shares(counts, levels)])


def digit_usage(counts: Tensor, levels: Sequence[int]) -> Tensor:
    """Share of a dimension's levels that occur (D,)."""
    return _stacked([(share > 0).double().mean() for share in digit_shares(counts, levels)])


def digit_perplexity(counts: Tensor, levels: Sequence[int]) -> Tensor:
    """2^entropy / levels (D,): 1 when every level occurs equally often, 1 / L_d when the digit is constant."""
    return _stacked([2 ** -torch.xlogy(s, s).sum().div(_LOG2) / len(s) for s in digit_shares(counts, levels)])


def digit_correlation(counts: Tensor, levels: Sequence[int]) -> Tensor:
    """Pearson correlation of every two digits over the codes as they occur (D, D); 0 beside a constant digit."""
    digits, weights = _digits_of_all(counts, levels).double(), _weights(counts)
    centred = digits - weights @ digits
    covariance = centred.T @ (centred * weights[:, None])
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    scale = torch.where(deviation > 0, 1 / deviation, 0)
    return (covariance * scale[:, None] * scale).clamp(-1, 1)


def flip_rate(codes: Tensor, others: Tensor, levels: Sequence[int]) -> Tensor:
    """Share of digits that differ between two codings of the same images (D,); both of one shape.

    Two uses, both with images that were held out:
        between steps         codes of one probe batch at two steps of training: do codes settle?
        under perturbation    codes of images and of `perturb(images)`: does what nobody sees change the code?

    codes (0, 3), (1, 3), levels (2, 2)  ->  digits (0,0) (1,1) and (1,0) (1,1)  ->  (.5, 0)
    """
    differ = index_to_digits(codes.flatten(), levels) != index_to_digits(others.flatten(), levels)
    return differ.double().mean(dim=0)


def perturb(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Images in [0, 1] with Gaussian pixel noise of two grey levels, clipped to [0, 1]."""
    noise = torch.randn(images_BCHW.shape, generator=generator).to(images_BCHW)
    return (images_BCHW + NOISE * noise).clamp(0, 1)


def digit_statistics(counts: Tensor, levels: Sequence[int]) -> dict[str, float]:
    """What is logged of a histogram: the worst and the mean dimension; {} without digits."""
    if not levels:
        return {}
    found = {"balance": digit_balance(counts, levels), "usage": digit_usage(counts, levels)}
    found["perplexity"] = digit_perplexity(counts, levels)
    record = {f"digits/{name}/{kind}": value for name, each in found.items() for kind, value in _least(each).items()}
    return record | {f"digits/correlation/{kind}": value for kind, value in _off_diagonal(counts, levels).items()}


_LOG2 = torch.log(torch.tensor(2.0, dtype=torch.float64))


def _least(each_D: Tensor) -> dict[str, float]:
    return {"min": float(each_D.min()), "mean": float(each_D.mean())}


def _off_diagonal(counts: Tensor, levels: Sequence[int]) -> dict[str, float]:
    """Largest and mean absolute correlation of two different digits; 0 where there is one dimension."""
    matrix = digit_correlation(counts, levels).abs()
    apart = matrix[~torch.eye(len(levels), dtype=torch.bool)]
    return {"max": float(apart.max()), "mean": float(apart.mean())} if len(apart) else {"max": 0.0, "mean": 0.0}


def _digits_of_all(counts: Tensor, levels: Sequence[int]) -> Tensor:
    """The digits of every code of the codebook (num_codes, D)."""
    return index_to_digits(torch.arange(len(counts)), levels)


def _weights(counts: Tensor) -> Tensor:
    """Shares of the codes (num_codes,) float64; a histogram of nothing is our own mistake."""
    total = counts.sum()
    assert total > 0, "a histogram without codes"
    return counts.cpu().double() / total.cpu()


def _stacked(values: list[Tensor]) -> Tensor:
    return torch.stack(values) if values else torch.empty(0, dtype=torch.float64)
