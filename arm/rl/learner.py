"""The learner: one batch of rollouts in, one or several optimizer updates, and what was measured.

The log-probabilities of the old policy are those of the learner's own first forward pass, so the first ratio is exactly
1; the sampler's are used for nothing but the gap, and the truncated importance weight that may correct it.

Every rank holds all rollouts and forms the same micro-batches; rank r takes micro-batches r, r + ranks, … . A rank that
runs out computes one more with weight 0, because ranks must meet in every backward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arm.errors import UserError
from arm.model.vocabulary import Vocabulary
from arm.rl.config import PolicyConfig
from arm.rl.grpo import Objective, clip_shares, importance_weights, k3, log_ratios, rollout_losses, sampler_gap
from arm.rl.policy import MicroBatch, code_log_probs, micro_batches
from arm.rl.rollout import Rollout, all_ranks


class Engine(Protocol):
    """What the learner needs of a training engine."""

    module: Any

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a loss's gradient; ranks average their gradients at the last one before a step."""
        ...

    def step(self) -> float:
        """Clip, update, forget the gradient; returns its norm."""
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
        reference: Any,
        vocabulary: Vocabulary,
        prompt_ids: Any,
        config: PolicyConfig,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self._engine, self._reference, self._vocabulary, self._prompt_ids = engine, reference, vocabulary, prompt_ids
        self._config, self._rank, self._num_ranks = config, rank, num_ranks
        self._objective = Objective(clip=config.clip, kl_coefficient=config.kl_coefficient, ratio=config.ratio)

    def update(self, rollouts: Sequence[Rollout], advantages: Sequence[float]) -> dict[str, float]:
        """Learn from rollouts with their advantages (the same on every rank); returns the metrics of the update.

        Raises GapTooWide, before anything changes, when the sampler's log-probabilities are not the learner's.
        """
        batches = list(
            micro_batches(rollouts, advantages, self._prompt_ids, self._vocabulary.first_code, self._config.learn_batch)
        )
        mine, num_passes = self._deal(batches)
        remembered: list[Remembered | None] = [None] * num_passes
        metrics: dict[str, float] = {}
        for number in range(self._config.updates_per_step):
            measured = []
            for index, batch in enumerate(mine):
                loss, found, remembered[index] = self._loss(batch, remembered[index])
                real = self._rank + index * self._num_ranks < len(batches)
                scale = self._num_ranks / len(rollouts) if real else 0.0
                self._engine.backward(loss.sum() * scale, last=index + 1 == num_passes)
                measured += [found] if real else []
            everything = [one for part in all_ranks(measured) for one in part]
            if number == 0:
                self._check_gap(everything)
                metrics |= gap_metrics(everything)
            metrics["gradient_norm"] = self._engine.step()
            metrics |= update_metrics(everything)
        return metrics

    def _deal(self, batches: list[MicroBatch]) -> tuple[list[MicroBatch], int]:
        """This rank's micro-batches, filled up to the number that every rank computes."""
        num_passes = -(-len(batches) // self._num_ranks)
        mine = batches[self._rank :: self._num_ranks]
        return mine + [batches[0]] * (num_passes - len(mine)), num_passes

    def _loss(self, batch: MicroBatch, known: Remembered | None) -> tuple[Tensor, Measured, Remembered]:
        logp_BN, entropy_BN = self._log_probs(self._engine.module, batch)
        if known is None:
            with torch.no_grad():
                reference_BN, _ = self._log_probs(self._reference, batch)
            old_BN = logp_BN.detach()
            known = Remembered(old_BN, reference_BN, sampler_gap(batch.sampled_BN, batch.log_kept_BN, old_BN))
        weights_BN = importance_weights(known.gap_BN, self._config.importance_cap)
        loss_B = rollout_losses(
            logp_BN, known.old_BN, known.reference_BN, batch.advantages_B, weights_BN, self._objective
        )
        measured = _measure(logp_BN.detach(), entropy_BN, known, batch, loss_B.detach(), self._objective)
        return loss_B, measured, known

    def _log_probs(self, model: Any, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        temperature, chunk = self._config.temperature, self._config.logits_chunk
        return code_log_probs(model, batch, self._vocabulary, temperature=temperature, chunk=chunk)

    def _check_gap(self, measured: Sequence[Measured]) -> None:
        gap = float(np.abs(_joined(measured, "gap")).mean())
        if gap > self._config.max_gap:
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
