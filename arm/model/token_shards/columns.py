"""The columns of record batches as checked NumPy arrays: what random reads look up."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from arm.errors import IntegrityError

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What a shard's record batches hold; `starts` counts parts from the first, one more than rows."""

    tasks: npt.NDArray[np.str_]
    uids: npt.NDArray[np.uint64]
    """Each as two numbers of eight bytes."""
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


def columns_of(batch: pa.RecordBatch, data: pa.Buffer, num_codes: int, where: str) -> Columns:
    """The columns of a record batch that lies in `data`; IntegrityError when anything in it is out of bounds."""
    try:
        batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{where} is damaged ({error}); tokenize again.") from None
    starts, parts = lists(batch.column("parts"), where)
    codes_starts, codes = lists(parts.field("codes"), where)
    variant_starts, variants = lists(parts.field("variants"), where)
    is_text = _equals(parts.field("kind"), "text")
    heights, widths = (np.asarray(dense(parts.field(name), where), np.int64) for name in ("height", "width"))
    _check_codes(codes, np.diff(codes_starts), is_text, heights * widths, num_codes, where)
    text_starts = _text_offsets(dense(parts.field("text"), where)) + _place(parts.field("text"), 2, data, 1, where)
    code_starts = codes_starts + _place(codes, 1, data, 2, where)
    places = _text_offsets(dense(variants, where)) + _place(variants, 2, data, 1, where)
    tasks = dense(batch.column("task"), where).dictionary_encode()
    return Columns(
        tasks=np.asarray(tasks.dictionary.to_pylist(), np.str_)[np.asarray(tasks.indices)],
        uids=uid_numbers(dense(batch.column("uid"), where)),
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


def lists(array: Any, where: str) -> tuple[Integers, Any]:
    """A list column as its offsets, which start at 0, and its flat values."""
    offsets = np.asarray(dense(array, where).offsets, np.int64)
    if len(offsets) == 0:
        return np.zeros(1, np.int64), array.values
    if offsets[0] != 0 or offsets[-1] != len(array.values):
        raise IntegrityError(f"{where} holds values that belong to no sample; tokenize again.")
    return offsets, array.values


def dense(array: Any, where: str) -> Any:
    """A column without missing values."""
    if array.null_count:
        raise IntegrityError(f"{where} holds a missing value; tokenize again.")
    return array


def uid_numbers(array: Any) -> npt.NDArray[np.uint64]:
    """Uids of 16 bytes as two numbers each; the first is the key of every random choice about a sample."""
    if len(array) == 0:
        return np.zeros((0, 2), np.uint64)
    values = np.frombuffer(array.buffers()[1], "<u8")[2 * array.offset : 2 * (array.offset + len(array))]
    return values.reshape(-1, 2).astype(np.uint64)


def _check_codes(codes: Any, counts: Integers, is_text: Booleans, sizes: Integers, num_codes: int, where: str) -> None:
    if np.any(counts != np.where(is_text, 0, sizes)) or np.any(~is_text & (sizes == 0)):
        raise IntegrityError(f"{where} holds an image whose codes are not height × width; tokenize again.")
    largest = pc.max(codes).as_py()
    if largest is not None and largest >= num_codes:
        raise IntegrityError(f"{where} holds the code {largest}; the visual tokenizer has {num_codes}.")


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


def _equals(column: Any, word: str) -> Booleans:
    return np.asarray(pc.equal(column, word).fill_null(False).to_numpy(zero_copy_only=False), np.bool_)


def _no_columns() -> Columns:
    integers, booleans = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return Columns(
        tasks=np.zeros(0, np.str_), uids=np.zeros((0, 2), np.uint64), starts=np.zeros(1, np.int64), is_text=booleans,
        is_answer=booleans, heights=integers, widths=integers, places=integers, ends=integers, num_variants=integers,
        variant_places=integers, variant_ends=integers,
    )  # fmt: skip
