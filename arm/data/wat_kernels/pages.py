"""Members of a WAT file become candidates in one compiled loop; it stops where a record is not usual."""

import numba
import numpy as np
import numpy.typing as npt

from arm.data.wat_kernels import envelope
from arm.data.wat_kernels import layout as at
from arm.data.wat_kernels.envelope import HIT, HIT_ANCHOR
from arm.data.wat_kernels.header import METADATA, REFUSED, read_header
from arm.data.wat_kernels.layout import Integers, Span
from arm.data.wat_kernels.search import Bytes, Number, Words, find
from arm.data.wat_kernels.strings import ESCAPED, copy, unescape
from arm.data.wat_kernels.texts import folder_end, plain_path, put_address, put_caption

Flags = npt.NDArray[np.bool_]


@numba.njit(cache=False)
def read_members(
    data: Bytes, words: Words, members: Integers, state: Integers, rows: Integers, pages: Integers, heap: Bytes,
    calm: Flags, limits: Integers,
) -> int:  # fmt: skip
    """Read members from state[at.MEMBER] on; returns why it stops: at.DONE, or what the member there needs."""
    past = members[-1, at.END]
    while state[at.MEMBER] < len(members):
        member = state[at.MEMBER]
        kind, body, body_end, target, target_end = read_header(data, members[member, at.START], members[member, at.END])
        if kind == REFUSED or body_end - body > limits[at.MAX_BODY]:
            return at.ODD_RECORD
        if kind == METADATA:
            while state[at.NEXT_HIT] < body:
                hit = find(data, words, body, past, HIT, HIT_ANCHOR)
                state[at.NEXT_HIT] = hit if hit >= 0 else at.NEVER
            if state[at.NEXT_HIT] + len(HIT) > body_end:
                state[at.RECORDS_BARE] += 1
            else:
                state[at.BODY], state[at.BODY_END] = body, body_end
                state[at.TARGET], state[at.TARGET_END] = target, target_end
                offset = members[member, at.FILE_OFFSET]
                answer = _read_page(data, words, offset, state, rows, pages, heap, calm, limits)
                if answer != at.DONE:
                    return answer
                state[at.PAGES_READ] += 1
            state[at.LAST_METADATA] = members[member, at.FILE_OFFSET]
        state[at.MEMBER] += 1
    return at.DONE


@numba.njit(cache=False)
def _read_page(
    data: Bytes, words: Words, offset: Number, state: Integers, rows: Integers, pages: Integers, heap: Bytes,
    calm: Flags, limits: Integers,
) -> int:  # fmt: skip
    """Read one page that names an image; if that is not possible, nothing is changed."""
    before = state.copy()
    answer = _put_page(data, words, offset, state, pages, heap, calm, limits)
    if answer == at.DONE:
        answer = _put_images(data, words, state, rows, heap, calm, limits)
    if answer != at.DONE:
        for number in range(len(state)):
            state[number] = before[number]
        return answer
    state[at.NUM_PAGES] += state[at.NUM_ROWS] > before[at.NUM_ROWS]
    if state[at.NUM_ROWS] == before[at.NUM_ROWS]:
        state[at.TOP] = before[at.TOP]
    return at.DONE


@numba.njit(cache=False)
def _put_page(
    data: Bytes, words: Words, offset: Number, state: Integers, pages: Integers, heap: Bytes, calm: Flags,
    limits: Integers,
) -> int:  # fmt: skip
    """What the rows of a page share."""
    body, end, hit, top = state[at.BODY], state[at.BODY_END], state[at.NEXT_HIT], state[at.TOP]
    need = 2 * (end - body) + state[at.TARGET_END] - state[at.TARGET]
    if state[at.NUM_PAGES] == len(pages) or top + need > len(heap):
        return at.NO_ROOM
    warc, warc_end, warc_offset = envelope.container(data, body, end)
    if warc < 0:
        return at.ODD_PAGE
    html, links = envelope.sections(data, words, body, max(hit - 8, body))
    if html < 0:
        return at.ODD_PAGE
    name, name_end, holds = envelope.title(data, words, html, links)
    charset, charset_end = envelope.charset(data, words, body, html)
    if name < 0 or charset < 0:
        return at.ODD_PAGE
    page = pages[state[at.NUM_PAGES]]
    page[at.OFFSET], page[at.WARC_OFFSET] = offset, warc_offset
    page[at.ADDRESS], top = top, copy(data, state[at.TARGET], state[at.TARGET_END], heap, top)
    page[at.ADDRESS_END], page[at.WARC] = top, top
    top = copy(data, warc, warc_end, heap, top)
    page[at.WARC_END], page[at.CHARSET] = top, top
    for place in range(charset, charset_end):
        heap[top] = data[place] + 32 if 65 <= data[place] <= 90 else data[place]
        top += 1
    page[at.CHARSET_END] = top
    state[at.TOP] = _put_title(data, (name, name_end, holds), page, heap, top, calm, limits)
    return at.DONE


