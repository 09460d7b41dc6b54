"""The loss: cross-entropy of codes and of text, each over its modality's rows of the head (or over all rows).

    normalised over its modality     −log p(code | codes) and −log p(word | words): the paper's two heads in one matrix
    over all rows                    a plain softmax

    a target's loss     weight of its modality · weight of its kind · (cross-entropy + z_loss · z²)      z = log Σ exp(logits)

Sums are returned, not means: the trainer divides by the summed weights of the whole step, over all ranks and
micro-batches. Logits are float32 and exist for one chunk at a time; `F.linear_cross_entropy` of torch 2.13 is wrong in
bfloat16, so the chunks are recomputed in the backward pass by checkpointing.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from arm.device import moved
from arm.model.attention import Documents
from arm.model.documents import KINDS
from arm.model.sequence import sequence_group
from arm.model.vocabulary import Vocabulary
from arm.training.config import StageConfig
from arm.training.loader import SHAPE_STEP, Batch

IGNORED = -100
"""A target that adds nothing."""
MODALITIES = ("codes", "text")
"""Of a target: D of them."""
SUMMED = ("targets", "loss", "log_normaliser", "squared_log_normaliser", "measured", "squared_logits")
"""What is summed over targets: ones, cross-entropy, z, z², ones where logits were measured, the mean square of logits."""


class LossSums(NamedTuple):
    """Of one micro-batch. A tuple: ZeRO stage 3 hangs its hooks on the tensors of tuples alone."""

    weighted: Tensor
    """What is minimised, before it is divided by the step's summed weights."""
    sums_DKC: Tensor
    """Sums over targets by modality, kind (K) and column of SUMMED, in float64, without gradient."""


@dataclass(frozen=True, slots=True)
class TargetLosses:
    """Of each target, in float32: cross-entropy, log-normaliser and, where measured, the mean square of its logits."""

    losses_M: Tensor
    z_M: Tensor
    squares_M: Tensor


class PackedModel(nn.Module):
    """The model with its loss: what the engine wraps. Takes a batch, returns the sums."""

    def __init__(self, model: Any, vocabulary: Vocabulary, config: StageConfig) -> None:
        super().__init__()
        self.model, self.vocabulary, self.config = model, vocabulary, config
        self.group = sequence_group(config.sequence_parallel)
        self._weights_DK = target_weights(config)  # no buffer: a bfloat16 model would round it

    def forward(self, batch: Batch, measure: bool = False) -> LossSums:
        """Losses of one micro-batch; `measure` adds the size of the logits, which costs one more pass over them."""
        batch = moved(batch, self.model.device)
        hidden_NW = self.hidden(batch)
        code_rows, text_rows = self.rows()
        codes = self._losses(hidden_NW, batch.code_sources_M, batch.code_targets_M, code_rows, measure)
        text = self._losses(hidden_NW, batch.text_sources_M, batch.text_targets_M, text_rows, measure)
        self._weights_DK = self._weights_DK.to(hidden_NW.device)
        code_weights_M, text_weights_M = (
            self._weights_DK[0][batch.code_kinds_M],
            self._weights_DK[1][batch.text_kinds_M],
        )
        return LossSums(
            self._weighted(codes, code_weights_M) + self._weighted(text, text_weights_M),
            torch.stack([_summed(codes, batch.code_kinds_M, measure), _summed(text, batch.text_kinds_M, measure)]),
        )

    def rows(self) -> tuple[slice, slice]:
        """The rows of the head that code and text targets are normalised over."""
        whole = slice(0, self.vocabulary.size)
        modality = self.config.loss_rows == "modality"
        return (self.vocabulary.code_rows, self.vocabulary.text_rows) if modality else (whole, whole)

    def hidden(self, batch: Batch) -> Tensor:
        """Last hidden states (N, width) of the documents of a batch."""
        output = self.model.model(
            input_ids=batch.ids_N[None],
            position_ids=batch.positions_N[None],
            attention_mask={"full_attention": None},
            use_cache=False,
            documents=Documents.of(batch.lengths, self.model.dtype, self.model.device, group=self.group),
        )
        states: Tensor = output.last_hidden_state[0]
        return states

    def _losses(
        self, hidden_NW: Tensor, sources_M: Tensor, targets_M: Tensor, rows: slice, measure: bool
    ) -> TargetLosses:
        return target_losses(
            hidden_NW[sources_M],
            self.model.lm_head.weight[rows],
            targets_M - rows.start,
            chunk=self.config.loss_chunk,
            learn_z=self.config.z_loss > 0,
            measure=measure,
        )

    def _weighted(self, found: TargetLosses, weights_M: Tensor) -> Tensor:
        losses_M = found.losses_M
        if self.config.z_loss:
            losses_M = losses_M + self.config.z_loss * found.z_M.square()
        return (weights_M * losses_M).sum()


