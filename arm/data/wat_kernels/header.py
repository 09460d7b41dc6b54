"""The header of a WARC record that fills a gzip member, compiled.

    WARC/1.0 | WARC-Type: metadata | WARC-Target-URI: http://garden.test/ | ... | Content-Length: 4096 | | body | |

One line a field, `name: value`; what has another form is read by fastwarc.
"""

import numba
import numpy as np

from arm.data.wat_kernels.search import Bytes, Number, stands_at
from arm.data.wat_kernels.strings import to_number

REFUSED, OTHER, METADATA = -1, 0, 1
"""What a member holds: a record of another form, one of another type, a metadata record."""
MAX_HEADER_BYTES = 8_192
_MAX_DIGITS = 9
_CR, _LF, _COLON, _SPACE = 13, 10, 58, 32
_OPEN, _CLOSE = 60, 62
_VERSION = np.frombuffer(b"WARC/1.", np.uint8)
_METADATA = np.frombuffer(b"metadata", np.uint8)
_OTHERS = tuple(
    np.frombuffer(name, np.uint8)
    for name in (b"warcinfo", b"response", b"resource", b"request", b"revisit", b"conversion", b"continuation")
)
_TYPE, _TARGET, _LENGTH = 1, 2, 4
"""What a field says that is used, as bits; 0: any other."""
_TYPE_NAME, _TARGET_NAME = np.frombuffer(b"WARC-Type", np.uint8), np.frombuffer(b"WARC-Target-URI", np.uint8)
_LENGTH_NAME = np.frombuffer(b"Content-Length", np.uint8)
_NAMES = np.zeros(256, np.bool_)
_NAMES[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")] = True


@numba.njit(cache=False)
def read_header(data: Bytes, start: Number, end: Number) -> tuple[int, int, int, int, int]:
    """(what it is, body, end of the body, address, end of the address) of the record between start and end."""
    refused = REFUSED, 0, 0, 0, 0
    if end - start < 32 or not stands_at(data, start, _VERSION) or data[start + 7] not in (48, 49):
        return refused
    if data[start + 8] != _CR or data[start + 9] != _LF:
        return refused
    kind, length, target, target_end, seen = REFUSED, -1, 0, 0, 0
    place, limit = start + 10, min(end, start + MAX_HEADER_BYTES) - 2
    while place < limit and data[place] != _CR:
        field, value, value_end = _read_field(data, place, limit)
        if field == REFUSED or seen & field:
            return refused
        seen |= field
        if field == _TYPE:
            kind = _type(data, value, value_end)
        elif field == _LENGTH:
            length = to_number(data, value, value_end, _MAX_DIGITS)
        elif field == _TARGET and _is_address(data, value, value_end):
            target, target_end = value, value_end
        place = value_end + 2
    if place >= limit or data[place + 1] != _LF or kind == REFUSED or length < 0 or (kind == METADATA and not target):
        return refused
    body = place + 2
    body_end = body + length
    if body_end + 4 != end or data[end - 4] != _CR or data[end - 3] != _LF or data[end - 2] != _CR:
        return refused
    return (kind, body, body_end, target, target_end) if data[end - 1] == _LF else refused


@numba.njit(cache=False)
def _read_field(data: Bytes, place: Number, limit: Number) -> tuple[int, int, int]:
    """(what it says, value, end of the value) of the field on a line."""
    colon = place
    while colon < limit and _NAMES[data[colon]]:
        colon += 1
    if colon == place or data[colon] != _COLON or data[colon + 1] != _SPACE:
        return REFUSED, 0, 0
    line_end = colon + 2
    while line_end < limit and data[line_end] != _LF:
        line_end += 1
    if line_end >= limit or data[line_end - 1] != _CR:
        return REFUSED, 0, 0
    field = 0
    if colon - place == len(_TYPE_NAME):
        field = _named(data, place, _TYPE_NAME, _TYPE)
    elif colon - place == len(_LENGTH_NAME):
        field = _named(data, place, _LENGTH_NAME, _LENGTH)
    elif colon - place == len(_TARGET_NAME):
        field = _named(data, place, _TARGET_NAME, _TARGET)
    return field, colon + 2, line_end - 1


@numba.njit(cache=False)
def _named(data: Bytes, place: Number, name: Bytes, field: Number) -> int:
    """The field if this is its name, 0 if it is not; its name in other capitals is refused."""
    for number in range(len(name)):
        if data[place + number] | 32 != name[number] | 32:
            return 0
    return int(field) if stands_at(data, place, name) else REFUSED


@numba.njit(cache=False)
def _type(data: Bytes, start: Number, end: Number) -> int:
    if end - start == len(_METADATA) and stands_at(data, start, _METADATA):
        return METADATA
    for other in _OTHERS:
        if end - start == len(other) and stands_at(data, start, other):
            return OTHER
    return REFUSED


@numba.njit(cache=False)
def _is_address(data: Bytes, start: Number, end: Number) -> bool:
    """Whether a value is printed ASCII without spaces, and not in angle brackets."""
    if start >= end or data[start] in (_OPEN, _CLOSE) or data[end - 1] in (_OPEN, _CLOSE):
        return False
    place = start
    while place < end and 33 <= data[place] <= 126:
        place += 1
    return bool(place == end)
