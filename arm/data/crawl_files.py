"""Which crawl files a config names: WARC and WAT files by path, and the lines of listings.

paths=("crawl/*.warc.gz",)                             ->  CrawlFile("a.warc.gz", "crawl/a.warc.gz", 1048576), …
paths=("wat.paths.gz",), listing_base="s3://crawl/"    ->  CrawlFile("crawl-data/x.wat.gz", "s3://crawl/crawl-data/x.wat.gz", 0), …
"""

import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arm.data.config import ExtractConfig
from arm.errors import UserError
from arm.manifest import Manifest
from arm.outside import fetched, matches, outside_addresses
from arm.storage import is_private

CRAWL_SUFFIXES = (".warc", ".warc.gz", ".wat", ".wat.gz")
LISTING_SUFFIXES = (".paths", ".paths.gz")


@dataclass(frozen=True, slots=True)
class CrawlFile:
    """One file to read."""

    name: str
    """For provenance: relative to what the config names, so that it is the same wherever the crawl lies."""
    address: str
    size: int = 0
    """Bytes, where the file lies on this disk."""


def crawl_files(config: ExtractConfig, crawl: Manifest | None) -> list[CrawlFile]:
    """The files to read, sorted by name; UserError when there is none, or one comes twice."""
    found: dict[str, str] = {}
    for path in config.paths:
        for name, address in _files_at(path, config, crawl):
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
    return [CrawlFile(name, address, _size(address)) for name, address in sorted(found.items())]


def _files_at(path: str, config: ExtractConfig, crawl: Manifest | None) -> Iterator[tuple[str, str]]:
    """(name, address) of each crawl file at a path."""
    if crawl is not None:
        found = {entry.path: str(crawl.local(entry)) for entry in crawl.files if matches(entry.path, path)}
    else:
        found = outside_addresses(path)
    for name, address in found.items():
        if name.lower().endswith(CRAWL_SUFFIXES):
            yield name, address
        elif crawl is None and path.lower().endswith(LISTING_SUFFIXES):  # one that only lies beside crawl files is none
            yield from _listed(address, config)


def _listed(listing: str, config: ExtractConfig) -> Iterator[tuple[str, str]]:
    """(line, address) of each line of a listing."""
    if not config.listing_base:
        raise UserError(
            f"{listing} is a listing and ExtractConfig.listing_base is empty; "
            "give what its lines are relative to, such as https://data.commoncrawl.org/."
        )
    for number, line in enumerate(_lines(listing, config), 1):
        unfit = "://" in line or line.startswith("/") or ".." in line.split("/") or is_private(line)
        if unfit or not line.lower().endswith(CRAWL_SUFFIXES):
            raise UserError(
                f"Line {number} of {listing} is {line[:200]!r}, no relative path of a file that ends in "
                f"{', '.join(CRAWL_SUFFIXES)}."
            )
        address = f"{config.listing_base.rstrip('/')}/{line}"
        if "://" not in address and not Path(address).is_file():
            raise UserError(f"There is no file at {address!r}, which {listing} names in line {number}.")
        yield line, address


def _lines(listing: str, config: ExtractConfig) -> list[str]:
    data = fetched(listing, config.politeness).read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{listing} cannot be read as a listing ({error}); it holds one path a line.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _size(address: str) -> int:
    return Path(address).stat().st_size if "://" not in address else 0
