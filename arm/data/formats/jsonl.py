"""Rows of JSON: one object a line (.jsonl, .ndjson), or a list of objects (.json); plain, .gz or .zst.

A list is read object by object: LLaVA's lists have a gigabyte, and a row may only cost itself. What is no object is
`bad_record`; a file that is no JSON at all, or ends in the middle, is named.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.config import ImportSource
from arm.data.formats.files import Files
from arm.data.formats.rows import Dropped, Row, Rows
from arm.errors import IntegrityError, UserError

LINES = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst")
MAX_LINE_BYTES = 1 << 26
CHUNK_CHARACTERS = 1 << 20
SPACE = re.compile(r"[ \t\r\n]*")


def list_json(files: Files, source: ImportSource) -> list[str]:
    """The files that hold rows."""
    return [name for name in files if kind_of(name) in (*LINES, ".json")]


def read_json(name: str, files: Files, source: ImportSource, start: int) -> Rows:
    """The rows of one file from row `start` on."""
    path = files[name]
    try:
        with opened(path) as stream:
            items = _lines(stream, start) if kind_of(name) in LINES else _listed(stream, path, start)
            for item in items:
                yield Row("", item, name) if isinstance(item, Mapping) else Dropped("bad_record")
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise IntegrityError(f"{path} cannot be unpacked or read ({error}); fetch it again.") from None


def kind_of(name: str) -> str:
    """`a/b.jsonl.gz` -> `.jsonl`."""
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in PACKED else path.suffix


def opened(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked on the way."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def _lines(stream: IO[bytes], start: int) -> Iterator[Any]:
    """One value a line; None for a line that is no JSON. A line beyond the limit is one bad row, not several."""
    while line := stream.readline(MAX_LINE_BYTES):
        too_long = len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")
        while too_long and (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        if not line.strip():
            continue
        if start:
            start -= 1
            continue
        yield None if too_long else _value(line)


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _listed(stream: IO[bytes], path: Path, start: int) -> Iterator[Any]:
    """The items of one JSON list, one at a time."""
    text = _Text(io.TextIOWrapper(stream, "utf-8-sig"), path)
    if text.take() != "[":
        raise UserError(f"{path} holds no JSON list of objects; give one, or one object a line in a .jsonl.")
    mark = "," if text.peek() != "]" else text.take()
    while mark != "]":
        item = text.value()
        if start:
            start -= 1
        else:
            yield item
        mark = text.take()
        if mark not in (",", "]"):
            raise text.damaged(f"{mark!r} where a comma must stand")


class _Text:
    """A window over a text from which JSON values are taken."""

    def __init__(self, stream: IO[str], path: Path) -> None:
        self.stream, self.path, self.window, self.place, self.ended = stream, path, "", 0, False
        self.decoder = json.JSONDecoder()

    def damaged(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self.path} is no JSON, or damaged ({what}); fetch it again.")

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            match = SPACE.match(self.window, self.place)
            assert match is not None
            self.place = match.end()
            if self.place < len(self.window):
                return self.window[self.place]
            if self.ended:
                raise self.damaged("it ends too early")
            self._grow()

    def take(self) -> str:
        found = self.peek()
        self.place += 1
        return found

    def value(self) -> Any:
        """The next JSON value; the window grows until it fits."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.window, self.place)
                if end < len(self.window) or self.ended:  # else a number may go on
                    self.place = end
                    return value
            except RecursionError:
                raise self.damaged("it is nested too deeply") from None
            except ValueError as error:
                if self.ended or len(self.window) - self.place > MAX_LINE_BYTES:
                    raise self.damaged(str(error)) from None
            self._grow()

    def _grow(self) -> None:
        """Read as much again as there is, so that a long value costs its length, not the square of it."""
        rest = self.window[self.place :]
        try:
            more = self.stream.read(max(CHUNK_CHARACTERS, len(rest)))
        except UnicodeDecodeError as error:
            raise self.damaged(str(error)) from None
        self.window, self.place, self.ended = rest + more, 0, not more
