"""The sidecars of token shards: all that a plan asks of the samples, without their texts and codes.

    lengths = open_lengths(tokens, files)       lengths.tasks, lengths.held_out, lengths.lengths[lengths.starts[7]]

A sidecar is read whole and checked, like everything in a file; a captioned image of 512 × 512 costs some 20 bytes in it,
16 of them the uid, and 2,048 bytes of codes in the shard. Opening the shard compares the two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest
from arm.model.token_shards.columns import Booleans, Columns, Integers, dense, lists, uid_numbers
from arm.model.token_shards.format import FORMAT_VERSION, SPECIALS_PER_IMAGE, ShardFiles, lengths_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLengths:
    """What a sidecar holds, flat: the parts of row r are `starts[r]` to `starts[r + 1]`."""

    name: str
    """`variant/unit`."""
    text_fingerprint: str
    """Of the text tokenizer that counted the lengths."""
    task_names: tuple[str, ...]
    task_numbers: npt.NDArray[np.integer[Any]]
    """The task of each row, as its number in `task_names`."""
    uids: npt.NDArray[np.uint64]
    """Each as two numbers of eight bytes."""
    held_out: Booleans
    starts: Integers
    is_text: Booleans
    is_answer: Booleans
    heights: npt.NDArray[np.uint16]
    widths: npt.NDArray[np.uint16]
    lengths: npt.NDArray[np.int32]
    """Tokens of each part, a text's by its first variant."""
    variant_starts: Integers
    """The further texts of part p are `variant_starts[p]` to `variant_starts[p + 1]`."""
    variant_lengths: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.held_out)

    @property
    def tasks(self) -> npt.NDArray[np.str_]:
        """The task of each row."""
        tasks: npt.NDArray[np.str_] = np.asarray(self.task_names, np.str_)[self.task_numbers]
        return tasks

    @property
    def uid_keys(self) -> npt.NDArray[np.uint64]:
        """First eight bytes of each uid: the key of every random choice about it."""
        return self.uids[:, 0]


def open_lengths(tokens: Manifest, files: ShardFiles) -> ShardLengths:
    """The sidecar of one shard, verified; nothing of its file is kept."""
    where = f"{tokens.folder.url}/{files.lengths}"
    found = _read(tokens.local(files.lengths), f"{files.variant}/{files.unit}", where)
    tokens.folder.release(files.lengths)
    return found


def find_uid(tokens: Manifest, uid: bytes) -> Iterator[tuple[str, int, bool]]:
    """Every place of a sample, as (`variant/unit`, row, whether it is held out): from the sidecars, one after another."""
    entries = tokens.select("lengths/", ".parquet")
    for entry, path in zip(entries, tokens.stream(entries), strict=True):
        variant, unit = Path(entry.path).parts[1], Path(entry.path).stem
        table = _table(path, f"{tokens.folder.url}/{entry.path}", columns=["uid", "held_out"])
        found = np.flatnonzero(np.asarray(pc.equal(table["uid"], pa.scalar(uid, pa.binary(16)))))
        for row in found.tolist():
            yield f"{variant}/{unit}", row, table["held_out"][row].as_py()


def check_agreement(lengths: ShardLengths, columns: Columns, where: str) -> None:
    """IntegrityError where a sidecar speaks of other samples than its shard holds."""
    compared: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {
        "samples": (lengths.uids, columns.uids),
        "tasks": (lengths.tasks, columns.tasks),
        "parts": (lengths.starts, columns.starts),
        "kinds of parts": (lengths.is_text, columns.is_text),
        "answers": (lengths.is_answer, columns.is_answer),
        "heights": (lengths.heights, columns.heights),
        "widths": (lengths.widths, columns.widths),
        "texts": (np.diff(lengths.variant_starts), columns.num_variants),
    }
    for what, (said, held) in compared.items():
        if not np.array_equal(said, held):
            raise IntegrityError(f"{where}: its lengths describe other {what}; tokenize again.")


def _read(path: Path, name: str, where: str) -> ShardLengths:
    table = _table(path, where)
    rows = table.combine_chunks()
    starts, parts = lists(_chunk(rows["parts"]), where)
    is_text, is_answer = (_booleans(parts.field(column), where) for column in ("is_text", "is_answer"))
    heights, widths = (np.asarray(dense(parts.field(column), where), np.uint16) for column in ("height", "width"))
    first, lengths = lists(parts.field("lengths"), where)
    flat, counts = np.asarray(dense(lengths, where), np.int32), np.diff(first)
    if np.any(counts < 1):
        raise IntegrityError(f"{where}: its lengths leave out a part; tokenize again.")
    tasks = dense(_chunk(rows["task"]), where).dictionary_encode()
    names = tuple(tasks.dictionary.to_pylist())
    found = ShardLengths(
        name=name,
        text_fingerprint=table.schema.metadata[b"text_fingerprint"].decode("utf-8", "replace"),
        task_names=names,
        task_numbers=np.asarray(tasks.indices).astype(np.min_scalar_type(len(names))),
        uids=uid_numbers(dense(_chunk(rows["uid"]), where)),
        held_out=_booleans(_chunk(rows["held_out"]), where),
        starts=starts,
        is_text=is_text,
        is_answer=is_answer,
        heights=heights,
        widths=widths,
        lengths=flat[first[:-1]],
        variant_starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts - 1)]),
        variant_lengths=np.delete(flat, first[:-1]),
    )
    _check_parts(found, where)
    return found


def _table(path: Path, where: str, columns: list[str] | None = None) -> pa.Table:
    """The table of a sidecar, or some columns of it; its format is checked before anything is read."""
    try:
        with pq.ParquetFile(path) as file:
            _check_layout(file.schema_arrow, where)
            table = file.read(columns)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"The lengths {where} are damaged ({error}); tokenize again.") from None
    return table


def _check_layout(layout: pa.Schema, where: str) -> None:
    metadata = layout.metadata or {}
    version = metadata.get(b"format_version", b"1").decode("utf-8", "replace")
    if version != str(FORMAT_VERSION):
        raise UserError(f"The lengths {where} have format {version}, not {FORMAT_VERSION}; run tokenize-images again.")
    if b"text_fingerprint" not in metadata or not layout.equals(lengths_schema(text_fingerprint="")):
        raise IntegrityError(f"The lengths {where} have other columns than they should; tokenize again.")


def _check_parts(found: ShardLengths, where: str) -> None:
    """Images have a grid that their lengths count, texts have none."""
    sizes = found.heights.astype(np.int64) * found.widths
    is_sized = np.where(found.is_text, (found.heights | found.widths) == 0, sizes > 0)
    is_counted = found.is_text | (found.lengths == sizes + SPECIALS_PER_IMAGE)
    has_texts = (np.diff(found.variant_starts) == 0) | found.is_text
    is_sound = is_sized & is_counted & has_texts & (found.is_text | ~found.is_answer) & (found.lengths >= 0)
    if not is_sound.all() or np.any(found.variant_lengths < 0):
        raise IntegrityError(f"{where}: its lengths are out of bounds; tokenize again.")


def _booleans(array: Any, where: str) -> Booleans:
    return np.asarray(dense(array, where).to_numpy(zero_copy_only=False), np.bool_)


def _chunk(column: Any) -> Any:
    """A column of a combined table as one array."""
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
