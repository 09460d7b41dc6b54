"""The envelope of a WAT record, compiled: where the fields stand that `arm.data.wat` cuts out of a usual one.

Each function says -1 where the record has another form; all of it is then read by `arm.data.wat.read_envelope`.
"""

import numba
import numpy as np

from arm.data.wat_kernels.layout import MAX_NAME, Span
from arm.data.wat_kernels.search import Bytes, Number, Words, find, find_last, stands_at
from arm.data.wat_kernels.strings import BACKSLASH, BRACE, QUOTE, scan_string, to_number

HIT = np.frombuffer(b'"IMG@/src"', np.uint8)
HIT_ANCHOR = 3
"""`G@` stands in nothing else."""
_PATH = np.frombuffer(b'{"path":', np.uint8)
_CONTAINER = np.frombuffer(b'{"Container":{"Filename":"', np.uint8)
_OFFSET = np.frombuffer(b"Offset", np.uint8)
_TRUE, _FALSE = np.frombuffer(b"true", np.uint8), np.frombuffer(b"false", np.uint8)
_LINKS, _HTML = np.frombuffer(b'"Links":[', np.uint8), np.frombuffer(b'"HTML-Metadata":{', np.uint8)
_HEAD, _HEADERS = np.frombuffer(b'"Head":{', np.uint8), np.frombuffer(b'"Headers":{', np.uint8)
_TITLE, _BASE = np.frombuffer(b'"Title":"', np.uint8), np.frombuffer(b'"Base":"', np.uint8)
_YPE = np.frombuffer(b'ype":"', np.uint8)
_CONTENT_TYPE = np.frombuffer(b'"content-type":"', np.uint8)
_CHARSET = np.frombuffer(b"charset", np.uint8)
_URL, _ALT, _NAME = (np.frombuffer(name, np.uint8) for name in (b"url", b"alt", b"title"))
_COMMA, _COLON, _EQUALS, _SPACE, _CLOSE = 44, 58, 61, 32, 125
MAX_SPACES, MAX_CHARSET = 9, 40
"""Of `_CHARSET` in arm.data.wat."""
MAX_DIGITS = 18
"""A number of more may not fit into 64 bits."""
_WORDS = np.zeros(256, np.bool_)
_WORDS[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_:.+-")] = True


@numba.njit(cache=False)
def container(data: Bytes, start: Number, end: Number) -> tuple[int, int, int]:
    """(start and end of the WARC's name, the record's offset in it)."""
    if end - start < len(_CONTAINER) or not stands_at(data, start, _CONTAINER):
        return -1, 0, 0
    name = start + len(_CONTAINER)
    name_end = _simple_end(data, name, end)
    if not 0 < name_end - name <= MAX_NAME:
        return -1, 0, 0
    for place in range(name, name_end):
        if not 32 <= data[place] <= 126:
            return -1, 0, 0
    place = name_end + 1
    while place + 16 < end and data[place] == _COMMA and data[place + 1] == QUOTE:
        key = place + 2
        key_end = _simple_end(data, key, end)
        if key_end < 0 or key_end + 16 >= end or data[key_end + 1] != _COLON:
            return -1, 0, 0
        place = key_end + 2
        if stands_at(data, place, _TRUE):
            place += len(_TRUE)
        elif stands_at(data, place, _FALSE):
            place += len(_FALSE)
        elif data[place] == QUOTE:
            value_end = _simple_end(data, place + 1, end)
            if value_end < 0:
                return -1, 0, 0
            if key_end - key == len(_OFFSET) and stands_at(data, key, _OFFSET):
                number = to_number(data, place + 1, value_end, MAX_DIGITS)
                return name if number >= 0 else -1, name_end, number
            place = value_end + 1
        else:
            return -1, 0, 0
    return -1, 0, 0


@numba.njit(cache=False)
def sections(data: Bytes, words: Words, start: Number, first_image: Number) -> tuple[int, int]:
    """(HTML-Metadata, Links): where they begin, before the first image."""
    links = find_last(data, words, start, first_image, _LINKS, 7)
    if links < 0:
        return -1, 0
    html = find_last(data, words, start, links, _HTML, 4)
    if html < 0 or find(data, words, html, links, _HEAD, 1) < 0:
        return -1, 0
    return html, links


@numba.njit(cache=False)
def title(data: Bytes, words: Words, html: Number, links: Number) -> tuple[int, int, int]:
    """(start, end, what it holds) of the title, which may be empty; a page with a base is unusual."""
    if find(data, words, html, links, _BASE, 1) >= 0:
        return -1, 0, 0
    place = find(data, words, html, links, _TITLE, 1)
    if place < 0:
        return html, html, 0
    place += len(_TITLE)
    end, holds = scan_string(data, place, links)
    return place if end >= 0 else -1, end, holds


@numba.njit(cache=False)
def charset(data: Bytes, words: Words, start: Number, html: Number) -> tuple[int, int]:
    """(start, end) of the charset that the HTTP header declares, which may be empty."""
    headers = find_last(data, words, start, html, _HEADERS, 7)
    place = headers if headers >= 0 else start
    before = len(_CONTENT_TYPE) - len(_YPE)
    while True:
        place = find(data, words, place, html, _YPE, 0)
        if place < 0:
            return start, start
        if place - before >= max(start, headers) and _is_content_type(data, place - before):
            break
        place += 1
    place += len(_YPE)
    end = place
    while end < html and data[end] != QUOTE:
        if not 32 <= data[end] <= 126 or data[end] == BACKSLASH:
            return -1, 0
        end += 1
    return _declared(data, place, end) if end < html else (-1, 0)


@numba.njit(cache=False)
def image(data: Bytes, hit: Number, start: Number, end: Number) -> tuple[int, Span, Span, Span]:
    """(behind the link, url, alt, title) of the image link at a hit, each with start, end and what it holds."""
    url, alt, name = (0, 0, 0), (0, 0, 0), (0, 0, 0)
    place = hit + len(HIT)
    refused = -1, url, alt, name
    if hit - len(_PATH) < start or place >= end or data[place] != _COMMA:
        return refused
    if not stands_at(data, hit - len(_PATH), _PATH):
        return refused
    while data[place] == _COMMA:
        if place + 4 >= end or data[place + 1] != QUOTE:
            return refused
        key = place + 2
        key_end, holds = scan_string(data, key, end)
        if key_end < 0 or holds or key_end + 3 >= end or data[key_end + 1] != _COLON or data[key_end + 2] != QUOTE:
            return refused
        value = key_end + 3
        value_end, holds = scan_string(data, value, end)
        if value_end < 0 or holds & BRACE or value_end + 1 >= end:
            return refused
        if key_end - key == 3 and stands_at(data, key, _URL):
            url = value, value_end, holds
        elif key_end - key == 3 and stands_at(data, key, _ALT):
            alt = value, value_end, holds
        elif key_end - key == 5 and stands_at(data, key, _NAME):
            name = value, value_end, holds
        place = value_end + 1
    return (place + 1, url, alt, name) if data[place] == _CLOSE else refused


@numba.njit(cache=False)
def _is_content_type(data: Bytes, place: Number) -> bool:
    """Whether `"Content-Type":"` stands here; two of its letters may be small."""
    for number in range(len(_CONTENT_TYPE)):
        byte = data[place + number]
        if number in (1, 9) and 65 <= byte <= 90:
            byte += 32
        if byte != _CONTENT_TYPE[number]:
            return False
    return True


@numba.njit(cache=False)
def _declared(data: Bytes, start: Number, end: Number) -> tuple[int, int]:
    """(start, end) of what follows `charset=` in printed ASCII."""
    for first in range(start, end - len(_CHARSET)):
        if not _is_charset(data, first):
            continue
        place = _behind_spaces(data, first + len(_CHARSET), end)
        if place >= end or data[place] != _EQUALS:
            continue
        place = _behind_spaces(data, place + 1, end)
        if place < end and (data[place] == QUOTE or data[place] == 39):
            place += 1
        last = place
        while last < end and last - place < MAX_CHARSET and _WORDS[data[last]]:
            last += 1
        if last > place:
            return int(place), int(last)
    return int(start), int(start)


@numba.njit(cache=False)
def _is_charset(data: Bytes, place: Number) -> bool:
    number = 0
    while number < len(_CHARSET) and data[place + number] | 32 == _CHARSET[number]:
        number += 1
    return number == len(_CHARSET)


@numba.njit(cache=False)
def _behind_spaces(data: Bytes, place: Number, end: Number) -> int:
    limit = min(end, place + MAX_SPACES)
    while place < limit and data[place] == _SPACE:
        place += 1
    return int(place)


@numba.njit(cache=False)
def _simple_end(data: Bytes, place: Number, end: Number) -> int:
    """Where a string ends that holds no backslash, or -1."""
    while place < end and data[place] != QUOTE:
        if data[place] == BACKSLASH:
            return -1
        place += 1
    return int(place) if place < end else -1
