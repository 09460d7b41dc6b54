"""The formats by name. To add one: write how its files are listed and read, add a line to FORMATS and a name to ImportFormat."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from arm.data.config import ImportSource
from arm.data.formats.files import Files
from arm.data.formats.jsonl import list_json, read_json
from arm.data.formats.members import list_pictures, list_tars, read_folder, read_webdataset
from arm.data.formats.rows import Dropped, Row, Unfit
from arm.data.formats.shapes import Film, shape
from arm.data.formats.table import list_tables, read_table
from arm.data.shards import read_shard
from arm.errors import IntegrityError, UserError
from arm.records import Sample

Item = Sample | Film | Dropped
Listing = Callable[[Files, ImportSource], list[str]]
Reading = Callable[[str, Files, ImportSource, int], Iterator[Sample | Row | Dropped]]


@dataclass(frozen=True, slots=True)
class Format:
    """How a data set is stored."""

    files: Listing
    """The files that hold rows, in order."""
    read: Reading
    """The rows of one file from a row on."""
    looks_like: str
    """For the sentence when there are no such files."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a source: so many rows of that file are behind it."""

    file: int
    row: int


def read_own(name: str, files: Files, source: ImportSource, start: int) -> Iterator[Sample]:
    """Our own samples; uid, task, source, licence and meta stay."""
    yield from islice(read_shard(_not_empty(name, files)), start, None)


def read_tar(name: str, files: Files, source: ImportSource, start: int) -> Iterator[Row | Dropped]:
    """The rows of a WebDataset."""
    _not_empty(name, files)
    yield from read_webdataset(name, files, source, start)


FORMATS: Mapping[str, Format] = {
    "samples": Format(list_tars, read_own, "a .tar"),
    "webdataset": Format(list_tars, read_tar, "a .tar"),
    "json": Format(list_json, read_json, "a .jsonl or .json, plain, .gz or .zst"),
    "table": Format(list_tables, read_table, "a .parquet, .arrow, .csv or .tsv"),
    "folder": Format(list_pictures, read_folder, "an image (for the task interleaved_video a video)"),
}


def read_items(files: Files, source: ImportSource, start: Position) -> Iterator[tuple[Position, Item]]:
    """What the rows of a source become, from a position on, each with the position after it."""
    form = FORMATS[source.format]
    names = form.files(files, source)
    if not names:
        raise UserError(
            f"{source.path} has nothing in the format {source.format!r}, which is {form.looks_like}: "
            f"it holds {', '.join(list(files)[:3])}{', …' if len(files) > 3 else ''}."
        )
    for number in range(start.file, len(names)):
        first = start.row if number == start.file else 0
        for row, item in enumerate(form.read(names[number], files, source, first), first + 1):
            yield Position(number, row), _made(item, files, source)


def _made(item: Sample | Row | Dropped, files: Files, source: ImportSource) -> Item:
    if not isinstance(item, Row):
        return item
    try:
        return shape(item, files, source)
    except Unfit as error:
        return Dropped(error.reason, tuple(str(name)[:40] for name in item.values)[:20])


def _not_empty(name: str, files: Files) -> Path:
    path = files[name]
    if path.stat().st_size == 0:
        raise IntegrityError(f"{path} is empty (0 bytes); fetch it again.")
    return path
