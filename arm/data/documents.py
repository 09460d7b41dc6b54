"""Interleaved documents: a page's texts and images in the order of its elements, by the rules of OBELICS.

    [text "Before", image "a.png", text "After"]  ->  one row of DOCUMENTS, its images with canonical addresses

OBELICS (arXiv 2306.16527): 1 to 30 images and 10 to 2,000 words a document; sides of at least 150 pixels, where the
page declares them.
"""

from collections import Counter
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import ExtractConfig
from arm.data.html import Page
from arm.data.normalisation import BaseAddress
from arm.data.pairs import PLACE, ROWS_PER_GROUP, Place
from arm.records import make_uid

WORDS_PER_GROUP = 2_000_000
"""A row group ends earlier when its texts are this long."""
DOCUMENTS = pa.schema(
    [
        ("uid", pa.string()), ("page_url", pa.string()),
        ("items", pa.list_(pa.struct([("kind", pa.string()), ("value", pa.string())]))), *PLACE,
    ]
)  # fmt: skip


class DocumentRows:
    """Documents that wait to be written."""

    def __init__(self, config: ExtractConfig, counts: Counter[str]) -> None:
        self._config, self._counts = config, counts
        self._rows: list[dict[str, Any]] = []
        self._words = 0

    @property
    def full(self) -> bool:
        """Whether a row group is complete."""
        return len(self._rows) >= ROWS_PER_GROUP or self._words >= WORDS_PER_GROUP

    def add(self, page: Page, place: Place) -> None:
        """Judge a page; one with texts alone, or with images alone, is no document and not counted."""
        items = _fit_items(page, self._config)
        num_images = sum(item["kind"] == "image" for item in items)
        if not num_images or num_images == len(items):
            return
        num_words = sum(len(item["value"].split()) for item in items if item["kind"] == "text")
        reason = _unfit(num_images, num_words, self._config)
        self._counts["documents_found"] += 1
        self._counts[f"documents_dropped/{reason}" if reason else "documents_extracted"] += 1
        if not reason:
            uid = make_uid("document", page.url, place.file, str(place.offset))
            row = {"uid": uid, "page_url": page.url, "items": items, "file": place.file, "offset": place.offset}
            self._rows.append(row)
            self._words += num_words

    def take(self) -> pa.Table:
        """A table of the documents; the rows start empty again."""
        table = pa.Table.from_pylist(self._rows, DOCUMENTS)
        self._rows, self._words = [], 0
        return table


def _unfit(num_images: int, num_words: int, config: ExtractConfig) -> str | None:
    if num_images > config.max_document_images:
        return "many_images"
    if num_words > config.max_document_words:
        return "many_words"
    return "few_words" if num_words < config.min_document_words else None


def _fit_items(page: Page, config: ExtractConfig) -> list[dict[str, str]]:
    """The items whose addresses can be fetched, neighbouring texts as they are."""
    base, items = BaseAddress(page.base), []
    for kind, value in page.items:
        if kind == "image":
            value = (len(value) <= config.max_url_characters and base.canonical(value)) or ""
        if value:
            items.append({"kind": kind, "value": value})
    return items
