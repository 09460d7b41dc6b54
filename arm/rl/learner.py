"""The learner: one batch of rollouts in, one or several optimizer updates, and what was measured.

The log-probabilities of the old policy are those of the learner's own first forward pass, so the first ratio is exactly
1; the sampler's are used for nothing but the gap, and the truncated importance weight that may correct it.

Every rank holds all rollouts and forms the same micro-batches; rank r takes micro-batches r, r + ranks, … . A rank that
runs out computes one more with weight 0, because ranks must meet in every backward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arm.device import moved
from arm.errors import UserError
from arm.rl.config import PolicyConfig
from arm.rl.grpo import Objective, clip_shares, importance_weights, k3, log_ratios, rollout_losses, sampler_gap
from arm.rl.policy import CodePolicy, MicroBatch, PromptIds, micro_batches
from arm.rl.rollout import Rollout, all_ranks


class Engine(Protocol):
    """What the learner needs of a training engine around a CodePolicy."""

    @property
    def gradient_norm(self) -> float:
        """Norm of the last step's gradient, over all ranks, before clipping."""
        ...

    @property
    def skipped_steps(self) -> int:
        """Steps left out so far because their gradient was not finite."""
        ...

    def mark(self, *, last: bool) -> None:
        """Say before a forward pass whether its backward is the last of this step."""
        ...

    def __call__(self, batch: MicroBatch, /) -> tuple[Tensor, Tensor]:
        """CodePolicy's forward."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this rank's share of the step's loss."""
        ...

    def step(self, learning_rate: float) -> None:
        """Sum the gradient over the ranks, clip, update, forget it."""
        ...


class GapTooWide(UserError):
    """Sampler and learner disagree about the policy: whatever is learned would be wrong."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the first pass over a micro-batch fixes for the later ones."""

    old_BN: Tensor
    reference_BN: Tensor
    gap_BN: Tensor


@dataclass(frozen=True, slots=True)
class Measured:
    """Per-code measurements of one pass, flat."""

    log_ratio: NDArray[np.float32]
    kl: NDArray[np.float32]
    entropy: NDArray[np.float32]
    gap: NDArray[np.float32]
    clip_low: NDArray[np.float32]
    clip_high: NDArray[np.float32]
    loss: NDArray[np.float32]
    """Per rollout."""


