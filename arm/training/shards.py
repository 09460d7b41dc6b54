"""Token shards, opened when they are first needed and ahead of that: a bounded number is open at once.

shards = open_later(tokens, codes, ("understanding", "images-512"))
shards.lengths[7].held_out  reads the sidecar of shard 7: what a plan asks, a hundredth of the shard's bytes
shards[7].parts(3)          opens shard 7: fetched through the cache, verified, mapped
shards.prefetch([8, 9])     opens them in the background
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import overload

from arm.errors import UserError
from arm.manifest import Manifest
from arm.model.lmm import VisualCodes
from arm.model.token_shards import (
    Shard,
    ShardFiles,
    ShardLengths,
    check_tokenizer,
    open_lengths,
    open_shard,
    shard_files,
)

MAX_OPEN = 256
"""Shards open at once: more than the windows of all kinds together (7 × 16)."""
MAX_LENGTHS = 16
"""Sidecars in memory at once, some 13 MB each of 200,000 captioned images: what a plan takes of one, it keeps itself."""
NUM_FETCHES = 4
"""Shards fetched at once."""


class Lengths(Sequence[ShardLengths]):
    """The sidecars of shards in their order, read one by one; the last few stay in memory."""

    def __init__(self, tokens: Manifest, files: Sequence[ShardFiles]) -> None:
        self._tokens, self._files = tokens, files
        self._read: OrderedDict[int, ShardLengths] = OrderedDict()
        self._lock = threading.Lock()
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, number: int) -> ShardLengths: ...
    @overload
    def __getitem__(self, number: slice) -> list[ShardLengths]: ...
    def __getitem__(self, number: int | slice) -> ShardLengths | list[ShardLengths]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        with self._lock:
            if number not in self._read:
                self._read[number] = self.checked(open_lengths(self._tokens, self._files[number]))
            self._read.move_to_end(number)
            if len(self._read) > MAX_LENGTHS:
                self._read.popitem(last=False)
            return self._read[number]

    def checked(self, lengths: ShardLengths) -> ShardLengths:
        """Refuse lengths of another text tokenizer than the ones before."""
        self._fingerprint = self._fingerprint or lengths.text_fingerprint
        if lengths.text_fingerprint != self._fingerprint:
            raise UserError(f"{lengths.name}: its lengths are of another text tokenizer than the other shards'.")
        return lengths


class Shards(Sequence[Shard]):
    """Shards in their order; an opened one stays open until `max_open` others were used after it."""

    def __init__(
        self, tokens: Manifest, files: Sequence[ShardFiles], codes: VisualCodes, *, max_open: int = MAX_OPEN
    ) -> None:
        self._tokens, self._files, self._codes, self._max_open = tokens, list(files), codes, max_open
        self._opened: OrderedDict[int, Future[Shard]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(NUM_FETCHES, thread_name_prefix="shards")
        self.lengths = Lengths(tokens, self._files)
        """What a plan asks of them, without opening any."""
        self.names = tuple(f"{item.variant}/{item.unit}" for item in files)
        """`variant/unit` of each."""
        self.tasks = {item["name"]: frozenset(item.get("tasks", ())) for item in tokens.config.get("variants", ())}
        """Of each variant, the tasks that it was made of; none: all."""

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, number: int) -> Shard: ...
    @overload
    def __getitem__(self, number: slice) -> list[Shard]: ...
    def __getitem__(self, number: int | slice) -> Shard | list[Shard]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._coming(int(number)).result()

    def __iter__(self) -> Iterator[Shard]:
        return (self[number] for number in range(len(self)))

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Open these in the background; what fails is told to whoever asks for it."""
        for number in numbers:
            self._coming(number)

    def close(self) -> None:
        """Fetch no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _coming(self, number: int) -> "Future[Shard]":
        with self._lock:
            if number not in self._opened:
                self._opened[number] = self._pool.submit(self._open, number)
                self._drop_oldest()
            self._opened.move_to_end(number)
            return self._opened[number]

    def _drop_oldest(self) -> None:
        while len(self._opened) > self._max_open:
            number, _ = self._opened.popitem(last=False)
            self._tokens.folder.release(self._files[number].shard)

    def _open(self, number: int) -> Shard:
        try:
            shard = open_shard(
                self._tokens,
                self._files[number],
                tokenizer_fingerprint=self._codes.fingerprint,
                num_codes=self._codes.num_codes,
            )
        except BaseException:
            with self._lock:
                self._opened.pop(number, None)
            raise
        self.lengths.checked(shard)
        return shard


def open_later(tokens: Manifest, codes: VisualCodes, variants: Sequence[str] = ()) -> Shards:
    """The shards of the chosen variants, in their order; none: the only one. Those of another visual tokenizer are refused
    by the first index of each variant, before a plan is made of their lengths; each shard is checked when it is opened."""
    found = [shard_files(tokens, variant) for variant in variants or (None,)]
    for files in found:
        check_tokenizer(tokens, files[0], tokenizer_fingerprint=codes.fingerprint, num_codes=codes.num_codes)
    return Shards(tokens, [item for files in found for item in files], codes)
