"""extract-pairs: image-caption pairs and interleaved documents from crawl files, one Spark task per file.

pairs/part-00000.parquet        uid, url, caption, kind, attribute, position, page_url, ..., file, offset
documents/part-00000.parquet    uid, page_url, items: [{kind: text | image, value}], file, offset

candidates_found = pairs_extracted + dropped/no_caption + dropped/bad_url + ...
"""

from collections import Counter
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import ExtractConfig
from arm.data.html import Found, Page
from arm.data.normalisation import canonical_url, normalise_caption, pair_uid
from arm.data.spark import map_units, spark_session
from arm.data.tables import add_counts, check_balance, read_counts, write_table
from arm.data.warc import read_pages
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.outside import fetched, matches, outside_addresses
from arm.records import make_uid
from arm.storage import Folder, open_folder

PAIRS = pa.schema(
    [
        ("uid", pa.string()), ("url", pa.string()), ("caption", pa.string()), ("kind", pa.string()),
        ("attribute", pa.string()), ("position", pa.int32()), ("page_url", pa.string()), ("page_title", pa.string()),
        ("page_language", pa.string()), ("charset", pa.string()), ("file", pa.string()), ("offset", pa.int64()),
    ]
)  # fmt: skip
DOCUMENTS = pa.schema(
    [
        ("uid", pa.string()), ("page_url", pa.string()),
        ("items", pa.list_(pa.struct([("kind", pa.string()), ("value", pa.string())]))),
        ("file", pa.string()), ("offset", pa.int64()),
    ]
)  # fmt: skip
CRAWL_SUFFIXES = (".warc", ".warc.gz", ".wat", ".wat.gz")


def extract_pairs(*, output: Folder, config: ExtractConfig, crawl: Manifest | None = None) -> Outcome:
    """Read WARC and WAT files on Spark and publish their pairs and documents."""
    units = [
        {"index": index, "name": name, "path": path} for index, (name, path) in enumerate(_crawl_files(config, crawl))
    ]
    work = partial(extract_file, output_url=output.url, config=config)
    with spark_session(config.spark, output.scratch("spark")) as spark:
        results = map_units(spark, units, work, "extract-pairs")
    counts = add_counts(results) | {"files_read": len(units)}
    check_balance(counts, "candidates_found", "pairs_extracted")
    check_balance(counts, "records_read", "pages_read", "skipped/")
    _check_quality(counts, config)
    return Outcome(counts=counts)


def extract_file(unit: dict[str, Any], output_url: str, config: ExtractConfig) -> dict[str, int]:
    """One task: publish the pairs and documents of one crawl file; return its counts."""
    output, part = open_folder(output_url), f"part-{unit['index']:05d}.parquet"
    if output.exists(f"pairs/{part}"):
        return read_counts(output.fetch(f"pairs/{part}"))
    counts: Counter[str] = Counter(candidates_found=0, pairs_extracted=0, records_read=0, pages_read=0)
    pairs: list[dict[str, Any]] = []
    documents: list[dict[str, Any]] = []
    for offset, page in read_pages(fetched(unit["path"]), config, counts):
        place = {"file": unit["name"], "offset": offset}
        pairs += [row | place for row in _pairs_of(page, config, counts)]
        documents += [row | place for row in _document_of(page, unit["name"], offset)]
    counts["pairs_extracted"], counts["documents_extracted"] = len(pairs), len(documents)
    write_table(output, f"documents/{part}", pa.Table.from_pylist(documents, DOCUMENTS))
    write_table(output, f"pairs/{part}", pa.Table.from_pylist(pairs, PAIRS), counts)
    return dict(counts)


def _crawl_files(config: ExtractConfig, crawl: Manifest | None) -> list[tuple[str, str]]:
    """(name for provenance, address to read) of each crawl file, sorted by name."""
    found: dict[str, str] = {}
    for path in config.paths:
        for name, address in _crawl_files_at(path, crawl).items():
            other = found.setdefault(name, address)
            if other != address:
                raise UserError(
                    f"ExtractConfig.paths name two files {name!r}, {other} and {address}; "
                    "name the folder above both, or rename one."
                )
    if not found:
        raise UserError(f"No WARC or WAT file at {', '.join(config.paths)}; they end in {', '.join(CRAWL_SUFFIXES)}.")
    twice = [address for address, times in Counter(found.values()).items() if times > 1]
    if twice:
        raise UserError(f"ExtractConfig.paths name the file {twice[0]} twice; its pairs would count twice.")
    return sorted(found.items())


def _crawl_files_at(path: str, crawl: Manifest | None) -> dict[str, str]:
    if crawl is None:
        return {name: address for name, address in outside_addresses(path).items() if _is_crawl(name)}
    entries = [entry for entry in crawl.files if matches(entry.path, path) and _is_crawl(entry.path)]
    return {entry.path: str(crawl.local(entry)) for entry in entries}


def _is_crawl(name: str) -> bool:
    return name.lower().endswith(CRAWL_SUFFIXES)


def _pairs_of(page: Page, config: ExtractConfig, counts: Counter[str]) -> list[dict[str, Any]]:
    rows = []
    described = {
        "page_url": page.url, "page_title": normalise_caption(page.title)[:500],
        "page_language": page.language, "charset": page.charset,
    }  # fmt: skip
    for found in page.found:
        counts["candidates_found"] += 1
        url, caption = canonical_url(found.url), normalise_caption(found.caption[: config.max_caption_characters])
        reason = _unfit(found, url, caption, config)
        if reason or url is None:
            counts[f"dropped/{reason}"] += 1
            continue
        pair = {"url": url, "caption": caption, "kind": found.kind, "attribute": found.attribute}
        rows.append({"uid": pair_uid(url, caption), "position": found.position} | pair | described)
    return rows


def _unfit(found: Found, url: str | None, caption: str, config: ExtractConfig) -> str | None:
    """Why an image and caption are no pair at all; the quality of pairs is for filter-pairs to judge."""
    if found.url[:5].lower() == "data:":
        return "inline_image"
    if url is None:
        return "bad_url"
    if len(url) > config.max_url_characters:
        return "long_url"
    return None if caption else "no_caption"


def _document_of(page: Page, file: str, offset: int) -> list[dict[str, Any]]:
    """The page as one document when it holds both text and images, else nothing."""
    kinds = {item.kind for item in page.items}
    if kinds != {"text", "image"}:
        return []
    uid = make_uid("document", page.url, file, str(offset))
    return [{"uid": uid, "page_url": page.url, "items": [asdict(item) for item in page.items]}]


def _check_quality(counts: dict[str, int], config: ExtractConfig) -> None:
    records, broken = counts.get("records_read", 0), counts.get("skipped/broken", 0)
    if records == 0:
        raise UserError("The crawl files hold no response and no metadata record; are they WARC or WAT files?")
    if broken > config.max_broken_share * records:
        raise UserError(
            f"{broken} of {records} records are broken, more than max_broken_share {config.max_broken_share}; "
            "check the crawl files or raise it."
        )
