"""The loader: batch(step) is a function of (shards, plan, step), at any number of ranks.

Its whole state is {plan digest, step}: nothing is buffered between steps. A batch holds no padding: the documents of
its rows lie one after another, and attention knows their lengths.

    rows      [8 7 1][2 3]  [5 5 5]          ->   ids        8 7 1 2 3 5 5 5
                                                  positions  0 1 2 0 1 0 1 2
                                                  lengths    3 2 3
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from arm.errors import UserError
from arm.model.documents import KEEP_ALL, KINDS, Document, TextEncoder, build
from arm.model.token_shards import Shard
from arm.model.vocabulary import Vocabulary
from arm.training.config import MixtureConfig
from arm.training.ledger.identity import identity_sum, shard_keys
from arm.training.mixture import Integers, Plan, held_out_entries
from arm.training.packing import deal

SHAPE_STEP = 64
"""Batches are padded to a multiple of this many tokens, and targets in the loss too: on CPU every new shape costs a new
oneDNN kernel (22% of the time and 10 MB each)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents side by side, and what is learned of them. M targets; N tokens."""

    ids_N: Tensor
    positions_N: Tensor
    lengths: tuple[int, ...]
    code_sources_M: Tensor
    """Index of the token that predicts each code target."""
    code_targets_M: Tensor
    """Ids of the code targets, as vocabulary ids."""
    code_kinds_M: Tensor
    """Kind of the document that each code target lies in, as its number in KINDS."""
    text_sources_M: Tensor
    text_targets_M: Tensor
    text_kinds_M: Tensor
    tokens_by_kind: tuple[int, ...]
    """Tokens of the documents of each kind."""
    num_documents: int
    """Documents, without the padding at the end."""
    num_tokens: int
    digest: int
    """Sum over the documents of a 64-bit hash of their tokens: equal at any number of ranks once summed."""
    identity: int = 0
    """Sum over the documents of a hash of where they lie (`arm.training.ledger.identity`); 0 for held-out ones."""


class StepDocuments(NamedTuple):
    """The documents of a step as parallel columns, in the order of the rows."""

    kinds: Integers
    shards: Integers
    rows: Integers
    epochs: Integers
    lengths: Integers


class Loader:
    """Builds the micro-batches of one rank."""

    def __init__(
        self,
        shards: Sequence[Shard],
        plan: Plan,
        vocabulary: Vocabulary,
        encode: TextEncoder,
        *,
        rows_per_step: int,
        rows_per_micro_batch: int,
        rank: int = 0,
        num_ranks: int = 1,
        learn_all: bool = False,
    ) -> None:
        self._shards, self.plan, self._vocabulary, self._encode = shards, plan, vocabulary, encode
        self._rows_per_step, self._rows_per_micro_batch = rows_per_step, rows_per_micro_batch
        self._rank, self._num_ranks, self._learn_all = rank, num_ranks, learn_all
        self._keys = shard_keys([shard.name for shard in shards])

    def documents_of(self, step: int) -> StepDocuments:
        """The documents that all ranks read at a step."""
        plan, first = self.plan, step * self._rows_per_step
        numbers = plan.packed[plan.packed_starts[first] : plan.packed_starts[first + self._rows_per_step]]
        columns = (plan.kinds, plan.shards, plan.rows, plan.epochs, plan.lengths)
        return StepDocuments(*(column[numbers] for column in columns))

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's part of a step."""
        rows = self.rows_of(step)
        size = self._rows_per_micro_batch
        return [self._batch(rows[first : first + size]) for first in range(0, len(rows), size)]

    def rows_of(self, step: int) -> list[int]:
        """The rows of the plan that this rank reads at a step: dealt by the squared lengths, which attention costs."""
        first = step * self._rows_per_step
        rows = range(first, first + self._rows_per_step)
        costs = [int(np.square(self.plan.lengths[self.plan.row(row)]).sum()) for row in rows]
        return [rows[index] for index in deal(costs, self._num_ranks)[self._rank]]

    def _batch(self, rows: list[int]) -> Batch:
        numbers = [number for row in rows for number in self.plan.row(row).tolist()]
        plan = self.plan
        samples = [self._shards[plan.shards[n]].parts(int(plan.rows[n])) for n in numbers]
        self._encode([part.text for parts in samples for part in parts if part.codes is None])
        documents = [
            build(
                KINDS[plan.kinds[n]],
                parts,
                int(plan.drops[n]),
                self._vocabulary,
                self._encode,
                learn_all=self._learn_all,
            )
            for n, parts in zip(numbers, samples, strict=True)
        ]
        found = [len(document.ids) for document in documents]
        if found != plan.lengths[numbers].tolist():
            raise UserError(
                "The token shards' lengths are of another text tokenizer; tokenize again with this model's."
            )
        identity = identity_sum(
            plan.kinds[numbers], self._keys[plan.shards[numbers]], plan.rows[numbers], plan.epochs[numbers]
        )
        return replace(collate(documents, self._vocabulary), identity=identity)


