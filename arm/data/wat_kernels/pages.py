"""Members of a WAT file become candidates in one compiled loop; it stops where a record is not usual."""

import numba
import numpy as np
import numpy.typing as npt

from arm.data.wat_kernels import envelope
from arm.data.wat_kernels.envelope import HIT, HIT_ANCHOR
from arm.data.wat_kernels.header import METADATA, REFUSED, read_header
from arm.data.wat_kernels.layout import (
    ADDRESS,
    ADDRESS_END,
    BODY,
    BODY_END,
    CANDIDATES_BARE,
    CANDIDATES_FOUND,
    CAPTION,
    CAPTION_END,
    CHARSET,
    CHARSET_END,
    DONE,
    END,
    FILE_OFFSET,
    KIND,
    LAST_METADATA,
    MAX_BODY,
    MAX_CAPTION,
    MAX_IMAGES,
    MAX_TITLE,
    MAX_URL,
    MEMBER,
    NEVER,
    NEXT_HIT,
    NO_ROOM,
    NUM_PAGES,
    NUM_ROWS,
    ODD,
    ODD_PAGE,
    ODD_RECORD,
    OFFSET,
    PAGE,
    PAGES_READ,
    PLAIN,
    POSITION,
    RAW_TITLE,
    RECORDS_BARE,
    STANDING,
    START,
    TARGET,
    TARGET_END,
    TITLE,
    TITLE_END,
    TOP,
    URL,
    URL_END,
    WARC,
    WARC_END,
    WARC_OFFSET,
    Integers,
    Span,
)  # fmt: skip
from arm.data.wat_kernels.search import Bytes, Number, Words, find
from arm.data.wat_kernels.strings import ESCAPED, copy, unescape
from arm.data.wat_kernels.texts import folder_end, plain_path, put_address, put_caption

Flags = npt.NDArray[np.bool_]


@numba.njit
def read_members(
    data: Bytes, words: Words, members: Integers, state: Integers, rows: Integers, pages: Integers, heap: Bytes,
    calm: Flags, limits: Integers,
) -> int:  # fmt: skip
    """Read members from state[MEMBER] on; returns why it stops: DONE, or what the member there needs."""
    past = members[-1, END]
    while state[MEMBER] < len(members):
        member = state[MEMBER]
        kind, body, body_end, target, target_end = read_header(data, members[member, START], members[member, END])
        if kind == REFUSED or body_end - body > limits[MAX_BODY]:
            return ODD_RECORD
        if kind == METADATA:
            while state[NEXT_HIT] < body:
                hit = find(data, words, body, past, HIT, HIT_ANCHOR)
                state[NEXT_HIT] = hit if hit >= 0 else NEVER
            if state[NEXT_HIT] + len(HIT) > body_end:
                state[RECORDS_BARE] += 1
            else:
                state[BODY], state[BODY_END], state[TARGET], state[TARGET_END] = body, body_end, target, target_end
                answer = _read_page(data, words, members[member, FILE_OFFSET], state, rows, pages, heap, calm, limits)
                if answer != DONE:
                    return answer
                state[PAGES_READ] += 1
            state[LAST_METADATA] = members[member, FILE_OFFSET]
        state[MEMBER] += 1
    return DONE


@numba.njit
def _read_page(
    data: Bytes, words: Words, offset: Number, state: Integers, rows: Integers, pages: Integers, heap: Bytes,
    calm: Flags, limits: Integers,
) -> int:  # fmt: skip
    """Read one page that names an image; if that is not possible, nothing is changed."""
    before = state.copy()
    answer = _put_page(data, words, offset, state, pages, heap, calm, limits)
    if answer == DONE:
        answer = _put_images(data, words, state, rows, heap, calm, limits)
    if answer != DONE:
        for number in range(len(state)):
            state[number] = before[number]
        return answer
    state[NUM_PAGES] += state[NUM_ROWS] > before[NUM_ROWS]
    if state[NUM_ROWS] == before[NUM_ROWS]:
        state[TOP] = before[TOP]
    return DONE


@numba.njit
def _put_page(
    data: Bytes, words: Words, offset: Number, state: Integers, pages: Integers, heap: Bytes, calm: Flags,
    limits: Integers,
) -> int:  # fmt: skip
    """What the rows of a page share."""
    body, end, hit, top = state[BODY], state[BODY_END], state[NEXT_HIT], state[TOP]
    if state[NUM_PAGES] == len(pages) or top + 2 * (end - body) + state[TARGET_END] - state[TARGET] > len(heap):
        return NO_ROOM
    warc, warc_end, warc_offset = envelope.container(data, body, end)
    if warc < 0:
        return ODD_PAGE
    html, links = envelope.sections(data, words, body, max(hit - 8, body))
    if html < 0:
        return ODD_PAGE
    name, name_end, holds = envelope.title(data, words, html, links)
    charset, charset_end = envelope.charset(data, words, body, html)
    if name < 0 or charset < 0:
        return ODD_PAGE
    page = pages[state[NUM_PAGES]]
    page[OFFSET], page[WARC_OFFSET] = offset, warc_offset
    page[ADDRESS], top = top, copy(data, state[TARGET], state[TARGET_END], heap, top)
    page[ADDRESS_END], page[WARC] = top, top
    top = copy(data, warc, warc_end, heap, top)
    page[WARC_END], page[CHARSET] = top, top
    for place in range(charset, charset_end):
        heap[top] = data[place] + 32 if 65 <= data[place] <= 90 else data[place]
        top += 1
    page[CHARSET_END] = top
    state[TOP] = _put_title(data, (name, name_end, holds), page, heap, top, calm, limits)
    return DONE


