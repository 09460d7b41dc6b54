"""The gzip members of a crawl file, inflated many at a time into one buffer.

    for batch in Members(path, max_bytes).batches():
        batch.data[start:end] of each (start, end, offset) in batch.members     one whole member each

Where a member ends is told by the next one's mark (1f 8b 08) and its own last four bytes, the size of what it holds. When
these four bytes stand nowhere else in the member, nothing can stand behind its true end; libdeflate then inflates it, twice
as fast as zlib. Any other member goes through zlib. At one that zlib refuses, that holds more than `max_bytes` or is larger
than a chunk, all ends, and `stopped` is set.
"""

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import deflate
import numpy as np

from arm.data.wat_kernels.entries import find_marks
from arm.data.wat_kernels.layout import Integers
from arm.data.wat_kernels.search import PADDING, Bytes, Words

CHUNK_BYTES = 4 << 20
"""Compressed bytes that are looked at together; a larger member is not read here."""
BATCH_BYTES = 1 << 19
"""Inflated bytes that are handed on together: they stay in the processor's cache."""
MAX_MEMBERS = 1 << 14
"""Members of a chunk that are found together."""


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
        self._room = 0
        self._make_room(BATCH_BYTES)
        self._members: list[tuple[int, int, int]] = []
        self._top = 0
        self.stopped = False
        """Whether the rest of the file cannot be read here."""

    def batches(self) -> Iterator[Batch]:
        """Inflate the file; a batch is to be read before the next one is asked for."""
        chunk, offset, filled = _buffer(CHUNK_BYTES), 0, 0
        found = np.empty((MAX_MEMBERS, 4), np.int64)
        with self._path.open("rb") as stream:
            while True:
                num_read = stream.readinto(chunk.data[filled:CHUNK_BYTES])
                filled, at_end = filled + num_read, not num_read
                if not filled:
                    break
                number = find_marks(chunk, chunk.view(np.uint64), filled, at_end, self._max_bytes, found)
                done = yield from self._inflate(chunk.data[:filled], offset, found[:number].tolist())
                if not done and (at_end or filled == CHUNK_BYTES):
                    self.stopped = True
                    break
                chunk[: filled - done] = chunk[done:filled]
                offset, filled = offset + done, filled - done
        if self._members:
            yield self._take()

    def _inflate(self, chunk: memoryview, offset: int, found: list[list[int]]) -> Generator[Batch, None, int]:
        """Inflate the members of a chunk; returns where the first one begins that could not be."""
        done, top, view, gunzip = 0, self._top, self._view, deflate.gzip_decompress
        for number, (start, end, size, sound) in enumerate(found):
            if start != done:
                if start < done:
                    continue  # a mark inside the member before
                break
            content: bytes | bytearray | None = None
            if sound:
                try:
                    content = gunzip(chunk[start:end], size)
                except deflate.DeflateError:  # the mark that ends it stands inside it, or it is damaged
                    content = None
            if content is None or len(content) != size:
                content, end = _exact(chunk, start, [row[1] for row in found[number:]], self._max_bytes)
                if content is None:
                    break
                size = len(content)
            if top + size > self._room:
                if self._members:
                    yield self._take()
                self._make_room(size)
                top, view = 0, self._view
            view[top : top + size] = content
            self._members.append((top, top + size, offset + start))
            top, done = top + size, end
        self._top = top
        return done

    def _take(self) -> Batch:
        batch = Batch(self._data, self._data.view(np.uint64), np.array(self._members, np.int64))
        self._members, self._top = [], 0
        return batch

    def _make_room(self, num_bytes: int) -> None:
        """Have a buffer that holds so many bytes."""
        if num_bytes > self._room:
            self._data, self._room = _buffer(num_bytes), num_bytes
            self._view = self._data.data


def _buffer(num_bytes: int) -> Bytes:
    """Room for whole words, with what may be read behind it."""
    return np.zeros((num_bytes + PADDING + 7) // 8 * 8, np.uint8)


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
