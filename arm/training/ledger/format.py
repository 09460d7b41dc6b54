"""The files of a ledger: what each step consumed, grouped by shard so that a document costs less than two bytes.

    documents of steps 0 to 2        step 0: rows 7 2    step 1: rows 3 0    step 2: row 4      of shard a, epoch 0
    one row of documents-*.parquet   first_row 0  last_row 7  first_step 0  last_step 2
                                     gaps  0 2 1 1 3      to the row before, rows ascending:    0 2 3 4 7
                                     steps 1 0 1 2 0      after first_step, of those rows

A group is a kind of document, a shard and an epoch. Lists are split into their bytes before zstd: the high bytes of gaps
and steps hardly vary. Steps are numbered from 0; a file holds `STEPS_PER_FILE` of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import IntegrityError

STEPS_PER_FILE = 1_000
STEPS, DOCUMENTS = "ledger/steps-", "ledger/documents-"

_SMALL = ("kind", "shard", "epoch", "first_row", "last_row", "first_step", "last_step")
_STEP_COLUMNS = {
    "step": pa.uint32(), "documents": pa.uint32(), "tokens": pa.uint64(), "digest": pa.uint64(), "identity": pa.uint64(),
}  # fmt: skip
_DOCUMENTS = pa.schema(
    [pa.field(name, pa.string() if name in ("kind", "shard") else pa.uint32(), nullable=False) for name in _SMALL]
    + [
        pa.field("gaps", pa.list_(pa.field("element", pa.uint32(), nullable=False)), nullable=False),
        pa.field("steps", pa.list_(pa.field("element", pa.uint16(), nullable=False)), nullable=False),
    ]
)
_LEAVES = ("gaps.list.element", "steps.list.element")


class Consumed(NamedTuple):
    """What one step consumed, summed over the ranks."""

    documents: int
    tokens: int
    digest: int
    """Sum over the documents of a hash of their tokens, as they were fed."""
    identity: int
    """Sum over the documents of a hash of (kind, shard, row, epoch)."""


class Group(NamedTuple):
    """Documents that a file codes together."""

    kind: str
    shard: str
    """`variant/unit`."""
    epoch: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The documents of a file: those of group g are `rows[starts[g]:starts[g + 1]]`, ascending, and their steps."""

    groups: list[Group]
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.uint32]
    steps: npt.NDArray[np.uint32]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Documents of each group."""
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class Steps:
    """Columns of steps files."""

    step: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    digest: npt.NDArray[np.uint64]
    identity: npt.NDArray[np.uint64]


def steps_name(number: int) -> str:
    """`ledger/steps-00003.parquet`."""
    return f"{STEPS}{number:05d}.parquet"


def documents_name(number: int) -> str:
    """`ledger/documents-00003.parquet`."""
    return f"{DOCUMENTS}{number:05d}.parquet"


def write_steps(path: Path, first_step: int, consumed: list[Consumed]) -> None:
    """Write one row for each step from the first."""
    columns = dict(zip(Consumed._fields, zip(*consumed, strict=True), strict=True))
    values = {"step": range(first_step, first_step + len(consumed)), **columns}
    table = pa.table({name: pa.array(values[name], kind) for name, kind in _STEP_COLUMNS.items()})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def read_steps(path: Path, where: str) -> Steps:
    """Read a steps file; `where` names it in errors."""
    table = _read(path, where, list(_STEP_COLUMNS))
    step, documents, tokens = (np.asarray(table[n]).astype(np.int64) for n in ("step", "documents", "tokens"))
    digest, identity = (np.asarray(table[n]).astype(np.uint64) for n in ("digest", "identity"))
    return Steps(step, documents, tokens, digest, identity)


def write_documents(path: Path, listing: Listing) -> None:
    """Write a listing whose rows ascend inside each group."""
    starts, ends = listing.starts[:-1], listing.starts[1:]
    gaps = np.diff(listing.rows, prepend=np.uint32(0))
    gaps[starts] = 0
    first_steps = np.minimum.reduceat(listing.steps, starts) if len(starts) else np.zeros(0, np.uint32)
    last_steps = np.maximum.reduceat(listing.steps, starts) if len(starts) else np.zeros(0, np.uint32)
    after = (listing.steps - np.repeat(first_steps, listing.sizes)).astype(np.uint16)
    offsets = pa.array(listing.starts.astype(np.int32))
    kinds, shards, epochs = zip(*listing.groups, strict=True) if listing.groups else ((), (), ())
    columns = [
        pa.array(kinds, pa.string()), pa.array(shards, pa.string()), pa.array(epochs, pa.uint32()),
        pa.array(listing.rows[starts]), pa.array(listing.rows[ends - 1]), pa.array(first_steps), pa.array(last_steps),
        pa.ListArray.from_arrays(offsets, pa.array(gaps), type=_DOCUMENTS.field("gaps").type),
        pa.ListArray.from_arrays(offsets, pa.array(after), type=_DOCUMENTS.field("steps").type),
    ]  # fmt: skip
    pq.write_table(
        pa.Table.from_arrays(columns, schema=_DOCUMENTS),
        path,
        compression="zstd",
        compression_level=9,
        use_dictionary=["kind", "shard"],
        column_encoding=dict.fromkeys(_LEAVES, "BYTE_STREAM_SPLIT"),
    )


def read_groups(path: Path, where: str) -> pa.Table:
    """The groups of a file with their row and step ranges, without their documents."""
    return _read(path, where, list(_SMALL))


def read_documents(path: Path, where: str, *, shard: str | None = None) -> Listing:
    """Read a documents file, or what it holds of one shard; IntegrityError when its columns contradict each other."""
    table = _read(path, where, _DOCUMENTS.names)
    if shard is not None:
        table = table.filter(pc.equal(table["shard"], shard))
    gaps, starts = _lists(table["gaps"])
    after, others = _lists(table["steps"])
    small = {name: np.asarray(table[name]).astype(np.int64) for name in _SMALL if name not in ("kind", "shard")}
    sizes = np.diff(starts)
    if not np.array_equal(starts, others) or (sizes < 1).any() or gaps[starts[:-1]].any():
        raise IntegrityError(f"{where} is no documents file of a ledger: its lists do not match.")
    totals = np.cumsum(gaps, dtype=np.int64)
    rows = totals + np.repeat(small["first_row"] - totals[starts[:-1]], sizes)
    steps = after.astype(np.int64) + np.repeat(small["first_step"], sizes)
    if (rows[starts[1:] - 1] != small["last_row"]).any() or (rows > 2**32 - 1).any() or (steps > 2**32 - 1).any():
        raise IntegrityError(f"{where} is no documents file of a ledger: its row ranges do not match its rows.")
    found = zip(table["kind"].to_pylist(), table["shard"].to_pylist(), small["epoch"].tolist(), strict=True)
    groups = [Group(*group) for group in found]
    return Listing(groups, starts, rows.astype(np.uint32), steps.astype(np.uint32))


def _lists(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]:
    """The values of a list column one after another, and where each list starts; one more at the end."""
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    values = [np.asarray(chunk.flatten()) for chunk in chunks]
    sizes = [np.asarray(chunk.value_lengths()) for chunk in chunks]
    joined = np.concatenate(values) if values else np.zeros(0, np.uint32)
    return joined, np.concatenate([[0], *(np.cumsum(np.concatenate(sizes), dtype=np.int64) for _ in chunks[:1])])


def _read(path: Path, where: str, columns: list[str]) -> pa.Table:
    try:
        table = pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{where} is no Parquet file, or damaged ({error}).") from None
    absent = [name for name in columns if name not in table.column_names]
    nulls = [name for name in table.column_names if table[name].null_count]
    if absent or nulls:
        raise IntegrityError(f"{where} is no file of this ledger: {', '.join(absent + nulls)} missing.")
    return table
