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
from arm.data.wat_kernels import layout
from arm.data.wat_kernels.columns import gather
from arm.data.wat_kernels.entries import read_batch
from arm.data.wat_kernels.layout import (
    ADDRESS,
    CANDIDATES_BARE,
    CANDIDATES_FOUND,
    CAPTION,
    CHARSET,
    KIND,
    KINDS,
    NOTE,
    NUM_PAGES,
    NUM_ROWS,
    ODD,
    OFFSET,
    PAGE,
    PAGES_READ,
    PLAIN,
    POSITION,
    RAW_TITLE,
    RECORDS_BARE,
    STANDING,
    TITLE,
    TOP,
    URL,
    WARC,
    WARC_OFFSET,
    Integers,
)  # fmt: skip
from arm.data.wat_kernels.members import Batch
from arm.data.wat_kernels.texts import calm_letters

HEAP_BYTES = 1 << 22
"""The heap at first; it grows with pages that need more."""
Canonical = Callable[[str], str | None]


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
        self._rows = np.empty((ROWS_PER_GROUP, layout.NUM_ROW_COLUMNS), np.int64)
        self._pages = np.empty((ROWS_PER_GROUP, layout.NUM_PAGE_COLUMNS), np.int64)
        self._bases: dict[int, Canonical] = {}
        """How the addresses of a page are resolved, where that was asked."""
        self._reasons: list[str] = []
        """What the remarks on pages say."""
        self.state = np.zeros(layout.NUM_STATES, np.int64)

    @property
    def full(self) -> bool:
        """Whether a row group is complete."""
        return bool(self.state[NUM_ROWS] >= ROWS_PER_GROUP or self.state[TOP] >= CHARACTERS_PER_GROUP)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self.state[NUM_ROWS]

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
        self.state[NUM_PAGES] += 1

    def note(self, page_url: str, reason: str, offset: int) -> None:
        """Add a row that speaks for a page: it was left out."""
        self._describe(Page(page_url), offset, 1)
        self._put_remark(reason)
        self.state[NUM_PAGES] += 1

    def take(self) -> tuple[pa.Table, pa.Table]:
        """Tables of the pairs and of the dropped; rows and pages start empty again."""
        dropped = self._judge_odd()
        rows = self._rows[: self.state[NUM_ROWS]]
        rows = rows[rows[:, STANDING] == PLAIN]
        pages = self._pages[: self.state[NUM_PAGES]]
        self._counts["pairs_extracted"] += len(rows)
        pairs = pa.Table.from_arrays([*self._image_columns(rows), *self._page_columns(rows, pages)], schema=PAIRS)
        self.state[[TOP, NUM_ROWS, NUM_PAGES]] = 0
        self._bases, self._reasons = {}, []
        return pairs, pa.Table.from_arrays(transposed(dropped, DROPPED), schema=DROPPED)

    def count(self) -> None:
        """Add what the compiled loop counted to the counts."""
        state, counts = self.state, self._counts
        counts["records_read"] += int(state[RECORDS_BARE] + state[PAGES_READ])
        counts["pages_read"] += int(state[PAGES_READ])
        counts["candidates_found"] += int(state[CANDIDATES_FOUND])
        _count(counts, "skipped/no_image", int(state[RECORDS_BARE]))
        _count(counts, "dropped/no_caption", int(state[CANDIDATES_BARE]))
        state[[RECORDS_BARE, PAGES_READ, CANDIDATES_FOUND, CANDIDATES_BARE]] = 0

    def _reserve(self, num_bytes: int, num_rows: int) -> None:
        """Make room for a page with so much text and so many rows."""
        self._heap = _longer(self._heap, int(self.state[TOP]) + num_bytes)
        self._rows = _longer(self._rows, int(self.state[NUM_ROWS]) + num_rows)
        self._pages = _longer(self._pages, int(self.state[NUM_PAGES]) + 1)

    def _describe(self, page: Page, offset: int, num_rows: int) -> None:
        """Write what the rows of a page share, and make room for them."""
        texts = [page.url, page.title, page.charset, page.warc]
        num_bytes = sum(len(found.url.encode()) + len(found.caption.encode()) + 1 for found in page.found)
        self._reserve(num_bytes + sum(len(text.encode()) for text in texts), num_rows)
        row = self._pages[self.state[NUM_PAGES]]
        for column, text in zip((ADDRESS, TITLE, CHARSET, WARC), texts, strict=True):
            row[column], row[column + 1] = self._put(text)
        row[WARC_OFFSET], row[OFFSET], row[RAW_TITLE] = page.warc_offset, offset, 1
        if not page.warc:
            row[WARC], row[WARC + 1] = self._put(self._file)
            row[WARC_OFFSET] = offset
        self._bases[int(self.state[NUM_PAGES])] = BaseAddress(page.base).canonical

    def _put_row(self, found: Found) -> None:
        row = self._rows[self.state[NUM_ROWS]]
        row[URL], row[URL + 1] = self._put(found.url)
        row[CAPTION], row[CAPTION + 1] = self._put(found.caption)
        row[KIND], row[POSITION] = KINDS.index(found.kind), found.position
        row[PAGE], row[STANDING] = self.state[NUM_PAGES], ODD
        self.state[NUM_ROWS] += 1

    def _put_remark(self, reason: str) -> None:
        row = self._rows[self.state[NUM_ROWS]]
        row[:] = 0
        row[KIND], row[PAGE], row[STANDING] = len(self._reasons), self.state[NUM_PAGES], NOTE
        self._reasons.append(reason)
        self.state[NUM_ROWS] += 1

    def _put(self, text: str) -> tuple[int, int]:
        """Write a text to the heap, which has room for it; returns its place."""
        content = np.frombuffer(text.encode(), np.uint8)
        start, end = int(self.state[TOP]), int(self.state[TOP]) + len(content)
        if end > len(self._heap):
            self._heap = _longer(self._heap, end)
        self._heap[start:end] = content
        self.state[TOP] = end
        return start, end

    def _text(self, place: Integers, column: int) -> str:
        return self._heap[place[column] : place[column + 1]].tobytes().decode()

    def _judge_odd(self) -> list[tuple[Any, ...]]:
        """Judge the rows that wait for it; returns the rows of the dropped."""
        dropped = []
        for number in np.flatnonzero(self._rows[: self.state[NUM_ROWS], STANDING] != PLAIN).tolist():
            row = self._rows[number]
            page = self._pages[row[PAGE]]
            address, place = self._text(page, ADDRESS), Place(self._file, int(page[OFFSET]))
            if row[STANDING] == NOTE:
                dropped.append(remark(address, self._reasons[row[KIND]], place))
                continue
            canonical = self._bases.get(int(row[PAGE]))
            if canonical is None:
                canonical = self._bases[int(row[PAGE])] = BaseAddress(address).canonical
            found = Found(self._text(row, URL), "src", self._text(row, CAPTION), KINDS[row[KIND]], int(row[POSITION]))
            reason, url, caption = judge(found, canonical, self._config)
            if reason:
                self._counts[f"dropped/{reason}"] += 1
                row[STANDING] = layout.DROPPED
                dropped.append(dropped_row(found, reason, address, place, self._config))
            else:
                self._replace(row, url, caption)
        return dropped

    def _replace(self, row: Integers, url: str, caption: str) -> None:
        """Write a judged pair to its row, as the compiled loop would."""
        start, middle = self._put(url + "\0")
        row[URL], row[URL + 1] = start, middle - 1
        row[CAPTION], row[CAPTION + 1] = self._put(caption)
        row[STANDING] = PLAIN

    def _image_columns(self, rows: Integers) -> list[pa.Array]:
        heap, view = self._heap, memoryview(self._heap)
        places = zip(rows[:, URL].tolist(), rows[:, CAPTION + 1].tolist(), strict=True)
        uids = [hashlib.sha256(view[start:end]).hexdigest()[:32] for start, end in places]
        number = len(rows)
        return [
            pa.array(uids, pa.string()), gather(heap, rows, URL), gather(heap, rows, CAPTION),
            pa.array(KINDS, pa.string()).take(pa.array(rows[:, KIND])), pa.repeat(pa.scalar("src"), number),
            pa.array(rows[:, POSITION].astype(np.int32)), pa.repeat(pa.scalar(""), number),
        ]  # fmt: skip

    def _page_columns(self, rows: Integers, pages: Integers) -> list[pa.Array]:
        self._finish_titles(pages)
        heap, order = self._heap, pa.array(rows[:, PAGE])
        texts = {column: gather(heap, pages, column).take(order) for column in (ADDRESS, TITLE, CHARSET, WARC)}
        numbers = {column: pa.array(pages[rows[:, PAGE], column]) for column in (WARC_OFFSET, OFFSET)}
        file, language = (pa.repeat(pa.scalar(text), len(rows)) for text in (self._file, ""))
        return [
            texts[ADDRESS], texts[TITLE], language, texts[CHARSET], texts[WARC], numbers[WARC_OFFSET], file,
            numbers[OFFSET],
        ]  # fmt: skip

    def _finish_titles(self, pages: Integers) -> None:
        """Bring titles that are not usual to their normal form."""
        for number in np.flatnonzero(pages[:, RAW_TITLE]).tolist():
            title = page_title(self._text(pages[number], TITLE), self._config)
            pages[number, TITLE], pages[number, TITLE + 1] = self._put(title)


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
