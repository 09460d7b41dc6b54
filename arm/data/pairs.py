"""The tables of extract-pairs, filled page by page and written in row groups: memory does not grow with the crawl file.

    pairs       uid, url, caption, kind, attribute, position, surrounding_text, page_url, ..., file, offset
    dropped     what was no pair although it had a caption, and pages of which something was left out, with the reason

Columns are lists; what all images of a page share is kept once a page and repeated by Arrow.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import ExtractConfig
from arm.data.html import Found, Page
from arm.data.normalisation import BaseAddress, normalise_caption
from arm.records import make_uid

PLACE = [("file", pa.string()), ("offset", pa.int64())]
"""Provenance: the file that was read and where the record starts in it."""
OF_IMAGE = [
    ("uid", pa.string()), ("url", pa.string()), ("caption", pa.string()), ("kind", pa.string()),
    ("attribute", pa.string()), ("position", pa.int32()), ("surrounding_text", pa.string()),
]  # fmt: skip
OF_PAGE = [
    ("page_url", pa.string()), ("page_title", pa.string()), ("page_language", pa.string()), ("charset", pa.string()),
    ("warc", pa.string()), ("warc_offset", pa.int64()), *PLACE,
]  # fmt: skip
PAIRS = pa.schema([*OF_IMAGE, *OF_PAGE])
DROPPED = pa.schema(
    [
        ("reason", pa.string()), ("url", pa.string()), ("caption", pa.string()), ("kind", pa.string()),
        ("attribute", pa.string()), ("position", pa.int32()), ("page_url", pa.string()), *PLACE,
    ]
)  # fmt: skip
MAX_TITLE_CHARACTERS = 500
ROWS_PER_GROUP = 20_000
"""Rows of a row group."""
CHARACTERS_PER_GROUP = 16_000_000
"""A row group ends earlier when its texts are this long: captions may have thousands of characters."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page was found."""

    file: str
    offset: int


class PairRows:
    """Pairs and dropped candidates that wait to be written."""

    def __init__(self, config: ExtractConfig, counts: Counter[str]) -> None:
        self._config, self._counts = config, counts
        self._clear()

    @property
    def full(self) -> bool:
        """Whether a row group is complete."""
        rows = max(len(self._urls), len(self._dropped))
        return rows >= ROWS_PER_GROUP or self._characters >= CHARACTERS_PER_GROUP

    def add(self, page: Page, place: Place) -> None:
        """Judge every candidate of a page."""
        canonical, before = BaseAddress(page.base).canonical, len(self._urls)
        num_bare = 0
        for found in page.found:
            if not found.caption:
                num_bare += 1
                continue
            reason, url, caption = judge(found, canonical, self._config)
            if reason:
                self._drop(found, reason, page, place)
                continue
            self._urls.append(url)
            self._captions.append(caption)
            self._kinds.append(found.kind)
            self._attributes.append(found.attribute)
            self._positions.append(found.position)
            self._surroundings.append(found.surrounding)
            self._characters += len(url) + len(caption) + len(found.surrounding)
        self._finish(page, place, len(self._urls) - before, num_bare)

    def _finish(self, page: Page, place: Place, num_pairs: int, num_bare: int) -> None:
        """Count a page and keep what its pairs share."""
        self._counts["candidates_found"] += len(page.found) + page.num_ignored
        self._counts["pairs_extracted"] += num_pairs
        if num_bare:
            self._counts["dropped/no_caption"] += num_bare
        if page.num_ignored:
            self._counts["dropped/many_images"] += page.num_ignored
            self.note(page.url, "many_images", place)
        if num_pairs:
            self._pages.append(self._describe(page, place))
            self._repeats.append(num_pairs)

    def note(self, page_url: str, reason: str, place: Place) -> None:
        """A row that speaks for a page: some of it, or all, was left out."""
        self._dropped.append(remark(page_url, reason, place))

    def take(self) -> tuple[pa.Table, pa.Table]:
        """Tables of the pairs and of the dropped; both start empty again."""
        uids = [make_uid(url, caption) for url, caption in zip(self._urls, self._captions, strict=True)]
        images = [
            uids, self._urls, self._captions, self._kinds, self._attributes, self._positions, self._surroundings,
        ]  # fmt: skip
        rows = pa.array(np.repeat(np.arange(len(self._pages)), self._repeats))
        columns = _columns(images, OF_IMAGE) + [column.take(rows) for column in transposed(self._pages, OF_PAGE)]
        pairs = pa.Table.from_arrays(columns, schema=PAIRS)
        dropped = pa.Table.from_arrays(transposed(self._dropped, DROPPED), schema=DROPPED)
        self._clear()
        return pairs, dropped

    def _clear(self) -> None:
        self._urls: list[str] = []
        self._captions: list[str] = []
        self._kinds: list[str] = []
        self._attributes: list[str] = []
        self._positions: list[int] = []
        self._surroundings: list[str] = []
        self._pages: list[tuple[Any, ...]] = []
        self._repeats: list[int] = []
        """Pairs of each page."""
        self._dropped: list[tuple[Any, ...]] = []
        self._characters = 0

    def _describe(self, page: Page, place: Place) -> tuple[Any, ...]:
        title = page_title(page.title, self._config)
        warc = (page.warc, page.warc_offset) if page.warc else (place.file, place.offset)
        return (page.url, title, page.language, page.charset, *warc, place.file, place.offset)

    def _drop(self, found: Found, reason: str, page: Page, place: Place) -> None:
        """Count and note a candidate that has a caption and is no pair."""
        self._counts[f"dropped/{reason}"] += 1
        row = dropped_row(found, reason, page.url, place, self._config)
        self._characters += len(row[1]) + len(row[2])
        self._dropped.append(row)


