"""Batches split among the ranks of a sequence-parallel group: each keeps an even span of tokens and what they predict.

tokens     8 7 1 2 | 3 5 5 5        rank 0 | rank 1
targets    7 of 8, 3 of 2 | 5 of 5          a target goes with the token that predicts it, though it lie next door
lengths    3 2 3 on both            attention sees whole documents
"""

from dataclasses import replace

import torch
from torch import Tensor

from arm.model.sequence import SequenceGroup
from arm.training.loader import Batch, Loader


class SplitLoader:
    """A loader whose ranks are groups; every rank of a group gets its span of the group's batches."""

    def __init__(self, loader: Loader, group: SequenceGroup) -> None:
        self.loader, self.plan, self._group = loader, loader.plan, group

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's part of a step."""
        return [split(batch, self._group) for batch in self.loader.micro_batches(step)]


def split(batch: Batch, group: SequenceGroup) -> Batch:
    """This rank's span of a batch. Counts stay with the group's first rank, so that sums over ranks are right."""
    size = len(batch.ids_N) // group.size
    assert size * group.size == len(batch.ids_N), "batches are padded to a multiple of 64 tokens"
    first = group.rank * size
    code = _within(batch.code_sources_M, first, size)
    text = _within(batch.text_sources_M, first, size)
    counted = group.rank == 0
    return replace(
        batch,
        ids_N=batch.ids_N[first : first + size],
        positions_N=batch.positions_N[first : first + size],
        code_sources_M=batch.code_sources_M[code] - first,
        code_targets_M=batch.code_targets_M[code],
        code_kinds_M=batch.code_kinds_M[code],
        text_sources_M=batch.text_sources_M[text] - first,
        text_targets_M=batch.text_targets_M[text],
        text_kinds_M=batch.text_kinds_M[text],
        tokens_by_kind=batch.tokens_by_kind if counted else (0,) * len(batch.tokens_by_kind),
        num_documents=batch.num_documents if counted else 0,
        num_tokens=batch.num_tokens if counted else 0,
        digest=batch.digest if counted else 0,
        identity=batch.identity if counted else 0,
    )


def _within(sources_M: Tensor, first: int, size: int) -> Tensor:
    """Which targets are predicted by a token of the span."""
    return torch.logical_and(sources_M >= first, sources_M < first + size)
