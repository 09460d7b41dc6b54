"""Candidates of a WAT file that wait to be written: what the compiled loop found, and the few rows that Python judges.

All texts lie in one heap of bytes; Arrow's columns are made of their places, without an object a row. A candidate that is
not usual waits in its row as it was found and is judged as `arm.data.pairs` judges all others, in the order of the file.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import ExtractConfig
from arm.data.html import Found, Page
from arm.data.normalisation import BaseAddress
from arm.data.pairs import (
    CHARACTERS_PER_GROUP,
    DROPPED,
    MAX_TITLE_CHARACTERS,
    PAIRS,
    ROWS_PER_GROUP,
    Place,
    dropped_row,
    judge,
    page_title,
    remark,
    transposed,
)  # fmt: skip
from arm.data.wat_kernels import layout as at
from arm.data.wat_kernels.columns import gather
from arm.data.wat_kernels.entries import read_batch
from arm.data.wat_kernels.layout import Integers
from arm.data.wat_kernels.members import Batch
from arm.data.wat_kernels.search import Bytes
from arm.data.wat_kernels.texts import calm_letters

HEAP_BYTES = 1 << 22
"""The heap at first; it grows with pages that need more."""
Canonical = Callable[[str], str | None]
_DIGITS = np.frombuffer(bytes(range(256)).hex().encode(), np.uint16)
"""The two hexadecimal digits of each byte."""


class WatRows:
    """Rows, pages and texts of one file, up to a row group."""

    def __init__(self, config: ExtractConfig, counts: Counter[str], file: str) -> None:
        self._config, self._counts, self._file = config, counts, file
        self._limits = np.array(
            [
                config.max_record_bytes, config.max_url_characters, config.max_caption_characters,
                config.max_images_per_page, MAX_TITLE_CHARACTERS,
            ], np.int64,
        )  # fmt: skip
        self._calm = calm_letters()
        self._heap = np.empty(HEAP_BYTES, np.uint8)
        self._rows = np.empty((ROWS_PER_GROUP, at.NUM_ROW_COLUMNS), np.int64)
        self._pages = np.empty((ROWS_PER_GROUP, at.NUM_PAGE_COLUMNS), np.int64)
        self._bases: dict[int, Canonical] = {}
        """How the addresses of a page are resolved, where that was asked."""
        self._reasons: list[str] = []
        """What the remarks on pages say."""
        self.state = np.zeros(at.NUM_STATES, np.int64)
        self.state[at.LAST_METADATA] = -1

    @property
    def full(self) -> bool:
        """Whether a row group is complete."""
        return bool(self.state[at.NUM_ROWS] >= ROWS_PER_GROUP or self.state[at.TOP] >= CHARACTERS_PER_GROUP)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self.state[at.NUM_ROWS]

    def read(self, batch: Batch) -> int:
        """Go on with a batch; returns why it stops (see `read_members`)."""
        return int(read_batch(
            batch.data, batch.words, batch.members, self.state, self._rows, self._pages, self._heap, self._calm,
            self._limits,
        ))  # fmt: skip

    def grow(self) -> None:
        """Make twice the room: for a page that is larger than all that there is."""
        self._reserve(len(self._heap), len(self._rows))

    def add(self, page: Page, offset: int) -> None:
        """Add a page that was read by `arm.data.wat`; all its candidates are judged later."""
        captioned = [found for found in page.found if found.caption]
        self._counts["candidates_found"] += len(page.found) + page.num_ignored
        _count(self._counts, "dropped/no_caption", len(page.found) - len(captioned))
        _count(self._counts, "dropped/many_images", page.num_ignored)
        if not captioned and not page.num_ignored:
            return
        self._describe(page, offset, len(captioned) + 1)
        for found in captioned:
            self._put_row(found)
        if page.num_ignored:
            self._put_remark("many_images")
        self.state[at.NUM_PAGES] += 1

    def note(self, page_url: str, reason: str, offset: int) -> None:
        """Add a row that speaks for a page: it was left out."""
        self._describe(Page(page_url), offset, 1)
        self._put_remark(reason)
        self.state[at.NUM_PAGES] += 1

    def take(self) -> tuple[pa.Table, pa.Table]:
        """Tables of the pairs and of the dropped; rows and pages start empty again."""
        dropped = self._judge_odd()
        rows = self._rows[: self.state[at.NUM_ROWS]]
        rows = rows[rows[:, at.STANDING] == at.PLAIN]
        pages = self._pages[: self.state[at.NUM_PAGES]]
        self._counts["pairs_extracted"] += len(rows)
        pairs = pa.Table.from_arrays([*self._image_columns(rows), *self._page_columns(rows, pages)], schema=PAIRS)
        self.state[[at.TOP, at.NUM_ROWS, at.NUM_PAGES]] = 0
        self._bases, self._reasons = {}, []
        return pairs, pa.Table.from_arrays(transposed(dropped, DROPPED), schema=DROPPED)

    def count(self) -> None:
        """Add what the compiled loop counted to the counts."""
        state, counts = self.state, self._counts
        counts["records_read"] += int(state[at.RECORDS_BARE] + state[at.PAGES_READ])
        counts["pages_read"] += int(state[at.PAGES_READ])
        counts["candidates_found"] += int(state[at.CANDIDATES_FOUND])
        _count(counts, "skipped/no_image", int(state[at.RECORDS_BARE]))
        _count(counts, "dropped/no_caption", int(state[at.CANDIDATES_BARE]))
        state[[at.RECORDS_BARE, at.PAGES_READ, at.CANDIDATES_FOUND, at.CANDIDATES_BARE]] = 0

    def _reserve(self, num_bytes: int, num_rows: int) -> None:
        """Make room for a page with so much text and so many rows."""
        self._heap = _longer(self._heap, int(self.state[at.TOP]) + num_bytes)
        self._rows = _longer(self._rows, int(self.state[at.NUM_ROWS]) + num_rows)
        self._pages = _longer(self._pages, int(self.state[at.NUM_PAGES]) + 1)

    def _describe(self, page: Page, offset: int, num_rows: int) -> None:
        """Write what the rows of a page share, and make room for them."""
        texts = [page.url, page.title, page.charset, page.warc]
        num_bytes = sum(len(found.url.encode()) + len(found.caption.encode()) + 1 for found in page.found)
        self._reserve(num_bytes + sum(len(text.encode()) for text in texts), num_rows)
        row = self._pages[self.state[at.NUM_PAGES]]
        for column, text in zip((at.ADDRESS, at.TITLE, at.CHARSET, at.WARC), texts, strict=True):
            row[column], row[column + 1] = self._put(text)
        row[at.WARC_OFFSET], row[at.OFFSET], row[at.RAW_TITLE] = page.warc_offset, offset, 1
        if not page.warc:
            row[at.WARC], row[at.WARC + 1] = self._put(self._file)
            row[at.WARC_OFFSET] = offset
        self._bases[int(self.state[at.NUM_PAGES])] = BaseAddress(page.base).canonical

    def _put_row(self, found: Found) -> None:
        row = self._rows[self.state[at.NUM_ROWS]]
        row[at.URL], row[at.URL + 1] = self._put(found.url)
        row[at.CAPTION], row[at.CAPTION + 1] = self._put(found.caption)
        row[at.KIND], row[at.POSITION] = at.KINDS.index(found.kind), found.position
        row[at.PAGE], row[at.STANDING] = self.state[at.NUM_PAGES], at.ODD
        self.state[at.NUM_ROWS] += 1

    def _put_remark(self, reason: str) -> None:
        row = self._rows[self.state[at.NUM_ROWS]]
        row[:] = 0
        row[at.KIND], row[at.PAGE], row[at.STANDING] = len(self._reasons), self.state[at.NUM_PAGES], at.NOTE
        self._reasons.append(reason)
        self.state[at.NUM_ROWS] += 1

    def _put(self, text: str) -> tuple[int, int]:
        """Write a text to the heap, which has room for it; returns its place."""
        content = np.frombuffer(text.encode(), np.uint8)
        start, end = int(self.state[at.TOP]), int(self.state[at.TOP]) + len(content)
        if end > len(self._heap):
            self._heap = _longer(self._heap, end)
        self._heap[start:end] = content
        self.state[at.TOP] = end
        return start, end

    def _text(self, place: Integers, column: int) -> str:
        return self._heap[place[column] : place[column + 1]].tobytes().decode()

    def _judge_odd(self) -> list[tuple[Any, ...]]:
        """Judge the rows that wait for it; returns the rows of the dropped."""
        dropped = []
        for number in np.flatnonzero(self._rows[: self.state[at.NUM_ROWS], at.STANDING] != at.PLAIN).tolist():
            row = self._rows[number]
            page = self._pages[row[at.PAGE]]
            address, place = self._text(page, at.ADDRESS), Place(self._file, int(page[at.OFFSET]))
            if row[at.STANDING] == at.NOTE:
                dropped.append(remark(address, self._reasons[row[at.KIND]], place))
                continue
            canonical = self._bases.get(int(row[at.PAGE]))
            if canonical is None:
                canonical = self._bases[int(row[at.PAGE])] = BaseAddress(address).canonical
            found = Found(
                self._text(row, at.URL),
                "src",
                self._text(row, at.CAPTION),
                at.KINDS[row[at.KIND]],
                int(row[at.POSITION]),
            )
            reason, url, caption = judge(found, canonical, self._config)
            if reason:
                self._counts[f"dropped/{reason}"] += 1
                row[at.STANDING] = at.DROPPED
                dropped.append(dropped_row(found, reason, address, place, self._config))
            else:
                self._replace(row, url, caption)
        return dropped

    def _replace(self, row: Integers, url: str, caption: str) -> None:
        """Write a judged pair to its row, as the compiled loop would."""
        start, middle = self._put(url + "\0")
        row[at.URL], row[at.URL + 1] = start, middle - 1
        row[at.CAPTION], row[at.CAPTION + 1] = self._put(caption)
        row[at.STANDING] = at.PLAIN

    def _image_columns(self, rows: Integers) -> list[pa.Array]:
        heap, number = self._heap, len(rows)
        return [
            _uids(heap, rows), gather(heap, rows, at.URL), gather(heap, rows, at.CAPTION),
            pa.array(at.KINDS, pa.string()).take(pa.array(rows[:, at.KIND])), pa.repeat(pa.scalar("src"), number),
            pa.array(rows[:, at.POSITION].astype(np.int32)), pa.repeat(pa.scalar(""), number),
        ]  # fmt: skip

    def _page_columns(self, rows: Integers, pages: Integers) -> list[pa.Array]:
        self._finish_titles(pages)
        heap, order = self._heap, pa.array(rows[:, at.PAGE])
        texts = {
            column: gather(heap, pages, column).take(order) for column in (at.ADDRESS, at.TITLE, at.CHARSET, at.WARC)
        }
        numbers = {column: pa.array(pages[rows[:, at.PAGE], column]) for column in (at.WARC_OFFSET, at.OFFSET)}
        file, language = (pa.repeat(pa.scalar(text), len(rows)) for text in (self._file, ""))
        return [
            texts[at.ADDRESS], texts[at.TITLE], language, texts[at.CHARSET], texts[at.WARC], numbers[at.WARC_OFFSET], file,
            numbers[at.OFFSET],
        ]  # fmt: skip

    def _finish_titles(self, pages: Integers) -> None:
        """Bring titles that are not usual to their normal form."""
        for number in np.flatnonzero(pages[:, at.RAW_TITLE]).tolist():
            title = page_title(self._text(pages[number], at.TITLE), self._config)
            pages[number, at.TITLE], pages[number, at.TITLE + 1] = self._put(title)


def _uids(heap: Bytes, rows: Integers) -> pa.Array:
    """`arm.records.make_uid` of addresses and captions, between which a zero byte lies in the heap."""
    places = zip(rows[:, at.URL].tolist(), rows[:, at.CAPTION_END].tolist(), strict=True)
    texts = heap.data
    digests = b"".join([hashlib.sha256(texts[start:end]).digest() for start, end in places])
    halves = np.frombuffer(digests, np.uint8).reshape(-1, 32)[:, :16]
    ends = np.arange(0, 32 * len(rows) + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(rows), [None, pa.py_buffer(ends), pa.py_buffer(_DIGITS[halves])])


def _count(counts: Counter[str], name: str, number: int) -> None:
    """Count under a name that is only there when it is not 0."""
    if number:
        counts[name] += number


def _longer(array: Any, length: int) -> Any:
    """The array with room for `length` rows, at least a quarter more than before if it grows."""
    if length <= len(array):
        return array
    longer = np.empty((max(length, len(array) * 5 // 4), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
