"""Captions and addresses in their normal form, compiled, for the usual ones: the same as `arm.data.normalisation`.

    put_caption  "A red\\n circle "                             ->  "A red circle"
    put_address  "../b.png?s=2" on "http://garden.test/p/q/"   ->  "http://garden.test/p/b.png?s=2"

What is not usual (entities, decomposed letters, emoji; ports, capitals in hosts, spaces) is refused: -1.
"""

import functools
import unicodedata

import numba
import numpy as np
import numpy.typing as npt

from arm.data.wat_kernels.search import Bytes, Number
from arm.data.wat_kernels.strings import copy

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
HOST, PATH, QUERY, REFERENCE, REFERENCE_QUERY = 1, 2, 4, 8, 16
"""Where a byte may stand: in the host, path or query of a plain address, in the path or query of a plain reference."""
_PLACES = np.zeros(256, np.uint8)
for _place, _bytes in (
    (HOST, b"abcdefghijklmnopqrstuvwxyz0123456789-"),
    (PATH, _LETTERS + b"/%:=&~+!$,;'@()*[]._-"),
    (QUERY, _LETTERS + b"/%:=&?~+!$,;'@()*[]._-"),
    (REFERENCE, _LETTERS + b"._~/-"),
    (REFERENCE_QUERY, _LETTERS + b"._~=&%-"),
):
    _PLACES[list(_bytes)] |= _place
_PRINTED, _SPACE = 1, 2
_CAPTION = np.zeros(256, np.uint8)
_CAPTION[33:127] = _PRINTED
_CAPTION[ord("&")] = 0
_CAPTION[[9, 10, 13, 32]] = _SPACE
SLASH, DOT, QUESTION, COLON, SEMICOLON = 47, 46, 63, 58, 59
_HTTP = np.frombuffer(b"http", np.uint8)


@functools.cache
def calm_letters() -> npt.NDArray[np.bool_]:
    """Which code points from 128 to 65,535 a caption may hold as they stand, whatever is beside them: array (65536,).

    They are no white space, no control characters and no pilcrow; alone they are in normal form C, and they neither
    combine nor compose with what is before them.
    """
    codes = range(0x80, 0x10000)
    composing = {0x1161 + number for number in range(21)} | {0x11A8 + number for number in range(27)}  # of Hangul
    for code in range(0x20000):  # further on there are only single letters for others
        parts = unicodedata.decomposition(chr(code))
        if parts and parts[0] != "<":
            composing.add(int(parts.split()[-1], 16))
    calm = np.zeros(0x10000, np.bool_)
    for code in codes:
        letter = chr(code)
        calm[code] = (
            unicodedata.category(letter)[0] not in "CZ"
            and code not in composing
            and not unicodedata.combining(letter)
            and unicodedata.is_normalized("NFC", letter)
        )
    calm[0xB6] = False
    return calm


@numba.njit(cache=False)
def put_caption(data: Bytes, start: Number, end: Number, heap: Bytes, top: Number, calm: npt.NDArray[np.bool_]) -> int:
    """Write the normal form of a caption in sound UTF-8; returns the new top, or -1 if it is unusual or nothing is left."""
    first, place, gap = top, start, False
    while place < end:
        byte = np.int64(data[place])
        length = 1
        if byte < 0x80:
            kind = _CAPTION[byte]
            if kind == _SPACE:
                gap = True
                place += 1
                continue
            if kind == 0:
                return -1
        else:
            length = 2 if byte < 0xE0 else 3
            if byte >= 0xF0 or not calm[_code(data, place, length)]:
                return -1
        if gap and top > first:
            heap[top] = 32
            top += 1
        gap = False
        for number in range(length):
            heap[top + number] = data[place + number]
        place, top = place + length, top + length
    return int(top) if top > first else -1


@numba.njit(cache=False)
def plain_path(data: Bytes, start: Number, end: Number) -> int:
    """Where the path of an address begins that is canonical as it stands, or -1."""
    place = start + 4
    if place + 4 > end:
        return -1
    for number in range(4):
        if data[start + number] != _HTTP[number]:
            return -1
    if data[place] == 115:  # s
        place += 1
    if place + 3 > end or data[place] != COLON or data[place + 1] != SLASH or data[place + 2] != SLASH:
        return -1
    place += 3
    label = place
    while place < end and data[place] != SLASH:
        if data[place] == DOT:
            if place == label:
                return -1
            label = place + 1
        elif not _PLACES[data[place]] & HOST:
            return -1
        place += 1
    if place in (end, label):
        return -1
    return int(place) if _is_plain_rest(data, place, end) else -1


