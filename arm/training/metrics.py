"""What a stage measures of its targets and of what it read; names are the same in curves, manifest and tracker.

loss, loss/codes, loss/edit/codes              means over the targets since the last entry: all (weighted), by modality,
                                               by kind of document and modality; `held_out/…` of the held-out samples
log_normaliser/codes, z_loss/codes             means of z and z²
logit_norm/codes                               root mean square of the logits, at the entry's step
share/edit, share_target/edit, fill            since the first step: tokens read of a kind, what the mixture asked for,
                                               tokens over places in rows
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from arm.model.documents import KINDS
from arm.training.config import MixtureConfig, Schedule, StageConfig, share_at
from arm.training.loader import Batch
from arm.training.loss import MODALITIES, SUMMED, target_weights
from arm.training.mixture import kind_schedules

Record = dict[str, float]

CELLS = 16
"""Midpoints between two points of a schedule."""


@dataclass(frozen=True, slots=True)
class KindCounts:
    """Targets (D, K) and tokens (K) by kind of document; whole numbers."""

    targets_DK: Tensor
    tokens_K: Tensor

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> "KindCounts":
        """Count the micro-batches of a rank."""
        columns = ([batch.code_kinds_M for batch in batches], [batch.text_kinds_M for batch in batches])
        targets = [torch.bincount(torch.cat(kinds), minlength=len(KINDS)) for kinds in columns]
        tokens = torch.tensor([batch.tokens_by_kind for batch in batches])
        return cls(torch.stack(targets), tokens.sum(dim=0))

    @classmethod
    def from_list(cls, values: Sequence[int]) -> "KindCounts":
        """Read back `to_list`."""
        table = torch.tensor(values).view(len(MODALITIES) + 1, len(KINDS))
        return cls(table[:-1], table[-1])

    def to_list(self) -> list[int]:
        """Plain numbers, for a collective or a checkpoint."""
        return [*self.targets_DK.flatten().tolist(), *self.tokens_K.tolist()]


class Meter:
    """Sums over targets since the last entry of the curves, and what was read since the first step. On the model's
    device: nothing waits for a GPU between two entries."""

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self._weights_DK = target_weights(config).double()
        self._window_DKC = no_sums()
        self.read = KindCounts.from_list([0] * (len(MODALITIES) + 1) * len(KINDS))
        """Over all ranks, since the first step."""

    def add(self, sums_DKC: Tensor) -> None:
        """Add the targets of this rank that a step learned from."""
        self._window_DKC = self._window_DKC.to(sums_DKC.device) + sums_DKC

    def count(self, counts: KindCounts) -> float:
        """Add what all ranks read at a step; returns the summed weights of its targets."""
        self.read = KindCounts(self.read.targets_DK + counts.targets_DK, self.read.tokens_K + counts.tokens_K)
        return float((self._weights_DK * counts.targets_DK).sum())

    def weighted_loss(self, sums_DKC: Tensor) -> float:
        """The sum that is minimised over targets, without z: weights times cross-entropies."""
        return float((self._weights_DK * _column(sums_DKC, "loss")).sum())

    def entry(self, step: int) -> Record:
        """The entry of the curves after `step` steps, over all ranks; opens the next window."""
        sums_DKC = reduced(self._window_DKC)
        self._window_DKC = no_sums()
        return mean_losses(sums_DKC, self._weights_DK) | logit_sizes(sums_DKC) | self._shares(step)

    def _shares(self, step: int) -> Record:
        tokens_K, total = self.read.tokens_K.tolist(), int(self.read.tokens_K.sum())
        places = self._config.rows_per_step * self._config.sequence_length
        targets = target_shares(self._config.mixture, total / (places * self._config.steps))
        realised = {f"share/{kind}": tokens / max(total, 1) for kind, tokens in zip(KINDS, tokens_K, strict=True)}
        wanted = {f"share_target/{kind}": share for kind, share in targets.items()}
        return realised | wanted | {"fill": total / (places * step)}

    def state_dict(self) -> dict[str, Any]:
        """This rank's window, and what all ranks read."""
        return {"window": self._window_DKC.cpu(), "read": self.read.to_list()}

    def load_state_dict(self, state: dict[str, Any], windows_of: Sequence[dict[str, Any]] | None = None) -> None:
        """Go on from `state_dict`; on another number of ranks with the windows of those whose place this rank takes."""
        windows = [each["window"] for each in ([state] if windows_of is None else windows_of)]
        self._window_DKC = torch.stack([no_sums(), *windows]).sum(dim=0)
        self.read = KindCounts.from_list(state["read"])


