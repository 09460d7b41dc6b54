"""Token shards, opened when they are first needed and ahead of that: a bounded number is open at once.

shards = open_later(tokens, codes, ("understanding", "images-512"))
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
from arm.model.token_shards import Shard, ShardFiles, open_shard, shard_files

MAX_OPEN = 256
"""Shards open at once: more than the windows of all kinds together (7 × 16)."""
NUM_FETCHES = 4
"""Shards fetched at once."""


class Shards(Sequence[Shard]):
    """Shards in their order; an opened one stays open until `max_open` others were used after it."""

    def __init__(
        self, tokens: Manifest, files: Sequence[ShardFiles], codes: VisualCodes, *, max_open: int = MAX_OPEN
    ) -> None:
        self._tokens, self._files, self._codes, self._max_open = tokens, list(files), codes, max_open
        self._opened: OrderedDict[int, Future[Shard]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(NUM_FETCHES, thread_name_prefix="shards")
        self._fingerprint: str | None = None
        self.names = tuple(f"{item.variant}/{item.unit}" for item in files)
        """`variant/unit` of each."""

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
        self._check_text_tokenizer(shard)
        return shard

    def _check_text_tokenizer(self, shard: Shard) -> None:
        with self._lock:
            self._fingerprint = self._fingerprint or shard.text_fingerprint
            if shard.text_fingerprint != self._fingerprint:
                raise UserError(f"{shard.name}: its lengths are of another text tokenizer than the other shards'.")


def open_later(tokens: Manifest, codes: VisualCodes, variants: Sequence[str] = ()) -> Shards:
    """The shards of the chosen variants, in their order; none: the only one."""
    return Shards(tokens, [item for variant in variants or (None,) for item in shard_files(tokens, variant)], codes)