def held_out_batches(
    shards: Sequence[Shard],
    mixture: MixtureConfig,
    vocabulary: Vocabulary,
    encode: TextEncoder,
    *,
    num_documents: int,
    max_tokens: int,
    rank: int = 0,
    num_ranks: int = 1,
) -> dict[str, list[Batch]]:
    """By kind, the first held-out documents, undropped: this rank's part, in batches of at most `max_tokens`."""
    batches = {}
    for kind in KINDS:
        entries = held_out_entries(shards, kind, mixture)
        places = range(rank, min(num_documents, len(entries.rows)), num_ranks)
        documents = (
            build(kind, shards[entries.shards[i]].parts(int(entries.rows[i])), KEEP_ALL, vocabulary, encode)
            for i in places
        )
        fitting = [document for document in documents if len(document.ids) <= max_tokens]
        batches[kind] = [collate(group, vocabulary) for group in _groups(fitting, max_tokens)]
    return batches


def evened(batches: dict[str, list[Batch]], vocabulary: Vocabulary) -> dict[str, list[Batch]]:
    """As many batches of a kind on every rank, filled up with padding: ranks that gather weights meet in every pass."""
    counts = torch.tensor([len(found) for found in batches.values()])
    dist.all_reduce(counts, dist.ReduceOp.MAX)
    padding = Document(np.full(SHAPE_STEP, vocabulary.end_of_text), np.zeros(SHAPE_STEP, np.bool_))
    filler = collate([padding], vocabulary)
    return {
        kind: found + [filler] * (count - len(found))
        for (kind, found), count in zip(batches.items(), counts.tolist(), strict=True)
    }


def collate(documents: Sequence[Document], vocabulary: Vocabulary) -> Batch:
    """Put documents side by side. The first token of a document is never a target: nothing precedes it.

    Up to `SHAPE_STEP` − 1 tokens of padding follow as a document of their own, of which nothing is learned.
    """
    num_tokens = sum(len(document.ids) for document in documents)
    padding = np.full(-num_tokens % SHAPE_STEP, vocabulary.end_of_text)
    padded = [*documents, Document(padding, np.zeros(len(padding), np.bool_))] if len(padding) else documents
    ids = np.concatenate([document.ids for document in padded])
    lengths = np.asarray([len(document.ids) for document in padded])
    starts = np.cumsum(lengths) - lengths
    learned = np.concatenate([document.learned for document in padded])
    learned[starts] = False
    targets = np.flatnonzero(learned)
    is_code = vocabulary.is_code(ids[targets])
    kind_of, own = np.asarray([document.kind for document in padded]), slice(len(documents))
    kinds = np.repeat(kind_of, lengths)[targets]
    tokens = np.bincount(kind_of[own], weights=lengths[own], minlength=len(KINDS))
    hashes = (hashlib.blake2b(document.ids.tobytes(), digest_size=8).digest() for document in documents)
    return Batch(
        ids_N=torch.from_numpy(ids),
        positions_N=torch.from_numpy(np.arange(len(ids)) - np.repeat(starts, lengths)),
        lengths=tuple(lengths.tolist()),
        code_sources_M=torch.from_numpy(targets[is_code] - 1),
        code_targets_M=torch.from_numpy(ids[targets[is_code]]),
        code_kinds_M=torch.from_numpy(kinds[is_code]),
        text_sources_M=torch.from_numpy(targets[~is_code] - 1),
        text_targets_M=torch.from_numpy(ids[targets[~is_code]]),
        text_kinds_M=torch.from_numpy(kinds[~is_code]),
        tokens_by_kind=tuple(tokens.astype(int).tolist()),
        num_documents=len(documents),
        num_tokens=num_tokens,
        digest=sum(int.from_bytes(value, "little") for value in hashes) % 2**63,
    )


def _groups(documents: Sequence[Document], max_tokens: int) -> list[list[Document]]:
    groups: list[list[Document]] = []
    filled = max_tokens + 1
    for document in documents:
        if filled + len(document.ids) > max_tokens:
            groups.append([])
            filled = 0
        groups[-1].append(document)
        filled += len(document.ids)
    return groups
