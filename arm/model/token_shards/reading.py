"""Token shards, read: whole ones by memory map, single record batches by range. Nothing in a file is trusted.

A local shard is opened once: its checksum (the manifest's), its structure and its codes are checked then, which reads
the file once. After that a sample costs a few lookups: every text and grid is known by its place in the file.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest
from arm.model.token_shards.columns import columns_of, joined
from arm.model.token_shards.format import BatchEntry, ShardFiles, check_identity, read_index, schema
from arm.model.token_shards.sidecar import ShardLengths, check_agreement, open_lengths


class Part(NamedTuple):
    """One part of a tokenised sample: an image when it has codes, else a text. (A tuple: made in half the time.)"""

    text: str = ""
    is_answer: bool = False
    codes: npt.NDArray[np.uint16] | None = None
    height: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard(ShardLengths):
    """An open shard with its lengths. Texts and codes are read where they lie (memory map)."""

    places: npt.NDArray[np.int64]
    """Where each part's text (in bytes) or codes (in codes) start in the file."""
    ends: npt.NDArray[np.int64]
    variant_places: npt.NDArray[np.int64]
    variant_ends: npt.NDArray[np.int64]
    """Where the further texts lie."""
    data: pa.Buffer
    """The file, memory-mapped."""
    _parts: Callable[[int], list[Part]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parts", _parts_reader(self))

    def parts(self, row: int, variant: int = 0) -> list[Part]:
        """The parts of one sample; with a variant, each text that has further ones is exchanged for text number
        `variant` modulo their count, its own being number 0."""
        parts = self._parts(row)
        return [self._exchanged(part, row, n, variant) for n, part in enumerate(parts)] if variant else parts

    def _exchanged(self, part: Part, row: int, number: int, variant: int) -> Part:
        first, end = self.variant_starts[self.starts[row] + number : self.starts[row] + number + 2].tolist()
        chosen = variant % (end - first + 1)
        if chosen == 0:
            return part
        text = slice(int(self.variant_places[first + chosen - 1]), int(self.variant_ends[first + chosen - 1]))
        return part._replace(text=str(memoryview(self.data)[text], "utf-8"))


def _parts_reader(shard: Shard) -> Callable[[int], list[Part]]:
    """Row -> parts. Memory views give Python's numbers at a third of the cost of NumPy's, and `tuple.__new__` makes a
    Part in half the time: this is what every token of training passes through."""
    starts, is_text, is_answer = _view(shard.starts), _view(shard.is_text), _view(shard.is_answer)
    places, ends = _view(shard.places), _view(shard.ends)
    heights, widths = _view(shard.heights), _view(shard.widths)
    texts, make = memoryview(shard.data), tuple.__new__
    codes = np.frombuffer(shard.data, np.uint16, count=shard.data.size // 2)

    def parts(row: int) -> list[Part]:
        return [
            Part(str(texts[places[index] : ends[index]], "utf-8"), is_answer[index])
            if is_text[index]
            else make(Part, ("", False, codes[places[index] : ends[index]], heights[index], widths[index]))
            for index in range(starts[row], starts[row + 1])
        ]

    return parts


def _view(array: npt.NDArray[Any]) -> Any:
    return memoryview(np.ascontiguousarray(array))  # type: ignore[arg-type]


def shard_files(tokens: Manifest, variant: str | None = None) -> list[ShardFiles]:
    """The shards of a resolution variant in order of their names; None is the only one."""
    paths = [PurePosixPath(entry.path) for entry in tokens.select("shards/", ".arrow")]
    if not paths:
        raise UserError(f"{tokens.url} ({tokens.kind}) holds no token shards.")
    if any(len(path.parts) != 3 for path in paths):
        raise UserError(
            f"{tokens.url} holds token shards of format 1, which are read no more; run tokenize-images again."
        )
    names = sorted({path.parts[1] for path in paths})
    if variant is None and len(names) > 1:
        raise UserError(f"{tokens.url} holds the variants {', '.join(names)}; name the one to read.")
    if variant is not None and variant not in names:
        raise UserError(f"{tokens.url} holds no variant {variant!r}; it holds {', '.join(names)}.")
    chosen = names[0] if variant is None else variant
    return [ShardFiles(chosen, path.stem) for path in paths if path.parts[1] == chosen]


def open_shards(
    tokens: Manifest, *, tokenizer_fingerprint: str, num_codes: int, variant: str | None = None
) -> list[Shard]:
    """Open every shard of a token-shards artifact in name order; another visual tokenizer's codes are refused, and
    lengths that two text tokenizers counted."""
    shards = []
    for files in shard_files(tokens, variant):
        opened = _Opened(tokens, files, tokenizer_fingerprint, num_codes)
        shards.append(opened.shard())
        if shards[-1].text_fingerprint != shards[0].text_fingerprint:
            raise UserError(f"{opened.where}: its lengths are of another text tokenizer than the other shards'.")
    return shards


def open_shard(tokens: Manifest, files: ShardFiles, *, tokenizer_fingerprint: str, num_codes: int) -> Shard:
    """Open one shard; another visual tokenizer's codes are refused."""
    return _Opened(tokens, files, tokenizer_fingerprint, num_codes).shard()


def check_tokenizer(tokens: Manifest, files: ShardFiles, *, tokenizer_fingerprint: str, num_codes: int) -> None:
    """Refuse codes of another visual tokenizer, and another format, by the index of a shard: before any is opened."""
    data, where = tokens.local(files.index).read_bytes(), f"{tokens.folder.url}/{files.index}"
    tokens.folder.release(files.index)
    read_index(data, where, tokenizer_fingerprint=tokenizer_fingerprint, num_codes=num_codes)


def read_batch(
    tokens: Manifest, files: ShardFiles, number: int, *, tokenizer_fingerprint: str, num_codes: int
) -> pa.RecordBatch:
    """One record batch, read by range and checked against the index; IntegrityError names a damaged one."""
    where = f"{tokens.folder.url}/{files.index}"
    index = tokens.local(files.index).read_bytes()
    entries = read_index(index, where, tokenizer_fingerprint=tokenizer_fingerprint, num_codes=num_codes)
    if not 0 <= number < len(entries):
        raise UserError(f"{where} lists {len(entries)} record batches, no number {number}.")
    return _decoded(tokens, files, number, entries[number], num_codes)


def _decoded(tokens: Manifest, files: ShardFiles, number: int, entry: BatchEntry, num_codes: int) -> pa.RecordBatch:
    where = f"Record batch {number} of {tokens.folder.url}/{files.shard}"
    known = sum(item.bytes for item in tokens.select(files.shard) if item.path == files.shard)
    if entry.offset + entry.length > known:
        raise IntegrityError(f"{where} ends after the file, which has {known} bytes; tokenize again.")
    data = tokens.folder.read_range(files.shard, entry.offset, entry.length)
    if len(data) != entry.length:
        raise IntegrityError(f"{where} is truncated: {len(data)} bytes, expected {entry.length}.")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise IntegrityError(f"{where} is altered: its sha256 differs from the index's {entry.sha256[:12]}….")
    layout = schema(tokenizer_fingerprint="", num_codes=num_codes)
    buffer = pa.py_buffer(data)
    try:
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(buffer), layout)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{where} is no record batch ({error}).") from None
    columns_of(batch, buffer, num_codes, where)
    if len(batch) != entry.rows:
        raise IntegrityError(f"{where} has {len(batch)} rows, the index {entry.rows}.")
    return batch


class _Opened:
    """A local shard while it is opened and checked."""

    def __init__(self, tokens: Manifest, files: ShardFiles, fingerprint: str, num_codes: int) -> None:
        self.tokens, self.files, self.num_codes = tokens, files, num_codes
        self.where = f"{tokens.folder.url}/{files.shard}"
        self.layout = schema(tokenizer_fingerprint=fingerprint, num_codes=num_codes)
        self.fingerprint = fingerprint

    def shard(self) -> Shard:
        """The shard with its sidecar."""
        data = _mapped(self.tokens.local(self.files.shard))
        columns = joined([columns_of(batch, data, self.num_codes, self.where) for batch in self._batches(data)])
        lengths = open_lengths(self.tokens, self.files)
        check_agreement(lengths, columns, self.where)
        return Shard(
            **{column.name: getattr(lengths, column.name) for column in fields(ShardLengths)},
            places=columns.places,
            ends=columns.ends,
            variant_places=columns.variant_places,
            variant_ends=columns.variant_ends,
            data=data,
        )

    def _batches(self, data: pa.Buffer) -> list[pa.RecordBatch]:
        try:
            reader = pa.ipc.open_file(pa.BufferReader(data))
            check_identity(reader.schema.metadata, self.where, self.fingerprint, self.num_codes)
            if not reader.schema.equals(self.layout):
                raise IntegrityError(f"{self.where} has other columns than token shards have; tokenize again.")
            return [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(f"{self.where} is no Arrow file, or damaged ({error}); tokenize again.") from None


def _mapped(path: Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as source:
        return source.read_buffer()
