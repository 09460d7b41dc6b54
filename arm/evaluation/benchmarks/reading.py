"""Reads results and data sets in the layouts that their authors publish, from a folder, one file, or s3://.

    .json       one value, or JSON lines in disguise (POPE), or objects with trailing commas (SEED-Bench)
    .jsonl      one object a line
    .tsv .csv   a header, then rows of text
    .parquet    rows

Nothing is ever downloaded: what is not there is a UserError that names the file, where to get it, and its licence.
"""

import csv
import fnmatch
import hashlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from arm.errors import UserError
from arm.storage import Folder, open_folder

Row = dict[str, Any]
MAX_NAMED = 5
"""Files that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a file of a benchmark comes from."""

    what: str
    names: tuple[str, ...]
    """Patterns of its name, the published one first."""
    where: str
    licence: str
    besides: tuple[str, ...] = ()
    """Patterns of names that are another source's, though one of its own fits."""
    is_many: bool = False
    """Whether several files may fit, which are read together."""
    is_part: bool = False
    """Whether the benchmark has more files of its kind, a set or a task each: such a file must carry its own name."""


class Files:
    """The files below a place, found by pattern and read by suffix; remembers what was read, for the protocol."""

    def __init__(self, folder: Folder, names: Sequence[str], *, is_alone: bool = False) -> None:
        self.folder, self.names, self.is_alone = folder, list(names), is_alone
        self.is_given = False  # whether somebody named this place for the data set: see open_given
        self.digests: dict[str, str] = {}

    def place(self, name: str) -> str:
        """A file's address, for errors."""
        return f"{self.folder.url}/{name}"

    @property
    def versions(self) -> dict[str, str]:
        """{"coco_pope_random.json": "1f0a9c11b2de"}: each file that was read, with the first digits of its sha256."""
        return {name: digest[:12] for name, digest in sorted(self.digests.items())}

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """The names that match a pattern in their last part, those of earlier patterns first."""
        found = [name for pattern in patterns for name in self.names if _fits(name, pattern)]
        return list(dict.fromkeys(found))

    def find(self, source: Source) -> str:
        """The file of a source; a UserError says where to get it, or which files one pattern fits."""
        if self.is_given and self.is_alone and not source.is_part:
            return self.names[0]
        pattern, found = self._first_fit(source)
        if not found:
            raise UserError(
                f"{self.folder.url} holds no {source.names[0]} ({source.what}); "
                f"get it from {source.where} ({source.licence})."
            )
        if len(found) > 1 and not source.is_many:
            more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
            raise UserError(
                f"{self.folder.url} holds {len(found)} files that fit {pattern} ({source.what}): "
                f"{', '.join(found[:MAX_NAMED])}{more}; leave one of them there."
            )
        return found[0]

    def look(self, source: Source) -> str | None:
        """The same of a file that may be left out: None without it, unless somebody named this place for it."""
        if self._first_fit(source)[1] or (self.is_given and not source.is_part):
            return self.find(source)
        return None

    def _first_fit(self, source: Source) -> tuple[str, list[str]]:
        """The first pattern that fits some file, with the files."""
        others = self.matching(source.besides)
        for pattern in source.names:
            if found := [name for name in self.matching([pattern]) if name not in others]:
                return pattern, found
        return "", []

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        try:
            data = self.folder.read(name)
        except FileNotFoundError:
            raise UserError(f"{self.folder.url} holds no {name}.") from None
        self.digests[name] = hashlib.sha256(data).hexdigest()
        return data

    def text(self, name: str) -> str:
        """A file's text."""
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.folder.url}/{name} is not UTF-8 text ({error}).") from None

    def json(self, name: str) -> Any:
        """A JSON file's value."""
        try:
            return json.loads(self.text(name))
        except json.JSONDecodeError as error:
            raise UserError(f"{self.folder.url}/{name} is not JSON ({error}).") from None

    def rows(self, name: str) -> list[Row]:
        """A table's rows."""
        for suffixes, reader in READERS:
            if name.lower().endswith(suffixes):
                rows = reader(self, name)
                break
        else:
            raise UserError(f"{name} has no table's suffix; give .json, .jsonl, .tsv, .csv or .parquet.")
        if not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{self.folder.url}/{name} does not hold objects, one a row.")
        return rows


