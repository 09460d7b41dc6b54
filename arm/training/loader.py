"""The loader: batch(step) is a function of (shards, plan, step), at any number of ranks and however much is built ahead.

Its whole state is {plan digest, step}: what is built ahead is only early. A batch holds no padding: the documents of
its rows lie one after another, and attention knows their lengths.

    rows      [8 7 1][2 3]  [5 5 5]          ->   ids        8 7 1 2 3 5 5 5
                                                  positions  0 1 2 0 1 0 1 2
                                                  lengths    3 2 3
"""

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from arm.errors import UserError
from arm.model.documents import KEEP_ALL, KINDS, Document, TextEncoder, build, strided
from arm.model.token_shards import Part, Shard
from arm.model.vocabulary import Vocabulary
from arm.training.ledger.identity import identity_sum, shard_keys
from arm.training.mixture import HeldOut, Planned, names_of
from arm.training.packing import deal
from arm.training.plan.rows import Rows, unpacked_choices
from arm.training.shards import Shards
from arm.training.withdrawn import Withdrawn, padding_document

SHAPE_STEP = 64
"""Batches are padded to a multiple of this many tokens, and targets in the loss too: on CPU every new shape costs a new
oneDNN kernel (22% of the time and 10 MB each)."""
FETCH_AHEAD_STEPS = 8
"""Shards are fetched so many steps before their first document is built."""


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


