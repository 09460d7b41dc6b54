"""A ledger of five steps worked out by hand, with its plan and manifest, for the tests."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from arm.manifest import NAME, Manifest, entries_of
from arm.model.documents import KINDS
from arm.storage import LocalFolder
from arm.training.ledger.identity import identity_sum, shard_keys
from arm.training.ledger.recorder import Recorder

SHARDS = ["default/a-00000", "default/a-00001", "default/b-00000"]


class Columns(NamedTuple):
    """Documents of a step."""

    kinds: npt.NDArray[np.int64]
    shards: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    epochs: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


def columns(*documents: tuple[str, int, int, int, int]) -> Columns:
    """Columns of (kind, shard number, row, epoch, length)."""
    kinds, *others = zip(*documents, strict=True)
    return Columns(*(np.asarray(values, np.int64) for values in ([KINDS.index(kind) for kind in kinds], *others)))


STEPS = [
    columns(("text", 0, 0, 0, 5), ("caption", 2, 7, 0, 9)),
    columns(("text", 0, 2, 0, 6), ("text", 1, 1, 0, 4)),
    columns(("text", 1, 0, 0, 5), ("caption", 2, 3, 0, 8)),
    columns(("text", 0, 1, 0, 7), ("text", 0, 2, 1, 6)),
    columns(("caption", 2, 7, 1, 9)),
]
"""Two epochs of five texts and three captions, in five steps."""
KEYS = shard_keys(SHARDS)


def consumed(step: int, documents: Columns) -> list[int]:
    """What the ranks report of a step; the token digest is made up."""
    kinds, shards, rows, epochs, lengths = documents
    return [len(kinds), int(lengths.sum()), 1000 + step, identity_sum(kinds, KEYS[shards], rows, epochs)]


def record(output: Path, steps: list[Columns], *, first: int = 0, stop: int | None = None, close: bool = True) -> None:
    """Record the steps `first` to `stop` as one attempt that goes on from a checkpoint after `first` steps."""
    recorder = Recorder(LocalFolder(output), lambda s: steps[s], SHARDS, num_ranks=2, steps_per_file=2)
    recorder.begin([consumed(step, steps[step]) for step in range(first)])
    for step in range(first, len(steps) if stop is None else stop):
        recorder.record(consumed(step, steps[step]))
    if close:
        recorder.close()


def write_plan(output: Path, steps: list[Columns]) -> None:
    """A plan in files of three steps beside the ledger."""
    for number, first in enumerate(range(0, len(steps), 3)):
        part = range(first, min(first + 3, len(steps)))
        found = [np.concatenate([steps[step][c] for step in part]) for c in range(5)]
        kinds, shards, rows, epochs, lengths = found
        step = np.repeat(part, [len(steps[s][0]) for s in part])
        table = pa.table({
            "step": step, "row": step, "kind": [KINDS[k] for k in kinds], "shard": [SHARDS[s] for s in shards],
            "shard_row": rows, "epoch": epochs, "length": lengths,
        })  # fmt: skip
        (output / "plan").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, output / "plan" / f"rows-{number:05d}.parquet")


def publish(
    output: Path, *, stage: str = "pretrain", base: str = "0" * 64, rows_per_step: int = 1, **counts: int
) -> Manifest:
    """Write the manifest of a finished train-model over what lies in a folder."""
    folder = LocalFolder(output)
    config = {"stage": stage, "rows_per_step": rows_per_step, "sequence_length": 10, "mixture": {"window_rows": 1}}
    declared = {"steps": 5, "documents": 9, "tokens": 59, **counts}
    made = Manifest(
        kind="model", job="train-model", version=1, key="0" * 64, config=config,
        inputs={"base": base, "tokens": "1" * 64}, counts=declared, metrics={}, files=entries_of(folder), folder=folder,
    )  # fmt: skip
    (output / NAME).write_bytes(made.to_json())
    return made


def make_run(output: Path) -> Path:
    """A finished run of five steps."""
    record(output, STEPS)
    write_plan(output, STEPS)
    publish(output)
    return output
