"""Rows: what every format reads, and how a value is found in one.

    Row("x/1", {"jpg": Blob, "txt": Blob, "json": Blob})        of a WebDataset
    Row("q.jsonl:7", {"image": "a/1.png", "conversations": [...]})

A value is plain, bytes, or a Blob: bytes that lie in a file and are read when they are wanted, so that a row that is only
counted costs nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm.data.tar import MAX_MEMBER_BYTES
from arm.errors import IntegrityError

IMAGES = ("png", "jpg", "jpeg", "webp")
"""Extensions of images."""
MAX_TEXT_BYTES = 1 << 24
"""A longer text is not read: 16 MiB, ours."""


class Unfit(Exception):
    """A row that cannot become a sample; `reason` is what it is counted under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that could not be read, and what it has: where a source is declared wrongly, that tells why."""

    reason: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of a file, or of a member of a tar."""

    path: Path
    offset: int
    length: int

    def read(self, limit: int = MAX_MEMBER_BYTES) -> bytes:
        """The bytes; Unfit when there are more than `limit`."""
        if self.length > limit:
            raise Unfit("large_file")
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.length)
        except OSError as error:
            raise IntegrityError(f"{self.path} cannot be read ({error.strerror}).") from None
        if len(data) != self.length:
            raise IntegrityError(f"{self.path} became shorter while it was read; fetch it again.")
        return data


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a data set."""

    key: str
    """What it is called: a WebDataset's key, or empty where the format names no rows."""
    values: Mapping[str, Any]
    """Column, field or extension -> value."""
    file: str
    """The file that it was read from, which the names in it are relative to."""


Rows = Iterator[Row | Dropped]


def find(values: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    """The first column that is there and not null, with its value; `json.caption` looks inside `json`.

    ("", None) when there is none.
    """
    for name in names:
        value = values.get(name)
        outer, _, inner = name.partition(".")
        inside = values.get(outer)
        if value is None and inner and isinstance(inside, Mapping):
            value = find(inside, (inner,))[1]
        if value is not None:
            return name, value
    return "", None


def text_of(value: Any) -> str:
    """A text value without the space around it; Unfit when it is none."""
    if isinstance(value, Blob):
        value = value.read(MAX_TEXT_BYTES)
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise Unfit("bad_text") from None
    if not isinstance(value, str):
        raise Unfit("bad_record")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may hold and no file can
        raise Unfit("bad_text") from None
    return value.strip()


def json_of(value: Any) -> Any:
    """What a text of JSON holds; Unfit when it is none."""
    try:
        return json.loads(text_of(value))
    except (ValueError, RecursionError):
        raise Unfit("bad_record") from None
