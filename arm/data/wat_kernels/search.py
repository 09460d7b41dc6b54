"""Finding bytes in a buffer, compiled: eight bytes at a time, by a pair of neighbours that is rare in the buffer.

    b'..."Links":[{"path":"IMG@/src",...'   next_pair(words, 0, end, ord("G"), ord("@"))  ->  where `G@` stands

A buffer is given twice: as bytes, and as little-endian words of eight bytes with at least one word behind the end. A
word XORed with a byte repeated eight times is zero where the byte stands; `(x - 0x01…01) & ~x & 0x80…80` is not zero
if a byte of x is. The loop over eight words has no branch, so that it is compiled into vector instructions.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Number = Any
"""A whole number, Python's or NumPy's: compiled code makes no difference."""
_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_S8, _S56, _BYTE = np.uint64(8), np.uint64(56), np.uint64(255)
BLOCK = 8
PADDING = 8 * (BLOCK + 1)
"""Bytes behind the end of a buffer that may be read, whatever they are."""


@numba.njit(cache=False)
def next_pair(words: Words, start: Number, end: Number, first: Number, second: Number) -> int:
    """The first place in start..end - 2 where the two bytes stand, or -1."""
    one, two = np.uint64(first) * _ONES, np.uint64(second) * _ONES
    word, past = start >> 3, (end + 7) >> 3
    while word < past:
        any_zero = np.uint64(0)
        for number in range(BLOCK):
            any_zero |= _zero_bytes(_difference(words, word + number, one, two))
        if any_zero:
            for number in range(BLOCK):
                apart = _difference(words, word + number, one, two)
                if _zero_bytes(apart):
                    for _byte in range(8):
                        place = 8 * (word + number) + _byte
                        if (apart >> np.uint64(8 * _byte)) & _BYTE == 0 and start <= place <= end - 2:
                            return int(place)
        word += BLOCK
    return -1


@numba.njit(cache=False)
def last_pair(words: Words, start: Number, end: Number, first: Number, second: Number) -> int:
    """The last place in start..end - 2 where the two bytes stand, or -1."""
    one, two = np.uint64(first) * _ONES, np.uint64(second) * _ONES
    lowest, word = start >> 3, ((end + 7) >> 3) - BLOCK
    while word + BLOCK > lowest:
        word = max(word, 0)
        any_zero = np.uint64(0)
        for number in range(BLOCK):
            any_zero |= _zero_bytes(_difference(words, word + number, one, two))
        if any_zero:
            for number in range(BLOCK - 1, -1, -1):
                apart = _difference(words, word + number, one, two)
                if _zero_bytes(apart):
                    for _byte in range(7, -1, -1):
                        place = 8 * (word + number) + _byte
                        if (apart >> np.uint64(8 * _byte)) & _BYTE == 0 and start <= place <= end - 2:
                            return int(place)
        if word == 0:
            return -1
        word -= BLOCK
    return -1


@numba.njit(cache=False)
def find(data: Bytes, words: Words, start: Number, end: Number, pattern: Bytes, anchor: Number) -> int:
    """The first place where a pattern stands whole between start and end, or -1; its bytes at `anchor` are searched."""
    place = start
    while True:
        place = next_pair(words, place + anchor, end, pattern[anchor], pattern[anchor + 1])
        if place < 0:
            return -1
        place -= anchor
        if place + len(pattern) <= end and stands_at(data, place, pattern):
            return int(place)
        place += 1


@numba.njit(cache=False)
def find_last(data: Bytes, words: Words, start: Number, end: Number, pattern: Bytes, anchor: Number) -> int:
    """The last place where a pattern stands whole between start and end, or -1."""
    past = end - len(pattern) + anchor + 2
    while True:
        place = last_pair(words, start + anchor, past, pattern[anchor], pattern[anchor + 1])
        if place < 0:
            return -1
        if stands_at(data, place - anchor, pattern):
            return int(place - anchor)
        past = place + 1


@numba.njit(cache=False)
def stands_at(data: Bytes, place: Number, pattern: Bytes) -> bool:
    """Whether a pattern stands at a place of which all bytes may be read."""
    number = 0
    while number < len(pattern) and data[place + number] == pattern[number]:
        number += 1
    return number == len(pattern)


@numba.njit(cache=False)
def _difference(words: Words, word: Number, one: np.uint64, two: np.uint64) -> np.uint64:
    """A word whose byte is zero where the two bytes stand next to each other."""
    here = words[word]
    return np.uint64((here ^ one) | (((here >> _S8) | (words[word + 1] << _S56)) ^ two))


@numba.njit(cache=False)
def _zero_bytes(word: np.uint64) -> np.uint64:
    """Not zero if a byte of the word is; its lowest set bit tells the first."""
    return np.uint64((word - _ONES) & ~word & _HIGHS)