class Learner:
    """Updates the engine's model; the reference is a frozen copy of where the stage started."""

    def __init__(
        self,
        engine: Engine,
        reference: CodePolicy,
        prompt_ids: PromptIds,
        config: PolicyConfig,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self._engine, self._reference, self._prompt_ids = engine, reference, prompt_ids
        self._config, self._rank, self._num_ranks = config, rank, num_ranks
        self._objective = Objective(clip=config.clip, kl_coefficient=config.kl_coefficient, ratio=config.ratio)

    def update(self, rollouts: Sequence[Rollout], advantages: Sequence[float]) -> dict[str, float]:
        """Learn from rollouts with their advantages (the same on every rank); returns the metrics of the update.

        Raises GapTooWide, before anything changes, when the sampler's log-probabilities are not the learner's.
        """
        first_code, size = self._reference.vocabulary.first_code, self._config.learn_batch
        batches = list(micro_batches(rollouts, advantages, self._prompt_ids, first_code, size))
        mine, num_passes = self._deal(batches)
        remembered: list[Remembered | None] = [None] * num_passes
        metrics: dict[str, float] = {}
        for number in range(self._config.updates_per_step):
            measured = []
            for index, batch in enumerate(mine):
                self._engine.mark(last=index + 1 == num_passes)
                loss_B, found, remembered[index] = self._loss(batch, remembered[index])
                real = self._rank + index * self._num_ranks < len(batches)
                self._engine.backward(loss_B.sum() / len(rollouts) if real else loss_B.sum() * 0.0)
                measured += [found] if real else []
            everything = [one for part in all_ranks(measured) for one in part]
            if number == 0:
                self._check_gap(everything)
                metrics |= gap_metrics(everything)
            self._engine.step(self._config.learning_rate)
            metrics |= {"gradient_norm": self._engine.gradient_norm, **update_metrics(everything)}
        return metrics | {"skipped_steps": float(self._engine.skipped_steps)}

    def _deal(self, batches: list[MicroBatch]) -> tuple[list[MicroBatch], int]:
        """This rank's micro-batches, filled up to the number that every rank computes."""
        num_passes = -(-len(batches) // self._num_ranks)
        mine = batches[self._rank :: self._num_ranks]
        return mine + [batches[0]] * (num_passes - len(mine)), num_passes

    def _loss(self, batch: MicroBatch, known: Remembered | None) -> tuple[Tensor, Measured, Remembered]:
        batch = moved(batch, self._reference.model.device)
        logp_BN, entropy_BN = self._engine(batch)
        if known is None:
            with torch.no_grad():
                reference_BN, _ = self._reference(batch)
            old_BN = logp_BN.detach()
            known = Remembered(old_BN, reference_BN, sampler_gap(batch.sampled_BN, batch.log_kept_BN, old_BN))
        weights_BN = importance_weights(known.gap_BN, self._config.importance_cap)
        loss_B = rollout_losses(
            logp_BN, known.old_BN, known.reference_BN, batch.advantages_B, weights_BN, self._objective
        )
        measured = _measure(logp_BN.detach(), entropy_BN, known, batch, loss_B.detach(), self._objective)
        return loss_B, measured, known

    def _check_gap(self, measured: Sequence[Measured]) -> None:
        gap = float(np.abs(_joined(measured, "gap")).mean())
        if not gap <= self._config.max_gap:  # so that nan is too wide, too
            raise GapTooWide(
                f"Sampler and learner differ by {gap:.3f} nats a code (max_gap {self._config.max_gap}): "
                "guidance, another temperature or another precision in the rollouts."
            )


def gap_metrics(measured: Sequence[Measured]) -> dict[str, float]:
    """How far the sampler's log-probabilities are from the learner's."""
    gap = _joined(measured, "gap")
    return {
        "gap/mean": float(gap.mean()),
        "gap/absolute": float(np.abs(gap).mean()),
        "gap/max": float(np.abs(gap).max()),
    }


def update_metrics(measured: Sequence[Measured]) -> dict[str, float]:
    """Means over all codes of the last update, and quantiles of the ratio."""
    ratio = np.exp(_joined(measured, "log_ratio"))
    low, middle, high = (float(value) for value in np.quantile(ratio, (0.01, 0.5, 0.99)))
    return {
        "loss/policy": float(_joined(measured, "loss").mean()),
        "kl": float(_joined(measured, "kl").mean()),
        "entropy": float(_joined(measured, "entropy").mean()),
        "clip/low": float(_joined(measured, "clip_low").mean()),
        "clip/high": float(_joined(measured, "clip_high").mean()),
        "ratio/p01": low,
        "ratio/p50": middle,
        "ratio/p99": high,
    }


def _measure(
    logp_BN: Tensor, entropy_BN: Tensor, known: Remembered, batch: MicroBatch, loss_B: Tensor, objective: Objective
) -> Measured:
    log_ratio_BN = log_ratios(logp_BN, known.old_BN, objective.ratio)
    low_BN, high_BN = clip_shares(log_ratio_BN, batch.advantages_B, objective.clip)
    kl_BN = k3(logp_BN, known.reference_BN)
    values = (log_ratio_BN, kl_BN, entropy_BN, known.gap_BN, low_BN, high_BN, loss_B)
    return Measured(*(value.float().cpu().numpy().reshape(-1) for value in values))


def _joined(measured: Sequence[Measured], name: str) -> NDArray[np.float32]:
    assert name in {field.name for field in fields(Measured)}
    return np.concatenate([getattr(one, name) for one in measured])
