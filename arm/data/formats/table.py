"""Rows of tables: Parquet, Arrow and CSV files, so also Hugging Face data sets on disk.

    data/train-00000-of-00012.parquet          as on the Hub; images are {bytes, path}
    state.json  data-00000-of-00002.arrow      `save_to_disk`; state.json says which files, in which order
    dataset_dict.json  train/state.json  ...   a DatasetDict: one split is imported at a time, so its folder is the path
    OpenVid-1M.csv                             names of files beside it

`datasets` is not needed: an .arrow file is an Arrow stream.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.config import ImportSource
from arm.data.formats.files import Files
from arm.data.formats.jsonl import opened
from arm.data.formats.rows import Dropped, Row, Rows
from arm.errors import IntegrityError, UserError

SUFFIXES = (".parquet", ".arrow", ".csv", ".tsv")
SPLIT = re.compile(r"(?:^|/)(train|training|test|testing|validation|valid|val|dev|eval)(?:[-_.][^/]*)?(?:/|\.\w+$)")
"""What Hugging Face takes for the name of a split in a file's name."""
BATCH_ROWS = 64
"""Rows in memory at a time; a row holds whole images."""
MAX_CELL_CHARACTERS = 1 << 24


def list_tables(files: Files, source: ImportSource) -> list[str]:
    """The files that hold rows, in the order of `state.json` where there is one; UserError when they are of several splits."""
    found = [name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES]
    states = [name for name in files if PurePosixPath(name).name == "state.json"]
    if states and any(name.endswith(".arrow") for name in found):  # caches of `map` may lie beside the data
        found = [name for state in states for name in _named_by(state, files)]
    splits = sorted({match[1] for name in found if (match := SPLIT.search(name))})
    if len(splits) > 1:
        raise UserError(
            f"{source.path} holds the splits {', '.join(splits)}; name one, so that nothing held out is trained on: "
            f"{_path_of(splits[-1], found, source)!r}, say."
        )
    return found


def read_table(name: str, files: Files, source: ImportSource, start: int) -> Rows:
    """The rows of one file from row `start` on, a few in memory at a time."""
    path, suffix = files[name], PurePosixPath(name).suffix.lower()
    if suffix in (".csv", ".tsv"):
        yield from _csv_rows(path, name, "," if suffix == ".csv" else "\t", start)
        return
    kind = "Parquet" if suffix == ".parquet" else "Arrow"
    try:
        batches = _parquet_batches(path, start) if kind == "Parquet" else _arrow_batches(path, start)
        for batch in batches:
            for values in batch.to_pylist():
                yield Row("", values, name)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise IntegrityError(f"{path} is no {kind} file, or damaged ({reason}); fetch it again.") from None


def _named_by(state: str, files: Files) -> list[str]:
    """The files that a `state.json` names; UserError when they are missing or selected in part."""
    try:
        values = json.loads(files[state].read_bytes())
        names = [str(PurePosixPath(state).parent / str(item["filename"])) for item in values["_data_files"]]
        indices = values.get("_indices_data_files")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise IntegrityError(f"{files[state]} is no state of a saved data set, or damaged; save it again.") from None
    missing = [name for name in names if name not in files]
    if missing:
        raise IntegrityError(f"{files[state].parent} lacks {', '.join(missing[:3])}, which state.json names.")
    if indices:
        raise UserError(
            f"{files[state].parent} was saved with a selection of rows; call flatten_indices() and save anew."
        )
    return names


def _path_of(split: str, names: list[str], source: ImportSource) -> str:
    """A path that holds one split alone."""
    first = next(name for name in names if (match := SPLIT.search(name)) and match[1] == split)
    folder, _, file = first.rpartition("/")
    inside = f"{folder}/" if folder else ""
    pattern = folder if folder.split("/")[-1] == split else f"{inside}{split}*{PurePosixPath(file).suffix}"
    return f"{source.path.rstrip('/')}/{pattern}"


def _parquet_batches(path: Path, start: int) -> Iterator[Any]:
    """Batches from row `start` on; row groups before it are not read."""
    # without pre_buffer a row group is read page by page: those of OmniEdit hold gigabytes
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as table:
        groups = list(range(table.num_row_groups))
        while groups and table.metadata.row_group(groups[0]).num_rows <= start:
            start -= table.metadata.row_group(groups.pop(0)).num_rows
        yield from _after(table.iter_batches(batch_size=BATCH_ROWS, row_groups=groups), start)


def _arrow_batches(path: Path, start: int) -> Iterator[Any]:
    """Batches of an Arrow stream, which `save_to_disk` writes, or of an Arrow file; mapped, so skipping reads nothing."""
    with pa.memory_map(str(path)) as mapped:
        if mapped.read(6) == b"ARROW1":
            table = pa.ipc.open_file(mapped)
            batches: Iterator[Any] = (table.get_batch(index) for index in range(table.num_record_batches))
        else:
            mapped.seek(0)
            batches = iter(pa.ipc.open_stream(mapped))
        for batch in _after(batches, start):
            batch.validate(full=True)  # offsets of a hostile file may point anywhere
            yield from (batch.slice(at, BATCH_ROWS) for at in range(0, batch.num_rows, BATCH_ROWS))


def _after(batches: Iterator[Any], start: int) -> Iterator[Any]:
    for batch in batches:
        if batch.num_rows > start:
            yield batch.slice(start)
        start = max(0, start - batch.num_rows)


def _csv_rows(path: Path, name: str, delimiter: str, start: int) -> Rows:
    """A header, then a row a line; a row with more or fewer cells than the header is `bad_record`."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    with opened(path) as binary:
        lines = iter(lambda: binary.readline(MAX_CELL_CHARACTERS), b"")
        reader = csv.reader((line.decode("utf-8-sig") for line in lines), delimiter=delimiter)
        header: list[str] | None = None
        try:
            for cells in reader:
                if header is None:
                    header = cells
                elif start:
                    start -= 1
                elif len(cells) != len(header):
                    yield Dropped("bad_record")
                else:
                    yield Row("", dict(zip(header, cells, strict=True)), name)
        except (csv.Error, UnicodeDecodeError) as error:
            raise IntegrityError(f"{path} is no CSV file in UTF-8 ({error}); write it anew.") from None