def judge(found: Found, canonical: Callable[[str], str | None], config: ExtractConfig) -> tuple[str, str, str]:
    """("", address, caption) of a candidate that is a pair, both in their normal form, or (reason, "", "").

    `canonical` resolves the addresses of its page. Whether pairs are good is for filter-pairs.
    """
    longest = config.max_url_characters
    caption = normalise_caption(found.caption[: config.max_caption_characters])
    url = canonical(found.url) if len(found.url) <= longest else None
    if not caption or url is None or len(url) > longest:
        return _reason(found.url, caption, too_long=len(url or found.url) > longest), "", ""
    return "", url, caption


def page_title(title: str, config: ExtractConfig) -> str:
    """A page's title in its normal form."""
    return normalise_caption(title[: config.max_caption_characters])[:MAX_TITLE_CHARACTERS]


def dropped_row(found: Found, reason: str, page_url: str, place: Place, config: ExtractConfig) -> tuple[Any, ...]:
    """A row of the dropped for a candidate that has a caption and is no pair."""
    url, caption = found.url[: config.max_url_characters], found.caption[: config.max_caption_characters]
    position = found.position
    return (reason, url, caption, found.kind, found.attribute, position, page_url, place.file, place.offset)


def remark(page_url: str, reason: str, place: Place) -> tuple[Any, ...]:
    """A row of the dropped that speaks for a page: some of it, or all, was left out."""
    return (reason, None, None, None, None, None, page_url, place.file, place.offset)


def _reason(reference: str, caption: str, *, too_long: bool) -> str:
    if not caption:
        return "no_caption"
    if reference[:5].lower() == "data:":
        return "inline_image"
    return "long_url" if too_long else "bad_url"


def _columns(values: list[Any], fields: list[Any]) -> list[pa.Array]:
    return [pa.array(column, kind) for column, (_, kind) in zip(values, fields, strict=True)]


def transposed(rows: list[tuple[Any, ...]], fields: Any) -> list[pa.Array]:
    """Columns of rows."""
    schema = pa.schema(fields)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
