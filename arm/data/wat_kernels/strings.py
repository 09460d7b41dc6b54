"""Strings of JSON, compiled: where one ends, whether it is sound, and what it says.

    "A \\"red\\" circle\\u00e9"  ->  scan_string: its end, ESCAPED   unescape: A "red" circleé

Stricter than JSON where that is cheaper: what is refused here is read by orjson.
"""

import numba
import numpy as np

from arm.data.wat_kernels.search import Bytes, Number

ESCAPED, WIDE, BRACE = 1, 2, 4
"""What a string holds: a backslash, bytes above 127, a closing brace."""
_END, _CONTROL = 8, 16
QUOTE, BACKSLASH, _U = 34, 92, 117
_DIGITS = np.full(256, -1, np.int64)
_DIGITS[[ord(digit) for digit in "0123456789abcdef"]] = range(16)
_DIGITS[[ord(digit) for digit in "ABCDEF"]] = range(10, 16)
_ESCAPES = np.zeros(256, np.uint8)
for _letter, _byte in zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True):
    _ESCAPES[ord(_letter)] = ord(_byte)
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[:32] = _CONTROL
_CLASSES[128:] = WIDE
_CLASSES[QUOTE], _CLASSES[BACKSLASH], _CLASSES[ord("}")] = _END, ESCAPED, BRACE


@numba.njit(cache=False)
def scan_string(data: Bytes, start: Number, end: Number) -> tuple[int, int]:
    """(place of the closing quotation mark, what the string holds); -1: control bytes, bad UTF-8, bad escapes, no end."""
    place, holds = start, 0
    while place < end:
        kind = int(_CLASSES[data[place]])
        if kind == 0:
            place += 1
        elif kind == _END:
            sound = not holds & WIDE or is_utf8(data, start, place)
            sound = sound and (not holds & ESCAPED or _is_escaped_well(data, start, place))
            return (place, holds) if sound else (-1, holds)
        elif kind == _CONTROL:
            return -1, holds
        else:
            holds |= kind
            place += 2 if kind == ESCAPED else 1
    return -1, holds


@numba.njit(cache=False)
def is_utf8(data: Bytes, start: Number, end: Number) -> bool:
    """Whether bytes are UTF-8, without surrogates and overlong forms."""
    place = start
    while place < end:
        byte = data[place]
        if byte < 0x80:
            place += 1
            continue
        length = 2 if 0xC2 <= byte < 0xE0 else 3 if 0xE0 <= byte < 0xF0 else 4 if 0xF0 <= byte < 0xF5 else 0
        if length == 0 or place + length > end:
            return False
        for number in range(1, length):
            if data[place + number] & 0xC0 != 0x80:
                return False
        second = data[place + 1]
        if (byte == 0xE0 and second < 0xA0) or (byte == 0xED and second >= 0xA0):
            return False
        if (byte == 0xF0 and second < 0x90) or (byte == 0xF4 and second >= 0x90):
            return False
        place += length
    return True


@numba.njit(cache=False)
def unescape(data: Bytes, start: Number, end: Number, heap: Bytes, top: Number) -> int:
    """Write what a string without fault says to the heap; returns the new top. It takes no more room than the string."""
    place = start
    while place < end:
        letter = data[place + 1] if data[place] == BACKSLASH else data[place]
        if data[place] != BACKSLASH:
            heap[top] = letter
            place, top = place + 1, top + 1
        elif letter != _U:
            heap[top] = _ESCAPES[letter]
            place, top = place + 2, top + 1
        else:
            place, top = place + 6, _put_code(heap, top, _hexadecimal(data, place + 2))
    return int(top)


@numba.njit(cache=False)
def _is_escaped_well(data: Bytes, start: Number, end: Number) -> bool:
    """Whether every backslash begins an escape that JSON knows; surrogates are refused."""
    place = start
    while place < end:
        if data[place] != BACKSLASH:
            place += 1
        elif place + 1 < end and _ESCAPES[data[place + 1]]:
            place += 2
        elif place + 6 <= end and data[place + 1] == _U:
            code = _hexadecimal(data, place + 2)
            if code < 0 or 0xD800 <= code < 0xE000:
                return False
            place += 6
        else:
            return False
    return True


@numba.njit(cache=False)
def _hexadecimal(data: Bytes, place: Number) -> int:
    """The number that four digits write, or -1."""
    code = np.int64(0)
    for number in range(4):
        digit = _DIGITS[data[place + number]]
        if digit < 0:
            return -1
        code = 16 * code + digit
    return int(code)


@numba.njit(cache=False)
def _put_code(heap: Bytes, top: Number, code: Number) -> int:
    """Write a code point below 65,536 as UTF-8."""
    if code < 0x80:
        heap[top] = code
        return int(top + 1)
    if code < 0x800:
        heap[top], heap[top + 1] = 0xC0 | (code >> 6), 0x80 | (code & 63)
        return int(top + 2)
    heap[top], heap[top + 1], heap[top + 2] = 0xE0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63)
    return int(top + 3)


@numba.njit(cache=False)
def to_number(data: Bytes, start: Number, end: Number, max_digits: Number) -> int:
    """The number that some digits write, or -1."""
    if not 1 <= end - start <= max_digits:
        return -1
    number = np.int64(0)
    for place in range(start, end):
        if not 48 <= data[place] <= 57:
            return -1
        number = 10 * number + (np.int64(data[place]) - 48)
    return int(number)


@numba.njit(cache=False)
def copy(data: Bytes, start: Number, end: Number, heap: Bytes, top: Number) -> int:
    """Write bytes to the heap; returns the new top."""
    for number in range(end - start):
        heap[top + number] = data[start + number]
    return int(top + end - start)