@numba.njit(cache=False)
def folder_end(data: Bytes, slash: Number, end: Number) -> int:
    """Behind the last slash of a plain address's path, which begins at `slash`; -1 when the path holds `//`."""
    place, last = slash + 1, slash
    while place < end and data[place] != QUESTION:
        if data[place] == SLASH:
            if last == place - 1:
                return -1
            last = place
        place += 1
    return int(last + 1)


@numba.njit(cache=False)
def put_address(
    data: Bytes, start: Number, end: Number, base: Bytes, base_start: Number, slash: Number, folder: Number,
    heap: Bytes, top: Number,
) -> int:  # fmt: skip
    """Write the canonical address of a reference; returns the new top, or -1 if it is unusual.

    The base's path begins at `slash` and its last folder ends at `folder`; -1: the base is unusual itself.
    """
    if folder >= 0:
        question, dots = _plain_reference(data, start, end)
        if question >= 0:
            top = copy(base, base_start, slash, heap, top)
            path = top
            if data[start] != SLASH:
                top = copy(base, slash, folder, heap, top)
            top = copy(data, start, question, heap, top)
            if dots:
                top = _without_dots(heap, path, top)
            return copy(data, question, end, heap, top)
    return copy(data, start, end, heap, top) if plain_path(data, start, end) >= 0 else -1


@numba.njit(cache=False)
def _is_plain_rest(data: Bytes, start: Number, end: Number) -> bool:
    """Whether all from the path's first slash on is plain: no segment begins with a dot, no empty parameter or query."""
    allowed, before = PATH, 0
    for place in range(start, end):
        byte = data[place]
        if byte == QUESTION and allowed == PATH:
            if place + 1 == end or before == SEMICOLON:
                return False
            allowed = QUERY
        elif not _PLACES[byte] & allowed or (byte == DOT and before == SLASH):
            return False
        before = byte
    return allowed == QUERY or before != SEMICOLON


@numba.njit(cache=False)
def _plain_reference(data: Bytes, start: Number, end: Number) -> tuple[int, bool]:
    """(where the query begins, whether a segment may begin with a dot) of a reference to a path; -1: it is none."""
    place, before, dots = start, 0, False
    while place < end and data[place] != QUESTION:
        byte = int(data[place])
        if not _PLACES[byte] & REFERENCE or (byte == SLASH and before == SLASH):
            return -1, False
        dots |= byte == DOT and (before == SLASH or place == start)
        before = byte
        place += 1
    question = place
    if question == start or question + 1 == end:
        return -1, False
    for place in range(question + 1, end):
        if not _PLACES[data[place]] & REFERENCE_QUERY:
            return -1, False
    return int(question), dots


@numba.njit(cache=False)
def _without_dots(heap: Bytes, start: Number, end: Number) -> int:
    """Resolve `.` and `..` of a path in its place; returns its new end."""
    place, top = start, start
    while place < end:  # at the slash before a segment
        segment = place + 1
        after = segment
        while after < end and heap[after] != SLASH:
            after += 1
        length = after - segment
        one = length == 1 and heap[segment] == DOT
        two = length == 2 and heap[segment] == DOT and heap[segment + 1] == DOT
        if two and top > start:
            top -= 1
            while heap[top] != SLASH:
                top -= 1
        if not one and not two:
            top = copy(heap, place, after, heap, top)
        elif after == end:
            heap[top] = SLASH
            top += 1
        place = after
    return int(top)


@numba.njit(cache=False)
def _code(data: Bytes, place: Number, length: Number) -> int:
    """The code point of two or three bytes."""
    if length == 2:
        return int((np.int64(data[place]) & 31) << 6 | (np.int64(data[place + 1]) & 63))
    high = (np.int64(data[place]) & 15) << 12 | (np.int64(data[place + 1]) & 63) << 6
    return int(high | (np.int64(data[place + 2]) & 63))