@numba.njit
def _put_title(
    data: Bytes, title: Span, page: Integers, heap: Bytes, top: Number, calm: Flags, limits: Integers
) -> int:
    """Write a title in its normal form, or as it is found; returns the new top."""
    start, end, holds = title
    page[TITLE], page[RAW_TITLE] = top, 0
    if holds & ESCAPED:
        start, end, data = top, unescape(data, start, end, heap, top), heap
        top = end
    if end - start <= min(limits[MAX_TITLE], limits[MAX_CAPTION]):
        page[TITLE] = top
        after = put_caption(data, start, end, heap, top, calm)
        if after >= 0:
            page[TITLE_END] = after
            return after
    page[RAW_TITLE] = end > start
    page[TITLE_END] = copy(data, start, end, heap, top)
    return int(page[TITLE_END])


@numba.njit
def _put_images(
    data: Bytes, words: Words, state: Integers, rows: Integers, heap: Bytes, calm: Flags, limits: Integers
) -> int:
    """The candidates of a page."""
    target, target_end, body, end = state[TARGET], state[TARGET_END], state[BODY], state[BODY_END]
    slash = plain_path(data, target, target_end)
    folder = folder_end(data, slash, target_end) if slash >= 0 else -1
    position, hit = 0, state[NEXT_HIT]
    while hit + len(HIT) <= end:
        behind, url, alt, title = envelope.image(data, hit, body, end)
        if behind < 0 or position == limits[MAX_IMAGES]:
            return ODD_PAGE
        need = 6 * (behind - hit) + 2 * (target_end - target) + 2
        if state[NUM_ROWS] + 2 > len(rows) or state[TOP] + need > len(heap):
            return NO_ROOM
        if url[1] > url[0]:
            base = target, slash, folder
            if alt[1] > alt[0]:
                _put_row(data, url, alt, base, 0, position, state, rows, heap, calm, limits)
            if title[1] > title[0]:
                _put_row(data, url, title, base, 1, position, state, rows, heap, calm, limits)
            if alt[1] == alt[0] and title[1] == title[0]:
                state[CANDIDATES_FOUND] += 1
                state[CANDIDATES_BARE] += 1
        position += 1
        hit = find(data, words, behind, end, HIT, HIT_ANCHOR)
        if hit < 0:
            hit = NEVER
    state[NEXT_HIT] = end
    return DONE


@numba.njit
def _put_row(
    data: Bytes, url: Span, caption: Span, base: Span, kind: Number, position: Number, state: Integers, rows: Integers,
    heap: Bytes, calm: Flags, limits: Integers,
) -> None:  # fmt: skip
    """One candidate: in its normal form, or as it is found if that is unusual."""
    top = state[TOP]
    urls, captions, url_start, url_end, start, end = data, data, url[0], url[1], caption[0], caption[1]
    if url[2] & ESCAPED:
        urls, url_start, url_end = heap, top, unescape(data, url_start, url_end, heap, top)
        top = url_end
    if caption[2] & ESCAPED:
        captions, start, end = heap, top, unescape(data, start, end, heap, top)
        top = end
    row = rows[state[NUM_ROWS]]
    row[KIND], row[POSITION], row[PAGE], row[STANDING], row[URL] = kind, position, state[NUM_PAGES], PLAIN, top
    after = -1
    if url_end - url_start <= limits[MAX_URL] and end - start <= limits[MAX_CAPTION]:
        after = put_address(urls, url_start, url_end, data, base[0], base[1], base[2], heap, top)
    middle = after
    if after >= 0:
        after = put_caption(captions, start, end, heap, after + 1, calm) if after - top <= limits[MAX_URL] else -1
    if after < 0:
        row[STANDING] = ODD
        middle = copy(urls, url_start, url_end, heap, top)
        after = copy(captions, start, end, heap, middle + 1)
    heap[middle] = 0
    row[URL_END], row[CAPTION], row[CAPTION_END], state[TOP] = middle, middle + 1, after, after
    state[NUM_ROWS] += 1
    state[CANDIDATES_FOUND] += 1
