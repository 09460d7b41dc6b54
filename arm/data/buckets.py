"""The last step of filter-pairs: a task writes the buckets that it is given, row by row, however large one is.

It sees each uid's decision, then that uid's rows in their order; nothing is kept but the last decision and one row group.

pairs/part-00000.parquet            what is kept: the last to be published, with the bucket's counts
dropped/compared-00000.parquet      what was dropped by comparison
seen/part-00000.parquet             every uid of this run and of those before it
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from types import TracebackType

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from arm.data.comparing import SEEN
from arm.data.judging import DROPPED, KEPT, staging_of
from arm.data.slices import SLICES, count_slices, slices_table
from arm.data.tables import TableWriter
from arm.storage import open_folder


def part_name(bucket: int) -> str:
    """The last file of a bucket to be published."""
    return f"pairs/part-{bucket:05d}.parquet"


def write_buckets(output_url: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Publish each bucket of a sorted stream; give back its number."""
    runs = (run for batch in batches for run in _runs(batch))
    for bucket, pieces in groupby(runs, key=lambda run: run.column("bucket")[0].as_py()):
        with BucketWriter(output_url, bucket) as writer:
            for piece in pieces:
                writer.write(piece)
        yield pa.RecordBatch.from_pydict({"bucket": pa.array([bucket], pa.int32())})


class BucketWriter:
    """Writes one bucket; its files appear when it is left without an error."""

    def __init__(self, output_url: str, bucket: int) -> None:
        self._output, self._number = open_folder(output_url), f"{bucket:05d}.parquet"
        self._name = part_name(bucket)
        self._files = ExitStack()
        self._last: pa.RecordBatch | None = None
        """The decision that the rows to come stand under."""
        self._counts: Counter[str] = Counter(pairs_compared=0, pairs_kept=0, pairs_remembered=0)
        self._slices: Counter[tuple[str, str, str]] = Counter()

    def __enter__(self) -> "BucketWriter":
        names = {self._name: KEPT, f"dropped/compared-{self._number}": DROPPED, f"seen/part-{self._number}": SEEN}
        self._kept, self._dropped, self._seen = (
            TableWriter(self._files.enter_context(self._output.publish(name)), schema) for name, schema in names.items()
        )
        self._summary = self._files.enter_context(staging_of(self._output).publish(f"slices/compared-{self._number}"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            summary = TableWriter(self._summary, SLICES)
            summary.write(slices_table(self._slices))
            for writer in (summary, self._seen, self._dropped):
                writer.close({})
            self._kept.close(self._counts)
        self._files.__exit__(kind, error, trace)  # the last entered is published first

    def write(self, batch: pa.RecordBatch) -> None:
        """Write rows with the decisions among them."""
        self._write_seen(batch.filter(pc.invert(batch.column("is_row"))))
        rows = _judged(batch if self._last is None else pa.concat_batches([self._last, batch]))
        decisions = np.flatnonzero(~np.asarray(batch.column("is_row")))
        if len(decisions):
            self._last = batch.slice(int(decisions[-1]), 1)
        kept, dropped = (rows.filter(where(rows["reason"])) for where in (pc.is_null, pc.is_valid))
        self._kept.write(kept)
        self._dropped.write(dropped)
        self._counts.update(pairs_compared=rows.num_rows, pairs_kept=kept.num_rows)
        self._counts.update(f"dropped/{reason}" for reason in dropped["reason"].to_pylist())
        self._slices += count_slices(rows)

    def _write_seen(self, decided: pa.RecordBatch) -> None:
        kept = pc.coalesce(decided.column("known"), pc.is_null(decided.column("reason")))
        columns = [decided.column(name) for name in SEEN.names[:-1]]
        self._seen.write(pa.Table.from_arrays([*columns, kept], schema=SEEN))
        self._counts["pairs_remembered"] += decided.num_rows


def _judged(batch: pa.RecordBatch) -> pa.Table:
    """The rows of a batch, each with the reason of its decision; all but the first copy are duplicates."""
    is_row = np.asarray(batch.column("is_row"))
    places = np.maximum.accumulate(np.where(is_row, -1, np.arange(len(is_row))))[is_row]
    decided = batch.take(pa.array(places))
    rows = pa.Table.from_batches([batch]).filter(batch.column("is_row"))
    copies = pc.not_equal(rows["order"], decided.column("order"))
    reasons = pc.if_else(copies, pa.scalar("duplicate_pair"), decided.column("reason"))
    rows = rows.set_column(rows.schema.get_field_index("reason"), "reason", reasons)
    return rows.drop_columns("uid").rename_columns({"text_uid": "uid"})


def _runs(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch where the bucket changes."""
    numbers = np.asarray(batch.column("bucket"))
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
    for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
        yield batch.slice(start, end - start)
