"""The plan as an artifact, written ahead in segments of a thousand steps.

    plan/cursor-00007.json    the planner's state at the start of segment 7, where no row is open
    plan/rows-00007.parquet   step row kind shard shard_row epoch drop variant stride length, in row groups of whole steps
    plan/totals-00007.json    digests, rows, documents and tokens by kind of the segment: what a start reads of all of them

A segment's digest covers its documents step by step; the digests are chained, and the last link is the plan's digest.
Whoever has a cursor can make its segment again and compare. A killed writer goes on at the last cursor.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm import config as configs
from arm.errors import IntegrityError, UserError
from arm.model.documents import KINDS
from arm.storage import Folder
from arm.training.config import MixtureConfig
from arm.training.plan.planner import Planner, StageShape, State
from arm.training.plan.rows import Choice, Rows, joined_rows, packed_choices, unpacked_choices
from arm.training.plan.streams import Index

GROUP_ROWS = 4_096
"""At most so many rows lie in one row group, but at least one step: what is read for a single step."""
GROUPS_IN_MEMORY = 4
VERSION = 3
Values = dict[str, Any]


def plan_identity(index: Index, mixture: MixtureConfig, stage: StageShape, *, seed: int) -> str:
    """What decides a plan: the data, the mixture, the stage's shape, the seed and the version of the planner."""
    values = {
        "version": VERSION, "index": index.identity, "mixture": configs.to_dict(mixture), "seed": seed,
        "stage": [stage.steps, stage.rows_per_step, stage.sequence_length], "segment_steps": stage.segment_steps,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def num_segments(stage: StageShape) -> int:
    """Segments of a stage that does not stop early."""
    return -(-stage.steps // stage.segment_steps)


class PlanWriter:
    """Writes segments in their order; those that lie there already, of the same plan, are passed over."""

    def __init__(
        self, planner: Planner, stage: StageShape, *, identity: str, names: Sequence[str], folder: Folder
    ) -> None:
        self._planner, self._stage, self._folder, self._identity = planner, stage, folder, identity
        self._names = pa.array(names, pa.string())
        self._chain, self._first = hashlib.sha256(identity.encode()).hexdigest(), 0
        for number in range(num_segments(stage), 0, -1):
            if self._goes_on_at(number):
                break

    def write(self, number: int) -> None:
        """Write one segment, and the cursor of the next."""
        if number < self._first or self._planner.stopped:
            return
        if number == 0:
            write_cursor(self._folder, 0, self._planner.state(), self._chain)
        self._folder.delete(totals_name(number))  # those of another plan would vouch for rows that are not theirs
        hasher, kinds = hashlib.sha256(), np.zeros(len(KINDS), np.int64)
        counts = {"rows": 0, "documents": 0}
        with (
            self._folder.publish(rows_name(number)) as path,
            pq.ParquetWriter(path, _schema(), compression="zstd") as writer,
        ):
            for group in _groups(self._planner, self._stage, number):
                _hash_steps(hasher, group, self._stage.rows_per_step)
                first_row = number * self._stage.segment_rows + counts["rows"]
                table = _table(group, first_row, self._stage.rows_per_step, self._names)
                # one row group, however many documents: it is found by its number
                writer.write_table(table, row_group_size=max(len(table), 1))
                counts["rows"] += len(group)
                counts["documents"] += len(group.kinds)
                kinds += group.tokens_of_kinds()
        before, digest = self._chain, hasher.hexdigest()
        self._chain = hashlib.sha256(f"{before} {digest}".encode()).hexdigest()
        values = {"identity": self._identity, "before": before, "digest": digest, "chain": self._chain}
        totals = {"tokens": dict(zip(KINDS, kinds.tolist(), strict=True)), "too_long": self._planner.too_long}
        self._folder.write(totals_name(number), json.dumps({**values, **counts, **totals}, sort_keys=True).encode())
        if number + 1 < num_segments(self._stage):
            write_cursor(self._folder, number + 1, self._planner.state(), self._chain)

    def _goes_on_at(self, number: int) -> bool:
        """Put the planner to the start of a segment, where all before it are this plan's and its cursor lies there too."""
        if not all(_is_written(self._folder, n) for n in range(number)):
            return False
        before = _segment_values(self._folder, number - 1)
        if before.get("identity") != self._identity:
            return False
        if number < num_segments(self._stage):
            if not self._folder.exists(cursor_name(number)):
                return False
            state, chain = read_cursor(self._folder, number)
            if chain != before["chain"]:
                return False
            self._planner.put_back(state)
        self._chain, self._first = before["chain"], number
        return True


class PlanFiles:
    """A written plan: any rows of it, read from one segment; memory holds a few row groups. Threads may share it."""

    def __init__(self, folder: Folder, stage: StageShape, names: Sequence[str], *, identity: str) -> None:
        self._folder, self._stage = folder, stage
        self._numbers = {name: number for number, name in enumerate(names)}
        self._groups: dict[tuple[int, int], Rows] = {}
        self._lock = threading.Lock()
        self.segments: list[Values] = []
        """What each segment's totals say: digests, rows, documents, tokens by kind."""
        for number in range(num_segments(stage)):
            if not _is_written(folder, number):
                break
            self.segments.append(_segment_values(folder, number))
        if not self.segments or any(values.get("identity") != identity for values in self.segments):
            raise IntegrityError(f"{folder.url}/plan holds no plan of this stage; delete it and run again.")

    @property
    def digest(self) -> str:
        """The plan's digest: the last link of the chain of its segments."""
        digest: str = self.segments[-1]["chain"]
        return digest

    @property
    def num_rows(self) -> int:
        """Rows of whole steps."""
        rows = sum(values["rows"] for values in self.segments)
        return int(rows - rows % self._stage.rows_per_step)

    def rows(self, first: int, last: int) -> Rows:
        """The rows from `first` to `last`."""
        size, segment = self._group_rows, self._stage.segment_rows
        pieces = []
        while first < last:
            number, inside = divmod(first, segment)
            group = self._group(number, inside // size)
            start = inside % size
            end = min(len(group), start + last - first)
            if end <= start:
                raise UserError(f"The plan ends before row {first}.")
            pieces.append(group.part(start, end))
            first += end - start
        return pieces[0] if len(pieces) == 1 else joined_rows(pieces)

    def too_long(self) -> dict[str, int]:
        """Documents of each kind that were left out, being longer than a row."""
        return dict(self.segments[-1]["too_long"])

    @property
    def _group_rows(self) -> int:
        return _group_steps(self._stage) * self._stage.rows_per_step

    def _group(self, number: int, group: int) -> Rows:
        key = (number, group)
        with self._lock:
            if key not in self._groups:
                while len(self._groups) >= GROUPS_IN_MEMORY:
                    self._groups.pop(next(iter(self._groups)))
                path = self._folder.fetch(rows_name(number))
                table = pq.ParquetFile(path, read_dictionary=["shard", "kind"]).read_row_group(group)
                first_row = number * self._stage.segment_rows + group * self._group_rows
                self._groups[key] = _rows(table, first_row, self._numbers)
            return self._groups[key]


def recomputed_digest(folder: Folder, number: int, planner: Planner, stage: StageShape) -> str:
    """The digest of a segment, made again from its cursor: equal to the recorded one, or something was altered."""
    state, _ = read_cursor(folder, number)
    planner.put_back(state)
    hasher = hashlib.sha256()
    for group in _groups(planner, stage, number):
        _hash_steps(hasher, group, stage.rows_per_step)
    return hasher.hexdigest()


def write_cursor(folder: Folder, number: int, state: State, chain: str) -> None:
    """Write the state at the start of a segment, and the link of the chain that it follows."""
    folder.write(cursor_name(number), json.dumps({"chain": chain, "state": state}, sort_keys=True).encode())


def read_cursor(folder: Folder, number: int) -> tuple[State, str]:
    """The state at the start of a segment, and the link of the chain that it follows."""
    values = json.loads(folder.read(cursor_name(number)))
    return values["state"], values["chain"]


def cursor_name(number: int) -> str:
    """The file of a cursor."""
    return f"plan/cursor-{number:05d}.json"


def rows_name(number: int) -> str:
    """The file of a segment."""
    return f"plan/rows-{number:05d}.parquet"


def totals_name(number: int) -> str:
    """The file of a segment's totals."""
    return f"plan/totals-{number:05d}.json"


def _groups(planner: Planner, stage: StageShape, number: int) -> Any:
    """The rows of a segment, some whole steps at a time."""
    left = min(stage.segment_steps, stage.steps - number * stage.segment_steps)
    while left > 0:
        steps = min(left, _group_steps(stage))
        group = planner.take(steps * stage.rows_per_step)
        if not len(group):
            return
        yield group
        left -= steps


def _group_steps(stage: StageShape) -> int:
    return max(1, min(stage.segment_steps, GROUP_ROWS // stage.rows_per_step))


def _hash_steps(hasher: Any, group: Rows, rows_per_step: int) -> None:
    """Step by step, so that a digest does not depend on how many steps were made at once."""
    for first in range(0, len(group), rows_per_step):
        hasher.update(group.part(first, min(first + rows_per_step, len(group))).digest())


def _schema() -> pa.Schema:
    words = pa.dictionary(pa.int32(), pa.string())
    columns = [("step", pa.uint32()), ("row", pa.uint32()), ("kind", pa.dictionary(pa.int8(), pa.string()))]
    columns += [("shard", words), ("shard_row", pa.uint32()), ("epoch", pa.uint16()), ("drop", pa.uint8())]
    return pa.schema([*columns, ("variant", pa.uint8()), ("stride", pa.uint8()), ("length", pa.uint32())])


def _table(group: Rows, first_row: int, rows_per_step: int, names: pa.Array) -> pa.Table:
    row = np.repeat(np.arange(first_row, first_row + len(group)), np.diff(group.starts))
    choice = unpacked_choices(group.choices)
    columns = [
        row // rows_per_step,
        row,
        pa.DictionaryArray.from_arrays(group.kinds, pa.array(KINDS)),
        pa.DictionaryArray.from_arrays(group.shards, names),
        group.rows, group.epochs, choice.drop, choice.variant, choice.stride, group.lengths,
    ]  # fmt: skip
    schema = _schema()
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column).cast(field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _rows(table: pa.Table, first_row: int, numbers: dict[str, int]) -> Rows:
    """A row group as rows again."""
    column = {name: table[name].combine_chunks() for name in table.column_names}
    plain = {name: np.asarray(column[name], np.int32) for name in ("shard_row", "epoch", "length")}
    choice = Choice(*(np.asarray(column[name], np.int32) for name in ("drop", "variant", "stride")))
    row = np.asarray(column["row"], np.int64) - first_row
    starts = np.searchsorted(row, np.arange(row[-1] + 2))
    return Rows(
        kinds=_codes(column["kind"], {kind: number for number, kind in enumerate(KINDS)}).astype(np.int8),
        shards=_codes(column["shard"], numbers),
        rows=plain["shard_row"],
        epochs=plain["epoch"],
        choices=packed_choices(choice),
        lengths=plain["length"],
        selected=np.full(len(row), -1, np.int64),
        starts=starts,
    )


def _codes(column: Any, numbers: dict[str, int]) -> npt.NDArray[np.int32]:
    """A column of words as our numbers for them."""
    ours = np.asarray([numbers[word] for word in column.dictionary.to_pylist()], np.int32)
    found: npt.NDArray[np.int32] = ours[np.asarray(column.indices)]
    return found


def _is_written(folder: Folder, number: int) -> bool:
    """Whether a segment lies there; its totals are written last."""
    return folder.exists(rows_name(number)) and folder.exists(totals_name(number))


def _segment_values(folder: Folder, number: int) -> Values:
    """What a segment's totals say."""
    values: Values = json.loads(folder.read(totals_name(number)))
    return values
