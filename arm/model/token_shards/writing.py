"""Token shards, written record batch by record batch: memory holds one batch at a time."""

import hashlib
import json
import types
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import UserError
from arm.model.token_shards.format import (
    FORMAT_VERSION,
    PART,
    PART_LENGTHS,
    BatchEntry,
    lengths_schema,
    part_texts,
    schema,
)
from arm.records import Sample, Text

Grid = npt.NDArray[np.uint16]
"""Codes of one image (rows, columns)."""


def sample_batch(samples: Sequence[Sample], grids: Sequence[Grid], layout: pa.Schema) -> pa.RecordBatch:
    """Samples with the codes of their images, in order, as a record batch."""
    parts = [part for sample in samples for part in sample.parts]
    num_images = sum(not isinstance(part, Text) for part in parts)
    if num_images != len(grids):
        raise UserError(f"{len(samples)} samples hold {num_images} images, but {len(grids)} grids of codes are given.")
    columns = [
        pa.array([bytes.fromhex(sample.uid) for sample in samples], layout.field("uid").type),
        pa.array([sample.task for sample in samples], pa.string()),
        _lists([len(sample.parts) for sample in samples], _parts(samples, parts, grids)),
        pa.array([sample.source for sample in samples], pa.string()),
        pa.array([sample.licence for sample in samples], pa.string()),
        pa.array([_json(sample.scores) for sample in samples], pa.string()),
        pa.array([_json(sample.meta) for sample in samples], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=layout)


class ShardWriter:
    """Writes one shard.

    with ShardWriter(path, layout) as writer:
        writer.write(batch)
    writer.index                                  what read_index reads
    """

    def __init__(self, path: Path, layout: pa.Schema) -> None:
        self.path, self.layout = path, layout
        self.rows = 0
        self.histogram = np.zeros(int(layout.metadata[b"num_codes"]), np.int64)
        """How often each code was written."""
        self._entries: list[tuple[int, int, int]] = []
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, layout)
        self._index: dict[str, Any] = {}

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._sink.close()

    @property
    def index(self) -> dict[str, Any]:
        """The index of the finished file."""
        return self._index or self.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a record batch (see `sample_batch`)."""
        self._count(batch)
        self._writer.write_batch(batch)
        length = pa.ipc.get_record_batch_size(batch)
        self._entries.append((self._sink.tell() - length, length, len(batch)))
        self.rows += len(batch)

    def close(self) -> dict[str, Any]:
        """Finish the file and return its index."""
        if not self._index:
            self._writer.close()
            self._sink.close()
            metadata = self.layout.metadata
            self._index = {
                "format_version": FORMAT_VERSION,
                "tokenizer_fingerprint": metadata[b"tokenizer_fingerprint"].decode(),
                "num_codes": len(self.histogram),
                "batches": [asdict(entry) for entry in self._hashed()],
            }
        return self._index

    def _count(self, batch: pa.RecordBatch) -> None:
        codes = np.asarray(batch.column("parts").flatten().field("codes").flatten())
        counts = np.bincount(codes, minlength=len(self.histogram))
        if len(counts) > len(self.histogram):
            raise UserError(f"A code is {len(counts) - 1}; this visual tokenizer has {len(self.histogram)} codes.")
        self.histogram += counts

    def _hashed(self) -> list[BatchEntry]:
        """The sha256 of the bytes as they lie on disk."""
        with self.path.open("rb") as stream:
            found = []
            for offset, length, rows in self._entries:
                stream.seek(offset)
                digest = hashlib.sha256(stream.read(length)).hexdigest()
                found.append(BatchEntry(offset=offset, length=length, rows=rows, sha256=digest))
        return found


def write_shard(
    path: Path,
    samples: Sequence[Sample],
    grids: Sequence[Grid],
    *,
    tokenizer_fingerprint: str,
    num_codes: int,
    batch_rows: int = 1024,
) -> dict[str, Any]:
    """Write one shard of samples that fit the memory; return its index."""
    layout = schema(tokenizer_fingerprint=tokenizer_fingerprint, num_codes=num_codes)
    place = 0
    with ShardWriter(path, layout) as writer:
        for start in range(0, len(samples), batch_rows):
            rows = samples[start : start + batch_rows]
            num_images = sum(not isinstance(part, Text) for sample in rows for part in sample.parts)
            writer.write(sample_batch(rows, grids[place : place + num_images], layout))
            place += num_images
    return writer.index


def lengths_batch(
    samples: Sequence[Sample],
    grids: Sequence[Grid],
    lengths: Sequence[Sequence[Sequence[int]]],
    held_out: Sequence[bool],
) -> pa.RecordBatch:
    """What the sidecar says of samples; `lengths` are, per sample and part, tokens of its text and each variant of it."""
    parts = [part for sample in samples for part in sample.parts]
    is_text, shapes = _shapes(parts, grids)
    tokens = [part for sample in lengths for part in sample]
    flat = pa.array([length for part in tokens for length in part], pa.int32())
    columns = {
        "is_text": pa.array(is_text),
        "is_answer": pa.array([isinstance(part, Text) and part.role == "answer" for part in parts], pa.bool_()),
        "height": pa.array(shapes[:, 0]),
        "width": pa.array(shapes[:, 1]),
        "lengths": _lists([len(part) for part in tokens], flat),
    }
    nested = pa.StructArray.from_arrays(list(columns.values()), fields=list(PART_LENGTHS))
    uids = pa.array([bytes.fromhex(sample.uid) for sample in samples], pa.binary(16))
    tasks = pa.array([sample.task for sample in samples], pa.string())
    rows = [
        uids,
        tasks,
        pa.array(list(held_out), pa.bool_()),
        _lists([len(sample.parts) for sample in samples], nested),
    ]
    return pa.RecordBatch.from_arrays(rows, schema=lengths_schema(text_fingerprint=""))


def write_lengths(path: Path, batches: Sequence[pa.RecordBatch], *, text_fingerprint: str) -> None:
    """Write the sidecar of one shard from its `lengths_batch`es. Uids are random: no dictionary of them, no compression."""
    layout = lengths_schema(text_fingerprint=text_fingerprint)
    table = pa.Table.from_batches([batch.replace_schema_metadata(layout.metadata) for batch in batches], layout)
    leaves = ["task", "held_out", *(f"parts.list.element.{field.name}" for field in PART_LENGTHS)]
    leaves[-1] += ".list.element"
    pq.write_table(
        table,
        path,
        row_group_size=max(len(table), 1),
        compression={"uid": "none", **dict.fromkeys(leaves, "zstd")},
        use_dictionary=leaves,
    )


def _parts(samples: Sequence[Sample], parts: Sequence[Any], grids: Sequence[Grid]) -> pa.StructArray:
    """The parts of all samples, one after the other."""
    is_text, shapes = _shapes(parts, grids)
    codes = np.concatenate([np.zeros(0, np.uint16), *(grid.reshape(-1) for grid in grids)])
    if codes.dtype != np.uint16:
        raise UserError(f"Codes are uint16, not {codes.dtype}.")
    variants = [texts[1:] for sample in part_texts(samples) for texts in sample]
    columns = {
        "kind": pa.array(np.where(is_text, "text", "image").tolist(), pa.string()),
        "role": pa.array([part.role if isinstance(part, Text) else "" for part in parts], pa.string()),
        "text": pa.array([part.text if isinstance(part, Text) else "" for part in parts], pa.string()),
        "codes": _lists(shapes.astype(np.int64).prod(axis=1), pa.array(codes, pa.uint16())),
        "height": pa.array(shapes[:, 0]),
        "width": pa.array(shapes[:, 1]),
        "variants": pa.array(variants, pa.list_(pa.string())),
    }
    return pa.StructArray.from_arrays(list(columns.values()), fields=list(PART))


def _shapes(parts: Sequence[Any], grids: Sequence[Grid]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint16]]:
    """Which parts are texts, and the height and width of the others' grids."""
    is_text = np.asarray([isinstance(part, Text) for part in parts], dtype=np.bool_)
    shapes = np.zeros((len(parts), 2), np.uint16)
    shapes[~is_text] = np.asarray([grid.shape for grid in grids], np.uint16).reshape(-1, 2)
    return is_text, shapes


def _lists(counts: Sequence[int] | npt.NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    """Lists of the given lengths over flat values: [2, 1], [7 8 9]  ->  [[7 8], [9]]."""
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    if offsets[-1] >= 2**31:
        raise UserError("A record batch holds more than 2^31 values; write fewer samples a batch.")
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, ensure_ascii=False)
