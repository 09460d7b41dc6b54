"""The rows of an artifact's files as what a takedown asks of them: uid, addresses, checksums, tokens.

    pairs/part-00000.parquet   uid, url, page_url                    every column of a table whose name speaks of a url
    shards/crawl-00000.tar     uid, meta, the images' bytes          every address and checksum in `meta`, whatever its name
    shards/default/a.arrow     uid, meta, lengths of the sidecar

Everything in the files is hostile: it is compared and never followed.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.shards import read_shard
from arm.errors import IntegrityError
from arm.manifest import FileEntry, Manifest
from arm.records import Image

BATCH_ROWS = 10_000
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_CHECKSUM = re.compile(r"[0-9a-fA-F]{64}")
_UID = re.compile(r"[0-9a-f]{32}")
COLUMNS = re.compile(r"uid|items|meta|sha256|(?:.*_)?urls?")
"""Columns of a table that are read."""


@dataclass(frozen=True, slots=True)
class Found:
    """One row."""

    uid: str
    addresses: tuple[str, ...] = ()
    checksums: tuple[str, ...] = ()
    tokens: int = 0


def rows_of(manifest: Manifest, entry: FileEntry) -> Iterator[Found]:
    """The rows of one file in order; of a table without uids nothing."""
    path = manifest.local(entry)
    if entry.path.endswith(".tar"):
        yield from _samples(path)
    elif entry.path.endswith(".arrow"):
        yield from _tokens(path, manifest, entry)
    else:
        yield from _table_rows(path)
    manifest.folder.release(entry.path)


def words_in(values: Any) -> Iterator[str]:
    """Every text in plain values, however deep.

    {"url": "http://a.test/1.png", "frames": [{"sha256": "9f86…"}]}  ->  "http://a.test/1.png", "9f86…"
    """
    waiting = [values]  # no recursion: the values are hostile
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list | tuple):
            waiting += reversed(value)


def _found(uid: str, values: Any, checksums: tuple[str, ...] = (), tokens: int = 0) -> Found:
    words = list(words_in(values))
    addresses = tuple(word for word in words if _ADDRESS.match(word))
    noted = tuple(word.lower() for word in words if _CHECKSUM.fullmatch(word))
    return Found(uid, addresses, (*noted, *checksums), tokens)


def _samples(path: Path) -> Iterator[Found]:
    for sample in read_shard(path):
        stored = (hashlib.sha256(part.data).hexdigest() for part in sample.parts if isinstance(part, Image))
        yield _found(sample.uid, sample.meta, tuple(stored))


def _tokens(path: Path, manifest: Manifest, entry: FileEntry) -> Iterator[Found]:
    sidecar = f"lengths/{entry.path.removeprefix('shards/').removesuffix('.arrow')}.parquet"
    try:
        counts = token_counts(manifest.local(sidecar))
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            rows = (row for batch in batches for row in batch.select(["uid", "meta"]).to_pylist())
            for row, tokens in zip(rows, counts, strict=True):
                yield _found(row["uid"].hex(), _parsed(row["meta"]), tokens=tokens)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise IntegrityError(f"{manifest.folder.url}/{entry.path} is no token shard, or damaged ({error}).") from None


def token_counts(sidecar: Path) -> list[int]:
    """The tokens of every sample of a token shard: of its texts, each by its first variant, and its images."""
    if (
        "parts" not in pq.read_schema(sidecar).names
    ):  # before format 3: read by nobody any more, and searched all the same
        return [0] * pq.read_metadata(sidecar).num_rows
    parts = pq.read_table(sidecar, columns=["parts"])["parts"].combine_chunks()
    parts = parts.chunk(0) if isinstance(parts, pa.ChunkedArray) else parts
    lengths = parts.values.field("lengths")
    firsts = np.asarray(lengths.values)[np.asarray(lengths.offsets)[:-1]]
    totals = np.concatenate([[0], np.cumsum(firsts, dtype=np.int64)])
    offsets = np.asarray(parts.offsets)
    counts: list[int] = (totals[offsets[1:]] - totals[offsets[:-1]]).tolist()
    return counts


def _table_rows(path: Path) -> Iterator[Found]:
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if COLUMNS.fullmatch(name)]
            if "uid" not in names:
                return
            for batch in file.iter_batches(BATCH_ROWS, columns=names):
                for row in batch.to_pylist():
                    uid = row.pop("uid")
                    word = uid.hex() if isinstance(uid, bytes) else str(uid)
                    if _UID.fullmatch(word):
                        yield _found(word, {name: _parsed(v) if name == "meta" else v for name, v in row.items()})
    except pa.ArrowException as error:
        raise IntegrityError(f"{path} is damaged ({error}).") from None


def _parsed(text: Any) -> Any:
    """The values of a JSON text; what is none stays as it is."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text
