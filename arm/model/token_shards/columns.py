"""The columns of record batches and sidecars as checked NumPy arrays: what random reads look up."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import IntegrityError, UserError
from arm.model.token_shards.format import FORMAT_VERSION, SPECIALS_PER_IMAGE, lengths_schema

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What a shard's record batches hold; `starts` counts parts from the first, one more than rows."""

    tasks: npt.NDArray[np.str_]
    uid_keys: npt.NDArray[np.uint64]
    starts: Integers
    is_text: Booleans
    is_answer: Booleans
    heights: Integers
    widths: Integers
    places: Integers
    ends: Integers
    num_variants: Integers
    """Further texts of each part."""
    variant_places: Integers
    variant_ends: Integers
    """Where they lie in the file, part after part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """What a shard's sidecar holds."""

    text_fingerprint: str
    held_out: Booleans
    lengths: Integers
    variant_lengths: Integers
    """Of the further texts, part after part."""


def columns_of(batch: pa.RecordBatch, data: pa.Buffer, num_codes: int, where: str) -> Columns:
    """The columns of a record batch that lies in `data`; IntegrityError when anything in it is out of bounds."""
    try:
        batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{where} is damaged ({error}); tokenize again.") from None
    starts, parts = _lists(batch.column("parts"), where)
    codes_starts, codes = _lists(parts.field("codes"), where)
    variant_starts, variants = _lists(parts.field("variants"), where)
    is_text = _equals(parts.field("kind"), "text")
    heights, widths = (np.asarray(_dense(parts.field(name), where), np.int64) for name in ("height", "width"))
    _check_codes(codes, np.diff(codes_starts), is_text, heights * widths, num_codes, where)
    text_starts = _text_offsets(_dense(parts.field("text"), where)) + _place(parts.field("text"), 2, data, 1, where)
    code_starts = codes_starts + _place(codes, 1, data, 2, where)
    places = _text_offsets(_dense(variants, where)) + _place(variants, 2, data, 1, where)
    tasks = _dense(batch.column("task"), where).dictionary_encode()
    return Columns(
        tasks=np.asarray(tasks.dictionary.to_pylist(), np.str_)[np.asarray(tasks.indices)],
        uid_keys=_uid_keys(_dense(batch.column("uid"), where)),
        starts=starts,
        is_text=is_text,
        is_answer=_equals(parts.field("role"), "answer"),
        heights=heights,
        widths=widths,
        places=np.where(is_text, text_starts[:-1], code_starts[:-1]),
        ends=np.where(is_text, text_starts[1:], code_starts[1:]),
        num_variants=np.diff(variant_starts),
        variant_places=places[:-1],
        variant_ends=places[1:],
    )


def joined(batches: Sequence[Columns]) -> Columns:
    """The columns of several record batches as one."""
    arrays = {
        column.name: np.concatenate([getattr(batch, column.name) for batch in batches])
        for column in fields(Columns)
        if batches and column.name != "starts"
    }
    if not batches:
        return _no_columns()
    counts = np.concatenate([np.diff(batch.starts) for batch in batches])
    return Columns(starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), **arrays)


def sidecar_columns(path: Path, columns: Columns, where: str) -> Sidecar:
    """Held-out marks and the tokens of each part's own text; IntegrityError when they do not fit the shard's parts."""
    table = _sidecar_table(path, where)
    rows = table.combine_chunks()
    starts, parts = _lists(_chunk(rows["lengths"]), where)
    length_starts, lengths = _lists(parts, where)
    counts = np.diff(length_starts)
    if not np.array_equal(starts, columns.starts) or not np.array_equal(counts, 1 + columns.num_variants):
        raise IntegrityError(f"{where}: its lengths describe other parts; tokenize again.")
    flat = np.asarray(lengths, np.int64)
    own = flat[length_starts[:-1]]
    images = columns.heights * columns.widths + SPECIALS_PER_IMAGE
    if np.any(np.asarray(lengths) < 0) or np.any((own != images) & ~columns.is_text):
        raise IntegrityError(f"{where}: its lengths are out of bounds; tokenize again.")
    held_out = _dense(_chunk(rows["held_out"]), where)
    text_fingerprint = table.schema.metadata[b"text_fingerprint"].decode("utf-8", "replace")
    return Sidecar(
        text_fingerprint=text_fingerprint,
        held_out=np.asarray(held_out.to_numpy(zero_copy_only=False), np.bool_),
        lengths=own,
        variant_lengths=np.delete(flat, length_starts[:-1]),
    )