class Loader:
    """Builds the micro-batches of one rank, the next steps' ahead of time in a thread of its own."""

    def __init__(
        self,
        shards: Sequence[Shard],
        plan: Planned,
        vocabulary: Vocabulary,
        encode: TextEncoder,
        *,
        rows_per_step: int,
        rows_per_micro_batch: int,
        rank: int = 0,
        num_ranks: int = 1,
        loss_on: str = "targets",
        prefetch: int = 2,
        refused: Collection[str] = (),
    ) -> None:
        self._withdrawn = Withdrawn(shards, refused)
        self._shards, self.plan, self._vocabulary, self._encode = shards, plan, vocabulary, encode
        self._rows_per_step, self._rows_per_micro_batch = rows_per_step, rows_per_micro_batch
        self._rank, self._num_ranks, self._loss_on = rank, num_ranks, loss_on
        self._prefetch, self._coming = prefetch, dict[int, Future[list[Batch]]]()
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self.shard_names = names_of(shards)
        self._keys = shard_keys(self.shard_names)

    @property
    def num_steps(self) -> int:
        """Whole steps of the plan."""
        return self.plan.num_rows // self._rows_per_step

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's part of a step: as many on every rank, the last of them possibly without a row."""
        wanted = range(step, min(step + 1 + self._prefetch, max(self.num_steps, step + 1)))
        for number in [number for number in self._coming if number not in wanted]:
            self._coming.pop(number).cancel()
        for number in wanted:
            if number not in self._coming:
                self._coming[number] = self._builder.submit(self._built, number)
        return self._coming.pop(step).result()

    def rows_of(self, step: int) -> list[int]:
        """The rows of the plan that this rank reads at a step: dealt by the squared lengths, which attention costs."""
        return [step * self._rows_per_step + row for row in self._dealt(self.documents_of(step))]

    def documents_of(self, step: int) -> Rows:
        """The documents that all ranks read at a step, row after row."""
        first = step * self._rows_per_step
        return self.plan.rows(first, first + self._rows_per_step)

    def close(self) -> None:
        """End the thread; what it has not begun is dropped."""
        self._builder.shutdown(wait=True, cancel_futures=True)

    def _dealt(self, rows: Rows) -> list[int]:
        return deal(rows.squared_lengths(), self._num_ranks)[self._rank]

    def _built(self, step: int) -> list[Batch]:
        rows = self.documents_of(step)
        self._fetch_ahead(step)
        mine, size = self._dealt(rows), self._rows_per_micro_batch
        most = -(-self._rows_per_step // self._num_ranks)
        return [self._batch(rows, mine[first : first + size]) for first in range(0, most, size)]

    def _fetch_ahead(self, step: int) -> None:
        """Open the shards of a later step while this one is built."""
        later = step + FETCH_AHEAD_STEPS
        if isinstance(self._shards, Shards) and later < self.num_steps:
            self._shards.prefetch(np.unique(self.documents_of(later).shards).tolist())

    def _batch(self, rows: Rows, numbers: list[int]) -> Batch:
        places = [place for number in numbers for place in range(rows.starts[number], rows.starts[number + 1])]
        choices = unpacked_choices(rows.choices[places])
        drops, variants, strides = (values.tolist() for values in choices)
        kinds, shards, inside = (values[places].tolist() for values in (rows.kinds, rows.shards, rows.rows))
        samples = [
            self._sample(shard, row, variant, stride)
            for shard, row, variant, stride in zip(shards, inside, variants, strides, strict=True)
        ]
        self._encode([part.text for parts in samples for part in parts or () if part.codes is None])
        lengths = rows.lengths[places].tolist()
        documents = [
            padding_document(length, kind, self._vocabulary.end_of_text)
            if parts is None
            else build(KINDS[kind], parts, drop, self._vocabulary, self._encode, loss_on=self._loss_on)
            for kind, parts, drop, length in zip(kinds, samples, drops, lengths, strict=True)
        ]
        if [len(document.ids) for document in documents] != lengths:
            raise UserError(
                "The token shards' lengths are of another text tokenizer; tokenize again with this model's."
            )
        keys = self._keys[rows.shards[places]]
        identity = identity_sum(rows.kinds[places], keys, rows.rows[places], rows.epochs[places])
        return replace(collate(documents, self._vocabulary), identity=identity)

    def _sample(self, shard: int, row: int, variant: int, stride: int) -> Sequence[Part] | None:
        """The parts that a document is made of; None for a sample that was taken down, of which nothing is read."""
        if self._withdrawn.holds(shard, row):
            return None
        return strided(self._shards[shard].parts(row, variant), stride)

    def is_withdrawn(self, step: int) -> bool:
        """Whether a step has a document that was taken down."""
        rows = self.documents_of(step)
        pairs = zip(rows.shards.tolist(), rows.rows.tolist(), strict=True)
        return bool(self._withdrawn) and any(self._withdrawn.holds(shard, row) for shard, row in pairs)


def held_out_batches(
    shards: Sequence[Shard],
    held_out: HeldOut,
    vocabulary: Vocabulary,
    encode: TextEncoder,
    *,
    max_tokens: int,
    rank: int = 0,
    num_ranks: int = 1,
    refused: Collection[str] = (),
) -> dict[str, list[Batch]]:
    """By kind, the held-out documents, undropped: this rank's part, in batches of at most `max_tokens`. Those that
    were taken down are left out and nothing takes their place, so that the losses before and after compare."""
    batches, withdrawn = {}, Withdrawn(shards, refused)
    for kind, places in held_out.places.items():
        documents = [
            build(kind, shards[shard].parts(row), KEEP_ALL, vocabulary, encode)
            for shard, row in places[rank::num_ranks]
            if not withdrawn.holds(shard, row)
        ]
        batches[kind] = [collate(group, vocabulary) for group in _groups(documents, max_tokens)]
    return batches


def evened(batches: dict[str, list[Batch]], vocabulary: Vocabulary) -> dict[str, list[Batch]]:
    """As many batches of a kind on every rank, filled up with padding: ranks that gather weights meet in every pass."""
    counts = torch.tensor([len(found) for found in batches.values()])
    dist.all_reduce(counts, dist.ReduceOp.MAX)
    filler = collate([], vocabulary)
    return {
        kind: found + [filler] * (count - len(found))
        for (kind, found), count in zip(batches.items(), counts.tolist(), strict=True)
    }


def collate(documents: Sequence[Document], vocabulary: Vocabulary) -> Batch:
    """Put documents side by side. The first token of a document is never a target: nothing precedes it.

    Up to `SHAPE_STEP` − 1 tokens of padding follow as a document of their own, of which nothing is learned; no document at
    all (a rank without a row) is padding alone.
    """
    num_tokens = sum(len(document.ids) for document in documents)
    padding = np.full(-num_tokens % SHAPE_STEP or (0 if documents else SHAPE_STEP), vocabulary.end_of_text)
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
