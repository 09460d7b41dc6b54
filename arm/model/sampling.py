"""From logits to tokens: guidance, temperature, truncation and noise, in one place that sampling and RL share.

The contract of log-probabilities (RL depends on it): with p the distribution after grammar, guidance and temperature,
and K the tokens that top-k and top-p keep,

    log_kept = log Σ_{K} p        log_prob = log p(token) − log_kept        (what was really sampled from)

so that log_prob + log_kept = log p(token): the learner computes it without top-k and top-p, whose support moves with
every update.

Shapes: B sequences, V rows that the grammar allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arm.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How codes are drawn. Guidance weights of 1 mean none."""

    temperature: float = 1.0
    """0: always the likeliest code."""
    top_k: int = 0
    """Keep this many likeliest codes; 0: all."""
    top_p: float = 1.0
    """Keep the likeliest codes up to this mass."""
    guidance_text: float = 1.0
    """1.5 for text-to-image and edits in the paper (section 4.1)."""
    guidance_image: float = 1.0
    """1.25 for edits in the paper (section 4.1)."""

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"Sampling needs temperature ≥ 0, top_k ≥ 0 and 0 < top_p ≤ 1, not {self.temperature}, {self.top_k}, {self.top_p}."
            )


def guide(branches: Sequence[Tensor], sampling: Sampling) -> Tensor:
    """Combine the logits of the branches [full, without text, without anything]; the last may be absent.

        two branches     u + t (f − u)                        f: all, u: without text
        three branches   n + i (u − n) + t (f − u)            n: without text and image (InstructPix2Pix, Eq. 3)

    f 2, u 1, n 0 with t 1.5, i 1.25  ->  0 + 1.25·1 + 1.5·1 = 2.75
    """  # fmt: skip
    full_BV = branches[0]
    if len(branches) == 1:
        return full_BV
    untexted_BV = branches[1]
    guided_BV = untexted_BV + sampling.guidance_text * (full_BV - untexted_BV)
    if len(branches) == 3:
        guided_BV = guided_BV + (sampling.guidance_image - 1) * (untexted_BV - branches[2])
    return guided_BV


def log_probs(logits_BV: Tensor, temperature: float) -> Tensor:
    """log p: what sampler and learner both compute of the logits of the allowed rows, in float32."""
    return torch.log_softmax(logits_BV.float() / temperature, dim=-1)


def draw(logits_BV: Tensor, sampling: Sampling, uniforms_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one token a row: (index_B, log_prob_B, log_kept_B). The uniforms in [0, 1) decide, by the inverse of the CDF."""
    logits_BV = logits_BV.float()
    if sampling.temperature == 0:
        best_B = logits_BV.argmax(dim=-1)
        log_p_B = torch.log_softmax(logits_BV, dim=-1).gather(1, best_B[:, None])[:, 0]
        return best_B, torch.zeros_like(log_p_B), log_p_B
    log_p_BV = log_probs(logits_BV, sampling.temperature)
    p_BV = log_p_BV.exp()
    if 0 < sampling.top_k < p_BV.shape[-1] or sampling.top_p < 1:
        p_BV.masked_fill_(~kept(log_p_BV, sampling), 0.0)
    cdf_BV = p_BV.double().cumsum(dim=-1)
    mass_B = cdf_BV[:, -1]
    index_B = torch.searchsorted(cdf_BV, (uniforms_B * mass_B)[:, None], right=True)[:, 0]
    index_B = _last_possible(index_B, cdf_BV)
    log_kept_B = mass_B.log().float().clamp(max=0.0)
    log_prob_B = log_p_BV.gather(1, index_B[:, None])[:, 0] - log_kept_B
    return index_B, log_prob_B, log_kept_B


def kept(log_p_BV: Tensor, sampling: Sampling) -> Tensor:
    """Which tokens top-k and top-p keep. Ties at the edge of top-k are all kept, unless top-p follows.

    p .5 .3 .2, top_p .6  ->  keeps .5 and .3: the smallest set whose mass reaches top_p
    """
    size = log_p_BV.shape[-1]
    top_k = sampling.top_k if 0 < sampling.top_k < size else size
    if sampling.top_p == 1:
        return log_p_BV >= torch.topk(log_p_BV, top_k, dim=-1).values[:, -1:]
    ordered_BK, order_BK = torch.topk(log_p_BV, top_k, dim=-1)
    p_BK = ordered_BK.exp()
    before_BK = p_BK.cumsum(dim=-1) - p_BK
    wanted_BK = before_BK < sampling.top_p * p_BK.sum(dim=-1, keepdim=True)
    return torch.zeros_like(log_p_BV, dtype=torch.bool).scatter(1, order_BK, wanted_BK)


def counter_uniforms(seeds: Sequence[int], position: int) -> Tensor:
    """One uniform in [0, 1) for each (seed, position): a function of these two alone, whatever else is in the batch."""
    keys = np.asarray([seed & 0xFFFFFFFFFFFFFFFF for seed in seeds], dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = mix64(mix64(keys) + np.uint64(position) * np.uint64(0x9E3779B97F4A7C15))
    return torch.from_numpy((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def mix64(values: "np.typing.NDArray[np.uint64]") -> "np.typing.NDArray[np.uint64]":
    """SplitMix64's finaliser (Steele et al. 2014): a bijection of 64 bits that scatters neighbours."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: np.typing.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
        return result


def _last_possible(index_B: Tensor, cdf_BV: Tensor) -> Tensor:
    """Where rounding pushed an index past the last token with mass, take that token."""
    last_B = torch.searchsorted(cdf_BV, cdf_BV[:, -1:].contiguous(), right=False)[:, 0]
    return torch.minimum(index_B, last_B)