def target_weights(config: StageConfig) -> Tensor:
    """The weight of a target (D, K): its modality's times its kind's."""
    kinds = torch.tensor([getattr(config.kind_weights, kind) for kind in KINDS])
    return torch.stack([config.code_weight * kinds, config.text_weight * kinds])


def target_losses(
    hidden_MW: Tensor,
    weight_VW: Tensor,
    targets_M: Tensor,
    *,
    chunk: int,
    learn_z: bool = False,
    measure: bool = False,
) -> TargetLosses:
    """The losses of targets, `chunk` of them at a time; z has a gradient only with `learn_z`."""
    size = len(targets_M)
    hidden_MW, targets_M = _padded(hidden_MW, targets_M)
    parts = []
    for first in range(0, max(len(targets_M), 1), chunk):
        some = slice(first, first + chunk)
        arguments = (hidden_MW[some], weight_VW, targets_M[some], learn_z, measure)
        small = len(targets_M) <= chunk
        parts.append(_chunk_losses(*arguments) if small else checkpoint(_chunk_losses, *arguments, use_reentrant=False))
    losses_M, z_M, squares_M = (torch.cat(column)[:size] for column in zip(*parts, strict=True))
    return TargetLosses(losses_M, z_M, squares_M)


def _padded(hidden_MW: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
    """Ignored targets up to a multiple of SHAPE_STEP."""
    missing = -len(targets_M) % SHAPE_STEP
    return functional.pad(hidden_MW, (0, 0, 0, missing)), functional.pad(targets_M, (0, missing), value=IGNORED)


def _chunk_losses(
    hidden_MW: Tensor, weight_VW: Tensor, targets_M: Tensor, learn_z: bool, measure: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropies, log-normalisers and mean squares. z = cross-entropy + the target's logit: no pass of its own."""
    logits_MV = functional.linear(hidden_MW, weight_VW).float()
    losses_M = functional.cross_entropy(logits_MV, targets_M, reduction="none", ignore_index=IGNORED)
    seen_MV = logits_MV.detach()
    own_M = (logits_MV if learn_z else seen_MV).gather(1, targets_M.clamp(min=0)[:, None])[:, 0]
    z_M = (losses_M if learn_z else losses_M.detach()) + own_M
    norms_M = torch.linalg.vector_norm(seen_MV, dim=1) if measure else torch.zeros_like(z_M)
    return losses_M, z_M, norms_M.square() / logits_MV.shape[1]


def _summed(found: TargetLosses, kinds_M: Tensor, measured: bool) -> Tensor:
    """(K, C): the columns of SUMMED by kind."""
    ones_M = torch.ones_like(found.z_M)
    losses_M, z_M = found.losses_M.detach(), found.z_M.detach()
    columns = (ones_M, losses_M, z_M, z_M.square(), ones_M * measured, found.squares_M.detach())
    columns_MC = torch.stack(columns, dim=1).double()
    return columns_MC.new_zeros(len(KINDS), len(SUMMED)).index_add(0, kinds_M, columns_MC)
