"""The gzip members of a crawl file, inflated many at a time into one buffer.

    for batch in Members(path, max_bytes).batches():
        batch.data[start:end] of each (start, end, offset) in batch.members     one whole member each

Where a member ends is told by the next one's mark (1f 8b 08) and its own last four bytes, the size of what it holds. When
these four bytes stand nowhere else in the member, nothing can stand behind its true end; libdeflate then inflates it, twice
as fast as zlib. Any other member goes through zlib. At one that zlib refuses, that holds more than `max_bytes` or is larger
than a chunk, all ends: `stopped` tells where.
"""

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import deflate
import numba
import numpy as np

from arm.data.wat_kernels.layout import START
from arm.data.wat_kernels.pages import Integers
from arm.data.wat_kernels.search import PADDING, Bytes, Number, Words, next_pair

CHUNK_BYTES = 4 << 20
"""Compressed bytes that are looked at together; a larger member is not read here."""
BATCH_BYTES = 1 << 20
"""Inflated bytes that are handed on together: they stay in the processor's cache."""
MAX_MEMBERS = 1 << 14
"""Members of a chunk that are found together."""
MIN_MEMBER = 18
"""Bytes of the smallest header and trailer."""
_FLAGS = 0x1D
"""Flags of a gzip header that libdeflate and zlib read alike: all but a checksum of the header and what is reserved."""
_END, _SIZE, _SOUND = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Batch:
    """Inflated members: their bytes, the same as words, and for each member its start, end and offset in the file."""

    data: Bytes
    words: Words
    members: Integers


class Members:
    """Reads one file."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._data = _buffer(BATCH_BYTES)
        self._members: list[tuple[int, int, int]] = []
        self._top = 0
        self.stopped: int | None = None
        """Where the first member begins that cannot be read; None when there is none."""

    def batches(self) -> Iterator[Batch]:
        """Inflate the file; a batch is to be read before the next one is asked for."""
        chunk, offset, filled = _buffer(CHUNK_BYTES), 0, 0
        found = np.empty((MAX_MEMBERS, 4), np.int64)
        with self._path.open("rb") as stream:
            while True:
                num_read = stream.readinto(memoryview(chunk)[filled:CHUNK_BYTES])
                filled, at_end = filled + num_read, not num_read
                if not filled:
                    break
                number = find_members(chunk, chunk.view(np.uint64), filled, at_end, self._max_bytes, found)
                done = yield from self._inflate(memoryview(chunk)[:filled], offset, found[:number].tolist())
                if not done and (at_end or filled == CHUNK_BYTES):
                    self.stopped = offset
                    break
                chunk[: filled - done] = chunk[done:filled]
                offset, filled = offset + done, filled - done
        if self._members:
            yield self._take()

    def _inflate(self, chunk: memoryview, offset: int, found: list[list[int]]) -> Generator[Batch, None, int]:
        """Inflate the members of a chunk; returns where the first one begins that could not be."""
        done = 0
        for number, (start, end, size, sound) in enumerate(found):
            if start < done:
                continue  # a mark inside the member before
            if start != done:
                break
            content = _fast(chunk[start:end], size) if sound else None
            if content is None:
                content, end = _exact(chunk, start, [row[_END] for row in found[number:]], self._max_bytes)
                if content is None:
                    break
            if self._top + len(content) > len(self._data) - PADDING:
                if self._members:
                    yield self._take()
                if len(content) > len(self._data) - PADDING:
                    self._data = _buffer(len(content))
            self._data[self._top : self._top + len(content)] = np.frombuffer(content, np.uint8)
            self._members.append((self._top, self._top + len(content), offset + start))
            self._top, done = self._top + len(content), end
        return done

    def _take(self) -> Batch:
        batch = Batch(self._data, self._data.view(np.uint64), np.array(self._members, np.int64))
        self._members, self._top = [], 0
        return batch


def _buffer(num_bytes: int) -> Bytes:
    """Room for whole words, with what may be read behind it."""
    return np.zeros((num_bytes + PADDING + 7) // 8 * 8, np.uint8)


def _fast(member: memoryview, size: int) -> bytearray | None:
    try:
        content = deflate.gzip_decompress(member, size)
    except deflate.DeflateError:
        return None
    return content if len(content) == size else None


def _exact(chunk: memoryview, start: int, ends: list[int], max_bytes: int) -> tuple[bytes | None, int]:
    """(what a member holds, its end), which is one of those given; (None, 0) when zlib refuses it or it holds too much."""
    inflater, pieces, left = zlib.decompressobj(31), list[bytes](), max_bytes
    for end in ends:
        try:
            pieces.append(inflater.decompress(chunk[start:end], left + 1))
        except zlib.error:
            return None, 0
        left -= len(pieces[-1])
        if inflater.eof:
            content = b"".join(pieces)
            return (content, end) if content and not inflater.unused_data else (None, 0)
        if left < 0:
            return None, 0
        start = end
    return None, 0


@numba.njit(cache=True)
def find_members(data: Bytes, words: Words, filled: Number, at_end: Number, max_bytes: Number, found: Integers) -> int:
    """Fill (start, end, size, whether it is sound so far) of what look like members; returns their number."""
    number, start = 0, 0
    while number < len(found) and start >= 0:
        end = start
        while True:
            end = next_pair(words, end + 2, filled, 0x1F, 0x8B)
            if end < 0 or (end + 2 < filled and data[end + 2] == 8):
                break
        if end < 0 and not at_end:
            return number
        found[number, START], found[number, _END] = start, filled if end < 0 else end
        _judge(data, words, max_bytes, found[number])
        number, start = number + 1, end
    return number


@numba.njit(cache=True)
def _judge(data: Bytes, words: Words, max_bytes: Number, row: Integers) -> None:
    """Whether the size stands where it says, and only there."""
    start, end = row[START], row[_END]
    row[_SIZE], row[_SOUND] = 0, 0
    if end - start < MIN_MEMBER or data[start] != 0x1F or data[start + 1] != 0x8B or data[start + 3] & ~_FLAGS:
        return
    size = np.int64(0)
    for byte in range(4):
        size |= np.int64(data[end - 4 + byte]) << (8 * byte)
    row[_SIZE] = size
    place = start
    while True:
        place = next_pair(words, place, end - 3, data[end - 4], data[end - 3])
        if place < 0:
            break
        if data[place + 2] == data[end - 2] and data[place + 3] == data[end - 1]:
            return
        place += 1
    row[_SOUND] = 0 < size <= max_bytes