def no_sums() -> Tensor:
    """Sums over no target."""
    return torch.zeros(len(MODALITIES), len(KINDS), len(SUMMED), dtype=torch.float64)


def reduced(sums_DKC: Tensor) -> Tensor:
    """Sums of all ranks, on the CPU; every rank calls this."""
    total = sums_DKC.cpu().clone()
    dist.all_reduce(total)
    return total


def mean_losses(sums_DKC: Tensor, weights_DK: Tensor | None = None, prefix: str = "loss") -> Record:
    """Mean cross-entropies, of all targets (with weights), by modality, and by kind and modality; none without targets.

    codes of edits 2 targets, sum 6; of text_to_image 2, sum 4  ->  loss/codes 2.5, loss/edit/codes 3, loss/text_to_image/codes 2
    """
    counts_DK, losses_DK = _column(sums_DKC, "targets"), _column(sums_DKC, "loss")
    record: Record = {}
    if weights_DK is not None:
        total = float((weights_DK * counts_DK).sum())
        record |= {prefix: float((weights_DK * losses_DK).sum()) / total} if total else {}
    for modality, counts, losses in zip(MODALITIES, counts_DK, losses_DK, strict=True):
        if counts.sum():
            record[f"{prefix}/{modality}"] = float(losses.sum() / counts.sum())
        for kind, count, loss in zip(KINDS, counts.tolist(), losses.tolist(), strict=True):
            record |= {f"{prefix}/{kind}/{modality}": loss / count} if count else {}
    return record


def logit_sizes(sums_DKC: Tensor) -> Record:
    """Log-normalisers and norms by modality."""
    record: Record = {}
    for index, modality in enumerate(MODALITIES):
        sums = dict(zip(SUMMED, sums_DKC[index].sum(dim=0).tolist(), strict=True))
        if sums["targets"]:
            record[f"log_normaliser/{modality}"] = sums["log_normaliser"] / sums["targets"]
            record[f"z_loss/{modality}"] = sums["squared_log_normaliser"] / sums["targets"]
        if sums["measured"]:
            record[f"logit_norm/{modality}"] = (sums["squared_logits"] / sums["measured"]) ** 0.5
    return record


def target_shares(mixture: MixtureConfig, place: float) -> Record:
    """The share of each kind that the mixture asks for from the start to a fraction of the stage's tokens."""
    return {kind: mean_share(schedule, place) for kind, schedule in kind_schedules(mixture).items()}


def mean_share(schedule: Schedule, place: float) -> float:
    """The mean of a share from 0 to a fraction of the stage, by midpoints between its points: exact for straight lines.

    ((0, .7), (1, .5)) to .5  ->  .65
    """
    knots = [0.0, *(point[0] for point in schedule if 0 < point[0] < place), place]
    if place <= 0:
        return share_at(schedule, 0.0)
    area = 0.0
    for start, end in pairwise(knots):
        cell = (end - start) / CELLS
        area += cell * sum(share_at(schedule, start + (number + 0.5) * cell) for number in range(CELLS))
    return area / place


def _column(sums_DKC: Tensor, name: str) -> Tensor:
    return sums_DKC[:, :, SUMMED.index(name)]
