"""The arithmetic of GRPO: advantages, the clipped objective and what is measured on the way.

    rewards of a group      1.0  0.0  0.5  missing
    mean .5, std .408
    advantages              1.22 -1.22 0.0  0.0        the missing one is masked, not scored 0

Letters: P prompts, G rollouts of a prompt, B rollouts, N codes of an image. Source: DeepSeekMath (arXiv 2402.03300)
section 4.1; the paper's Equation 7.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ZERO_VARIANCE = 1e-6
"""A group whose standard deviation is below this teaches nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantages:
    """What a step's rewards are worth."""

    values_PG: Tensor
    """(r − mean) / max(std, floor) within the group; 0 where missing."""
    useful_P: Tensor
    """Groups with at least two rewards that differ."""
    present_PG: Tensor
    """Rollouts that have a reward."""

    @property
    def learn_PG(self) -> Tensor:
        """Rollouts that enter the loss."""
        return self.present_PG & self.useful_P[:, None]


def group_advantages(rewards_PG: Tensor, std_floor: float) -> Advantages:
    """Standardise rewards inside each group; NaN stands for a missing reward.

    rewards_PG: (P, G) float. The standard deviation is the population's, over the rewards that are present.
    """
    present_PG = ~rewards_PG.isnan()
    count_P = present_PG.sum(1)
    filled_PG = rewards_PG.nan_to_num(0.0)
    mean_P = filled_PG.sum(1) / count_P.clamp(min=1)
    centred_PG = torch.where(present_PG, filled_PG - mean_P[:, None], 0.0)
    std_P = (centred_PG.square().sum(1) / count_P.clamp(min=1)).sqrt()
    return Advantages(
        values_PG=centred_PG / std_P.clamp(min=std_floor)[:, None],
        useful_P=(std_P > ZERO_VARIANCE) & (count_P >= 2),
        present_PG=present_PG,
    )


def k3(logp_BN: Tensor, reference_BN: Tensor) -> Tensor:
    """Schulman's estimate of KL(policy, reference), per code: e^d − d − 1 with d = reference − policy; never negative."""
    difference_BN = reference_BN - logp_BN
    return difference_BN.exp() - difference_BN - 1


def log_ratios(logp_BN: Tensor, old_BN: Tensor, level: str) -> Tensor:
    """log(policy / old), per code, or its mean over the image at every code (`sequence`, GSPO's geometric mean)."""
    difference_BN = logp_BN - old_BN
    return difference_BN if level == "token" else difference_BN.mean(1, keepdim=True).expand_as(difference_BN)


def sampler_gap(sampled_BN: Tensor, log_kept_BN: Tensor, old_BN: Tensor) -> Tensor:
    """Sampler's log-probability over the whole support minus the learner's, nats a code.

    sampled_BN is under the truncated distribution, log_kept_BN the log of the mass that truncation kept.
    """
    return sampled_BN + log_kept_BN - old_BN


def importance_weights(gap_BN: Tensor, cap: float) -> Tensor:
    """min(learner / sampler, cap) per code; ones when the cap is 0 (off)."""
    return (-gap_BN).exp().clamp(max=cap) if cap else torch.ones_like(gap_BN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The constants of Equation 7."""

    clip: float
    kl_coefficient: float
    ratio: str


def rollout_losses(
    logp_BN: Tensor,
    old_BN: Tensor,
    reference_BN: Tensor,
    advantages_B: Tensor,
    weights_BN: Tensor,
    objective: Objective,
) -> Tensor:
    """Mean over an image's codes of −min(ρA, clip(ρ)A)·w + β·k3: one loss a rollout, shape (B,)."""
    ratio_BN = log_ratios(logp_BN, old_BN, objective.ratio).exp()
    clipped_BN = ratio_BN.clamp(1 - objective.clip, 1 + objective.clip)
    advantages_B1 = advantages_B[:, None]
    gain_BN = torch.minimum(ratio_BN * advantages_B1, clipped_BN * advantages_B1) * weights_BN
    return (objective.kl_coefficient * k3(logp_BN, reference_BN) - gain_BN).mean(1)


def clip_shares(log_ratio_BN: Tensor, advantages_B: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Masks (B, N) of codes whose gradient the clip removes: below 1 − clip with A < 0, above 1 + clip with A > 0."""
    ratio_BN = log_ratio_BN.exp()
    low_BN = (ratio_BN < 1 - clip) & (advantages_B[:, None] < 0)
    high_BN = (ratio_BN > 1 + clip) & (advantages_B[:, None] > 0)
    return low_BN, high_BN