def open_files(place: str) -> Files:
    """Open a folder, or one file of it."""
    folder = open_folder(place)
    if names := folder.list():
        return Files(folder, names)
    above, _, name = place.rstrip("/").rpartition("/")
    parent = open_folder(above or ("/" if place.startswith("/") else "."))
    if name and parent.exists(name):
        return Files(parent, [name], is_alone=True)
    raise UserError(f"There is no file below {place}; give a folder of results, or one file.")


def open_given(place: str) -> Files:
    """Open the data that somebody named: what a benchmark reads must be there, and one file is it whatever its name."""
    files = open_files(place)
    files.is_given = True
    return files


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatch(name.rpartition("/")[2].lower(), pattern.lower())


def only(rows: Sequence[Row], key: str, name: str) -> dict[str, Row]:
    """Rows by their id, as text; one that comes twice or lacks it is a UserError."""
    found: dict[str, Row] = {}
    for number, row in enumerate(rows):
        if row.get(key) is None:
            raise UserError(f"{row_of(number, name)} has no {key!r}; it has {', '.join(map(repr, row))}.")
        if (uid := str(row[key])) in found:
            raise UserError(f"{name} holds {key} {uid!r} twice; leave one of them.")
        found[uid] = row
    return found


def need(row: Row, keys: Sequence[str], name: str) -> None:
    """A UserError where a row lacks a field."""
    if missing := [key for key in keys if key not in row]:
        raise UserError(f"{name} has no {', '.join(map(repr, missing))}; it has {', '.join(map(repr, row))}.")


def check_filled(rows: Sequence[Row], keys: Sequence[str], name: str) -> None:
    """A UserError names the first row that lacks a field, or has nothing in it: what a run needs, before it is run."""
    for number, row in enumerate(rows):
        need(row, keys, row_of(number, name))
        if empty := [key for key in keys if row[key] in (None, "", [])]:
            raise UserError(f"{row_of(number, name)} has nothing in {empty[0]!r}: {row[empty[0]]!r}.")


def row_of(number: int, name: str) -> str:
    """How an error calls a row, counted from 1 behind the header."""
    return f"Row {number + 1} of {name}"


def whole_number(row: Row, key: str, where: str) -> int:
    """A field as a whole number; a UserError shows what stands there."""
    try:
        return int(row[key])
    except (ValueError, TypeError):
        raise UserError(f"{where} has {row[key]!r} in {key!r}, where a whole number must be.") from None


def _json_rows(files: Files, name: str) -> list[Row]:
    text = files.text(name)
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return _json_lines(text, f"{files.folder.url}/{name}")
    return value if isinstance(value, list) else [value]


def _json_lines(text: str, where: str) -> list[Row]:
    """One value a line; blank lines, a line `[` or `]` and commas at the ends of lines are passed over."""
    rows = []
    for number, line in enumerate(text.split("\n")):
        stripped = line.strip().rstrip(",")
        if stripped in ("", "[", "]"):
            continue
        try:
            rows.append(json.loads(stripped))
        except json.JSONDecodeError as error:
            raise UserError(f"Line {number + 1} of {where} is not JSON ({error}).") from None
    return rows


def _delimited(files: Files, name: str) -> list[Row]:
    """A row that is shorter or longer than the header is a UserError. Cells may hold images as base64."""
    csv.field_size_limit(sys.maxsize)
    delimiter = "\t" if name.lower().endswith(".tsv") else ","
    reader = csv.DictReader(io.StringIO(files.text(name), newline=""), delimiter=delimiter)
    rows: list[Row] = []
    for row in reader:
        if None in row or None in row.values():
            raise UserError(f"Line {reader.line_num} of {files.folder.url}/{name} has not as many cells as the header.")
        rows.append(row)
    return rows


def _parquet(files: Files, name: str) -> list[Row]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        return list(pyarrow.parquet.read_table(io.BytesIO(files.read(name))).to_pylist())
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{files.folder.url}/{name} is not Parquet ({error}).") from None


READERS: tuple[tuple[tuple[str, ...], Callable[[Files, str], list[Row]]], ...] = (
    ((".json", ".jsonl", ".json.txt"), _json_rows),
    ((".tsv", ".csv"), _delimited),
    ((".parquet",), _parquet),
)
"""Suffixes -> how such a file is read."""
