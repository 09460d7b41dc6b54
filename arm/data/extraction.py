"""extract-pairs: image-caption pairs and interleaved documents from crawl files, one Spark task per file.

pairs/part-00000.parquet        uid, url, caption, kind, attribute, position, surrounding_text, page_url, ..., file, offset
dropped/part-00000.parquet      what had a caption and is no pair: reason, url, caption, ..., page_url, file, offset
documents/part-00000.parquet    uid, page_url, items: [{kind: text | image, value}], file, offset

candidates_found = pairs_extracted + dropped/no_caption + dropped/bad_url + ...
documents_found = documents_extracted + documents_dropped/few_words + ...
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import ExtractConfig
from arm.data.crawl_files import crawl_files
from arm.data.documents import DOCUMENTS, DocumentRows
from arm.data.html import Page
from arm.data.pairs import DROPPED, PAIRS, PairRows, Place
from arm.data.spark import map_units, spark_session
from arm.data.tables import add_counts, check_balance, read_counts, table_writer
from arm.data.warc import is_wat_name, read_pages
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.outside import fetched, released
from arm.storage import Folder, open_folder

__all__ = ["DOCUMENTS", "DROPPED", "PAIRS", "extract_file", "extract_pairs"]
ALWAYS = ("records_read", "pages_read", "candidates_found", "pairs_extracted", "documents_found", "documents_extracted")
"""Counts that are there when they are 0."""


def extract_pairs(*, output: Folder, config: ExtractConfig, crawl: Manifest | None = None) -> Outcome:
    """Read WARC and WAT files on Spark and publish their pairs and documents."""
    files = crawl_files(config, crawl)
    units = [
        {"index": index, "name": file.name, "path": file.address}
        for index, file in sorted(enumerate(files), key=lambda item: -item[1].size)  # the longest task starts first
    ]
    if any(is_wat_name(file.name) for file in files):
        _compile_loops()  # here: Spark's workers then find them compiled
    work = partial(extract_file, output_url=output.url, config=config)
    with spark_session(config.spark, output.scratch("spark")) as spark:
        results = map_units(spark, units, work, "extract-pairs")
    counts = add_counts(results) | {"files_read": len(units)}
    check_balance(counts, "candidates_found", "pairs_extracted")
    check_balance(counts, "records_read", "pages_read", "skipped/")
    check_balance(counts, "documents_found", "documents_extracted", "documents_dropped/")
    _check_quality(counts, config)
    return Outcome(counts=counts)


def _compile_loops() -> None:
    from arm.data.wat_compiling import compile_loops  # here: it imports numba, which only WAT files need

    compile_loops()


def extract_file(unit: dict[str, Any], output_url: str, config: ExtractConfig) -> dict[str, int]:
    """One task: publish the pairs and documents of one crawl file; return its counts."""
    output, part = open_folder(output_url), f"part-{unit['index']:05d}.parquet"
    if output.exists(f"pairs/{part}"):
        return read_counts(output.fetch(f"pairs/{part}"))
    counts: Counter[str] = Counter(dict.fromkeys(ALWAYS, 0))
    with (  # published from last to first: where there are pairs, all is there
        table_writer(output, f"pairs/{part}", PAIRS, counts) as pairs,
        table_writer(output, f"dropped/{part}", DROPPED) as dropped,
        table_writer(output, f"documents/{part}", DOCUMENTS) as documents,
    ):
        path = fetched(unit["path"], config.politeness)
        for kept, lost, interleaved in _tables(path, unit["name"], config, counts):
            pairs.write(kept)
            dropped.write(lost)
            documents.write(interleaved)
    released(unit["path"])
    return dict(counts)


def _tables(
    path: Path, name: str, config: ExtractConfig, counts: Counter[str]
) -> Iterator[tuple[pa.Table, pa.Table, pa.Table]]:
    """Pairs, dropped and documents of a crawl file, a row group at a time."""
    documents = DocumentRows(config, counts)
    if is_wat_name(path.name):
        from arm.data.wat_tables import wat_tables  # here: it imports numba, which only WAT files need

        for kept, lost in wat_tables(path, name, config, counts):
            yield kept, lost, documents.take()  # a WAT file tells no texts
        return
    rows = PairRows(config, counts)
    for offset, read in read_pages(path, config, counts):
        place = Place(name, offset)
        if isinstance(read, Page):
            rows.add(read, place)
            documents.add(read, place)
        else:
            rows.note(read.url, read.reason, place)
        if rows.full or documents.full:
            yield *rows.take(), documents.take()
    yield *rows.take(), documents.take()


def _check_quality(counts: dict[str, int], config: ExtractConfig) -> None:
    records, broken = counts.get("records_read", 0), counts.get("skipped/broken", 0)
    if records == 0:
        raise UserError("The crawl files hold no response and no metadata record; are they WARC or WAT files?")
    if broken > config.max_broken_share * records:
        raise UserError(
            f"{broken} of {records} records are broken, more than max_broken_share {config.max_broken_share}; "
            "check the crawl files or raise it."
        )
