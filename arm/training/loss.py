"""The loss: cross-entropy of codes and of text, each over its modality's rows of the head (or over all rows).

    normalised over its modality     −log p(code | codes) and −log p(word | words): the paper's two heads in one matrix
    over all rows                    a plain softmax

Sums are returned, not means: the trainer divides by the weighted count of the whole step, over all ranks and
micro-batches. Logits are float32 and exist for one chunk at a time; `F.linear_cross_entropy` of torch 2.13 is wrong in
bfloat16, so the chunks are recomputed in the backward pass by checkpointing.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from arm.device import moved
from arm.model.attention import Documents
from arm.model.sequence import sequence_group
from arm.model.vocabulary import Vocabulary
from arm.training.config import StageConfig
from arm.training.loader import SHAPE_STEP, Batch

IGNORED = -100
"""A target that adds nothing."""


class LossSums(NamedTuple):
    """Sums over targets: cross-entropies by modality, and the squared log-normalisers.

    A tuple, because ZeRO stage 3 hangs its hooks on the tensors of tuples alone.
    """

    codes: Tensor
    text: Tensor
    squared_z: Tensor
    num_codes: int
    num_text: int


class PackedModel(nn.Module):
    """The model with its loss: what the engine wraps. Takes a batch, returns the sums."""

    def __init__(self, model: Any, vocabulary: Vocabulary, config: StageConfig) -> None:
        super().__init__()
        self.model, self.vocabulary, self.config = model, vocabulary, config
        self.group = sequence_group(config.sequence_parallel)

    def forward(self, batch: Batch) -> LossSums:
        """Cross-entropies of one micro-batch."""
        batch = moved(batch, self.model.device)
        hidden_NW = self.hidden(batch)
        whole = slice(0, self.vocabulary.size)
        modality = self.config.loss_rows == "modality"
        codes, z_codes = self._sum(
            hidden_NW, batch.code_sources_M, batch.code_targets_M, self.vocabulary.code_rows if modality else whole
        )
        text, z_text = self._sum(
            hidden_NW, batch.text_sources_M, batch.text_targets_M, self.vocabulary.text_rows if modality else whole
        )
        return LossSums(codes, text, z_codes + z_text, len(batch.code_targets_M), len(batch.text_targets_M))

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

    def _sum(self, hidden_NW: Tensor, sources_M: Tensor, targets_M: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        weight_VW = self.model.lm_head.weight[rows]
        chosen_MW, local_M = hidden_NW[sources_M], targets_M - rows.start
        return cross_entropy_sum(
            chosen_MW, weight_VW, local_M, chunk=self.config.loss_chunk, with_z=self.config.z_loss > 0
        )


def cross_entropy_sum(
    hidden_MW: Tensor, weight_VW: Tensor, targets_M: Tensor, *, chunk: int, with_z: bool = False
) -> tuple[Tensor, Tensor]:
    """Sum of cross-entropies over targets, and of the squared log-normalisers, in float32, `chunk` targets at a time."""
    hidden_MW, targets_M = _padded(hidden_MW, targets_M)
    if len(targets_M) <= chunk:
        return _chunk_sum(hidden_MW, weight_VW, targets_M, with_z)
    total, squared = hidden_MW.new_zeros((), dtype=torch.float32), hidden_MW.new_zeros((), dtype=torch.float32)
    for first in range(0, len(targets_M), chunk):
        some = slice(first, first + chunk)
        part, z = checkpoint(_chunk_sum, hidden_MW[some], weight_VW, targets_M[some], with_z, use_reentrant=False)
        total, squared = total + part, squared + z
    return total, squared


def _padded(hidden_MW: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
    """Ignored targets up to a multiple of SHAPE_STEP."""
    missing = -len(targets_M) % SHAPE_STEP
    return functional.pad(hidden_MW, (0, 0, 0, missing)), functional.pad(targets_M, (0, missing), value=IGNORED)


def _chunk_sum(hidden_MW: Tensor, weight_VW: Tensor, targets_M: Tensor, with_z: bool) -> tuple[Tensor, Tensor]:
    logits_MV = functional.linear(hidden_MW, weight_VW).float()
    total = functional.cross_entropy(logits_MV, targets_M, reduction="sum", ignore_index=IGNORED)
    if not with_z:
        return total, total.detach() * 0
    squared = (torch.logsumexp(logits_MV, dim=-1).square() * (targets_M != IGNORED)).sum()
    return total, squared


def weighted(sums: LossSums, config: StageConfig) -> Tensor:
    """The sum that is minimised, before it is divided by the step's weighted count."""
    return config.code_weight * sums.codes + config.text_weight * sums.text + config.z_loss * sums.squared_z
