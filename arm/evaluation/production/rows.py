"""Rows of a benchmark's data file: JSON, JSONL, TSV, Parquet, or a folder of .txt prompts.

{"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a snowboard in the image?"}
"""

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from arm.errors import UserError
from arm.outside import outside_files

Row = dict[str, Any]
TEXT = "utf-8-sig"
"""UTF-8, without the mark that some programs write in front and that would be part of the first field's name."""


def read_rows(path: str) -> list[Row]:
    """All rows of a file (or of a folder of .txt files, s3:// too), in its order; UserError when it is none."""
    files = outside_files(path)
    texts = {name: file for name, file in files.items() if name.endswith(".txt")}
    if len(files) > 1 and texts:
        ordered = sorted(texts.items(), key=lambda item: (len(item[0]), item[0]))
        return [{"item_id": Path(name).stem, "prompt": file.read_text(TEXT).strip()} for name, file in ordered]
    if len(files) != 1:
        raise UserError(f"{path} holds {len(files)} files; give one data file, or a folder of .txt prompts.")
    (file,) = files.values()
    if file.suffix.lower() not in READERS:
        raise UserError(f"{path} ends in {file.suffix!r}; known: {', '.join(READERS)} and folders of .txt.")
    try:
        rows = READERS[file.suffix.lower()](file)
    except (ValueError, OSError, csv.Error, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} holds no rows of named fields.")
    return rows


def _json(file: Path) -> list[Row]:
    """A list of rows, an object of rows whose names become `key`, a list under `questions` (SEED-Bench, VQAv2), or, as
    POPE has it, a row a line."""
    try:
        values = json.loads(file.read_bytes())
    except ValueError:
        return _jsonl(file)
    if isinstance(values, dict) and isinstance(values.get("questions"), list):
        values = values["questions"]
    if not isinstance(values, dict):
        return list(values)
    if all(isinstance(row, dict) for row in values.values()):
        return [{"key": key, **row} for key, row in values.items()]
    return [values]


def _jsonl(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text(TEXT).split("\n") if line.strip()]


def _tsv(file: Path) -> list[Row]:
    csv.field_size_limit(min(sys.maxsize, 1 << 30))  # MMBench holds its images in the table
    with file.open(newline="", encoding=TEXT) as stream:
        return [dict(row) for row in csv.DictReader(stream, delimiter="\t")]


def _parquet(file: Path) -> list[Row]:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    rows: list[Row] = pq.read_table(file).to_pylist()
    return rows


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _jsonl, ".json": _json, ".tsv": _tsv, ".parquet": _parquet,
}  # fmt: skip
"""Ending -> reader."""


def first_of(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first field that the row has and that is not empty, or None."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def digest_of(values: Any) -> str:
    """A digest of plain JSON values."""
    return hashlib.sha256(
        json.dumps(values, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    ).hexdigest()
