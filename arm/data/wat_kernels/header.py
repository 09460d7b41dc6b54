"""The header of a WARC record that fills a gzip member, compiled.

    WARC/1.0 | WARC-Type: metadata | WARC-Target-URI: http://garden.test/ | ... | Content-Length: 4096 | | body | |

One line a field, `name: value`; what has another form is read by fastwarc.
"""

import numba
import numpy as np

from arm.data.wat_kernels.search import Bytes, Number, stands_at

REFUSED, OTHER, METADATA = -1, 0, 1
"""What a member holds: a record of another form, one of another type, a metadata record."""
MAX_HEADER_BYTES = 8_192
_CR, _LF, _COLON, _SPACE = 13, 10, 58, 32
_OPEN, _CLOSE = 60, 62
_VERSION = np.frombuffer(b"WARC/1.", np.uint8)
_TYPE, _TARGET = np.frombuffer(b"warc-type", np.uint8), np.frombuffer(b"warc-target-uri", np.uint8)
_LENGTH, _METADATA = np.frombuffer(b"content-length", np.uint8), np.frombuffer(b"metadata", np.uint8)
_OTHERS = tuple(
    np.frombuffer(name, np.uint8)
    for name in (b"warcinfo", b"response", b"resource", b"request", b"revisit", b"conversion", b"continuation")
)
_NAMES = np.zeros(256, np.uint8)
"""Bytes of a field's name, in small letters; 0: none."""
for _byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-":
    _NAMES[_byte] = ord(chr(_byte).lower())


@numba.njit(cache=True)
def read_header(data: Bytes, start: Number, end: Number) -> tuple[int, int, int, int, int]:
    """(what it is, body, end of the body, address, end of the address) of the record between start and end."""
    refused = REFUSED, 0, 0, 0, 0
    if end - start < 32 or not stands_at(data, start, _VERSION) or data[start + 7] not in (48, 49):
        return refused
    if data[start + 8] != _CR or data[start + 9] != _LF:
        return refused
    kind, length, target, target_end = REFUSED, -1, 0, 0
    place, limit = start + 10, min(end, start + MAX_HEADER_BYTES) - 2
    while place < limit and data[place] != _CR:
        name, colon, value, value_end = place, _name_end(data, place, limit), 0, 0
        value = colon + 2
        if colon == name or data[colon] != _COLON or data[colon + 1] != _SPACE:
            return refused
        value_end = value
        while value_end < limit and data[value_end] != _LF:
            value_end += 1
        if value_end >= limit or data[value_end - 1] != _CR or value_end == value:
            return refused
        place, value_end = value_end + 1, value_end - 1
        if _is_named(data, name, colon, _TYPE):
            if kind != REFUSED:
                return refused
            kind = _type(data, value, value_end)
            if kind == REFUSED:
                return refused
        elif _is_named(data, name, colon, _LENGTH):
            if length >= 0:
                return refused
            length = _number(data, value, value_end)
            if length < 0:
                return refused
        elif _is_named(data, name, colon, _TARGET):
            if target or not _is_address(data, value, value_end):
                return refused
            target, target_end = value, value_end
    body = place + 2
    if place >= limit or data[place + 1] != _LF or kind == REFUSED or length < 0 or (kind == METADATA and not target):
        return refused
    body_end = body + length
    if body_end + 4 != end or data[end - 4] != _CR or data[end - 3] != _LF or data[end - 2] != _CR:
        return refused
    return (kind, body, body_end, target, target_end) if data[end - 1] == _LF else refused


@numba.njit(cache=True)
def _name_end(data: Bytes, place: Number, limit: Number) -> int:
    while place < limit and _NAMES[data[place]]:
        place += 1
    return int(place)


@numba.njit(cache=True)
def _is_named(data: Bytes, start: Number, end: Number, name: Bytes) -> bool:
    """Whether a name is this one, in any mixture of capitals."""
    if end - start != len(name):
        return False
    for number in range(len(name)):
        if _NAMES[data[start + number]] != name[number]:
            return False
    return True


@numba.njit(cache=True)
def _type(data: Bytes, start: Number, end: Number) -> int:
    if end - start == len(_METADATA) and stands_at(data, start, _METADATA):
        return METADATA
    for other in _OTHERS:
        if end - start == len(other) and stands_at(data, start, other):
            return OTHER
    return REFUSED


@numba.njit(cache=True)
def _number(data: Bytes, start: Number, end: Number) -> int:
    """A number of one to nine digits, or -1."""
    number = 0
    if not 1 <= end - start <= 9:
        return -1
    for place in range(start, end):
        if not 48 <= data[place] <= 57:
            return -1
        number = 10 * number + (np.int64(data[place]) - 48)
    return int(number)


@numba.njit(cache=True)
def _is_address(data: Bytes, start: Number, end: Number) -> bool:
    """Whether a value is printed ASCII without spaces, and not in angle brackets."""
    if start >= end or data[start] in (_OPEN, _CLOSE) or data[end - 1] in (_OPEN, _CLOSE):
        return False
    for place in range(start, end):
        if not 33 <= data[place] <= 126:
            return False
    return True