@numba.njit(cache=False)
def _put_title(
    data: Bytes, title: Span, page: Integers, heap: Bytes, top: Number, calm: Flags, limits: Integers
) -> int:
    """Write a title in its normal form, or as it is found; returns the new top."""
    start, end, holds = title
    if holds & ESCAPED:
        start, end, data = top, unescape(data, start, end, heap, top), heap
        top = end
    page[at.TITLE], page[at.RAW_TITLE] = top, 0
    if end - start <= min(limits[at.MAX_TITLE], limits[at.MAX_CAPTION]):
        after = put_caption(data, start, end, heap, top, calm)
        if after >= 0:
            page[at.TITLE_END] = after
            return after
    page[at.RAW_TITLE] = end > start
    page[at.TITLE_END] = copy(data, start, end, heap, top)
    return int(page[at.TITLE_END])


@numba.njit(cache=False)
def _put_images(
    data: Bytes, words: Words, state: Integers, rows: Integers, heap: Bytes, calm: Flags, limits: Integers
) -> int:
    """The candidates of a page."""
    target, target_end, body, end = state[at.TARGET], state[at.TARGET_END], state[at.BODY], state[at.BODY_END]
    slash = plain_path(data, target, target_end)
    folder = folder_end(data, slash, target_end) if slash >= 0 else -1
    position, hit = 0, state[at.NEXT_HIT]
    while hit + len(HIT) <= end:
        behind, url, alt, title = envelope.image(data, hit, body, end)
        if behind < 0 or position == limits[at.MAX_IMAGES]:
            return at.ODD_PAGE
        need = 6 * (behind - hit) + 2 * (target_end - target) + 2
        if state[at.NUM_ROWS] + 2 > len(rows) or state[at.TOP] + need > len(heap):
            return at.NO_ROOM
        if url[1] > url[0]:
            base = target, slash, folder
            if alt[1] > alt[0]:
                _put_row(data, url, alt, base, 0, position, state, rows, heap, calm, limits)
            if title[1] > title[0]:
                _put_row(data, url, title, base, 1, position, state, rows, heap, calm, limits)
            if alt[1] == alt[0] and title[1] == title[0]:
                state[at.CANDIDATES_FOUND] += 1
                state[at.CANDIDATES_BARE] += 1
        position += 1
        hit = find(data, words, behind, end, HIT, HIT_ANCHOR)
        if hit < 0:
            hit = at.NEVER
    state[at.NEXT_HIT] = end
    return at.DONE


@numba.njit(cache=False)
def _put_row(
    data: Bytes, url: Span, caption: Span, base: Span, kind: Number, position: Number, state: Integers, rows: Integers,
    heap: Bytes, calm: Flags, limits: Integers,
) -> None:  # fmt: skip
    """One candidate: in its normal form, or as it is found if that is unusual."""
    top = state[at.TOP]
    urls, captions, url_start, url_end, start, end = data, data, url[0], url[1], caption[0], caption[1]
    if url[2] & ESCAPED:
        urls, url_start, url_end = heap, top, unescape(data, url_start, url_end, heap, top)
        top = url_end
    if caption[2] & ESCAPED:
        captions, start, end = heap, top, unescape(data, start, end, heap, top)
        top = end
    row = rows[state[at.NUM_ROWS]]
    row[at.KIND], row[at.POSITION], row[at.PAGE] = kind, position, state[at.NUM_PAGES]
    row[at.STANDING], row[at.URL] = at.PLAIN, top
    after = -1
    if url_end - url_start <= limits[at.MAX_URL] and end - start <= limits[at.MAX_CAPTION]:
        after = put_address(urls, url_start, url_end, data, base[0], base[1], base[2], heap, top)
    middle = after
    if after >= 0:
        after = put_caption(captions, start, end, heap, after + 1, calm) if after - top <= limits[at.MAX_URL] else -1
    if after < 0:
        row[at.STANDING] = at.ODD
        middle = copy(urls, url_start, url_end, heap, top)
        after = copy(captions, start, end, heap, middle + 1)
    heap[middle] = 0
    row[at.URL_END], row[at.CAPTION], row[at.CAPTION_END], state[at.TOP] = middle, middle + 1, after, after
    state[at.NUM_ROWS] += 1
    state[at.CANDIDATES_FOUND] += 1