def _sidecar_table(path: Path, where: str) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"The lengths of {where} are damaged ({error}); tokenize again.") from None
    metadata = table.schema.metadata or {}
    version = metadata.get(b"format_version", b"1").decode("utf-8", "replace")
    if version != str(FORMAT_VERSION):
        raise UserError(
            f"The lengths of {where} have format {version}, not {FORMAT_VERSION}; run tokenize-images again."
        )
    if b"text_fingerprint" not in metadata or not table.schema.equals(lengths_schema(text_fingerprint="")):
        raise IntegrityError(f"The lengths of {where} have other columns than they should; tokenize again.")
    return table


def _check_codes(codes: Any, counts: Integers, is_text: Booleans, sizes: Integers, num_codes: int, where: str) -> None:
    if np.any(counts != np.where(is_text, 0, sizes)) or np.any(~is_text & (sizes == 0)):
        raise IntegrityError(f"{where} holds an image whose codes are not height × width; tokenize again.")
    largest = pc.max(codes).as_py()
    if largest is not None and largest >= num_codes:
        raise IntegrityError(f"{where} holds the code {largest}; the visual tokenizer has {num_codes}.")


def _lists(array: Any, where: str) -> tuple[Integers, Any]:
    """A list column as its offsets, which start at 0, and its flat values."""
    offsets = np.asarray(_dense(array, where).offsets, np.int64)
    if len(offsets) == 0:
        return np.zeros(1, np.int64), array.values
    if offsets[0] != 0 or offsets[-1] != len(array.values):
        raise IntegrityError(f"{where} holds values that belong to no sample; tokenize again.")
    return offsets, array.values


def _dense(array: Any, where: str) -> Any:
    if array.null_count:
        raise IntegrityError(f"{where} holds a missing value; tokenize again.")
    return array


def _chunk(column: Any) -> Any:
    """A column of a combined table as one array."""
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _text_offsets(array: Any) -> Integers:
    buffer = array.buffers()[1]
    if len(array) == 0 or buffer is None:
        return np.zeros(1, np.int64)
    return np.frombuffer(buffer, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)


def _place(array: Any, number: int, data: pa.Buffer, item_bytes: int, where: str) -> int:
    """Where a buffer of an array starts in the file, in items; 0 for none."""
    buffer = array.buffers()[number]
    if buffer is None or buffer.size == 0:
        return 0
    place: int = int(buffer.address) - int(data.address) + int(array.offset) * (item_bytes if number == 1 else 0)
    if not 0 <= place <= data.size - buffer.size or place % item_bytes:
        raise IntegrityError(f"{where} is compressed or not aligned; tokenize again.")
    return place // item_bytes


def _uid_keys(array: Any) -> npt.NDArray[np.uint64]:
    if len(array) == 0:
        return np.zeros(0, np.uint64)
    values = np.frombuffer(array.buffers()[1], "<u8")[2 * array.offset : 2 * (array.offset + len(array))]
    return values.reshape(-1, 2)[:, 0].astype(np.uint64)


def _equals(column: Any, word: str) -> Booleans:
    return np.asarray(pc.equal(column, word).fill_null(False).to_numpy(zero_copy_only=False), np.bool_)


def _no_columns() -> Columns:
    integers, booleans = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return Columns(
        tasks=np.zeros(0, np.str_), uid_keys=np.zeros(0, np.uint64), starts=np.zeros(1, np.int64), is_text=booleans,
        is_answer=booleans, heights=integers, widths=integers, places=integers, ends=integers, num_variants=integers,
        variant_places=integers, variant_ends=integers,
    )  # fmt: skip
