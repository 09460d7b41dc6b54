"""Where gzip members seem to begin and end in a piece of a file, compiled."""

import numba
import numpy as np

from arm.data.wat_kernels.layout import Integers
from arm.data.wat_kernels.search import Bytes, Number, Words, next_pair

MIN_MEMBER = 18
"""Bytes of the smallest header and trailer."""
_FLAGS = 0x1D
"""Flags of a gzip header that libdeflate and zlib read alike: all but a checksum of the header and what is reserved."""
_START, _END, _SIZE, _SOUND = range(4)


@numba.njit(cache=False)
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
        found[number, _START], found[number, _END] = start, filled if end < 0 else end
        _judge(data, words, max_bytes, found[number])
        number, start = number + 1, end
    return number


@numba.njit(cache=False)
def _judge(data: Bytes, words: Words, max_bytes: Number, row: Integers) -> None:
    """Whether the size stands where it says, and only there."""
    start, end = row[_START], row[_END]
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
