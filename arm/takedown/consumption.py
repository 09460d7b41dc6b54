"""What stages of training consumed of some samples: documents, tokens, first and last step, and what each checkpoint saw.

plan/rows-00000.parquet    step 3   caption  default/garden-00000  row 7  length 14     ->   14 tokens at step 3
ledger/documents-*         the same (kind, shard, row, epoch) at the same step, or the ledger does not fit its plan
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm import manifest as manifests
from arm.data.holdings import Place
from arm.errors import IntegrityError
from arm.manifest import Manifest
from arm.storage import WORK, Folder, open_folder
from arm.training.ledger.chain import JOB, Run
from arm.training.ledger.format import read_documents

Integers = npt.NDArray[np.int64]
Rows = dict[str, set[int]]
"""`variant/unit` -> rows of it."""
_PLAN = re.compile(r"(.+)/plan/rows-\d+\.parquet")
_SEAL = re.compile(r"step-(\d+)/seal\.json")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model or checkpoint after so many steps of a stage has seen."""

    step: int
    documents: int
    tokens: int
    of_tokens: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of training that read token shards which hold the samples."""

    label: str
    url: str
    finished: bool
    kinds: dict[str, int]
    """Kind -> documents, to the last step."""
    first_step: int | None
    last_step: int | None
    """First and last step that consumed one; None where none did."""
    seen: tuple[Seen, ...]
    """Of each checkpoint that there is, the last the model of a finished stage."""
    started_from: str
    """Digest of the model that it started from."""
    inherits: str
    """Label of the stage before it whose model had seen some of it, if any."""


@dataclass(frozen=True, slots=True)
class Uses:
    """Documents of some rows, step by step, and the tokens of all documents of each step."""

    steps: Integers
    lengths: Integers
    kinds: tuple[str, ...]
    tokens_of_steps: Integers

    def seen(self, step: int) -> Seen:
        """What was seen after so many steps."""
        before = self.steps < step
        return Seen(step, int(before.sum()), int(self.lengths[before].sum()), int(self.tokens_of_steps[:step].sum()))


def stages_of(
    store: str, holdings: Sequence[tuple[Manifest, Sequence[Place]]], artifacts: Sequence[Manifest]
) -> Iterator[Stage]:
    """Every stage that read one of the artifacts of token shards, finished ones in the order in which they built on each
    other, then those that are not."""
    rows = {manifest.digest: _rows(places) for manifest, places in holdings if manifest.kind == "token-shards"}
    finished: dict[str, Stage] = {}
    for run in _in_order([Run(m) for m in artifacts if m.job == JOB]):
        base = finished.get(run.manifest.inputs.get("base", ""))
        wanted = rows.get(run.manifest.inputs.get("tokens", ""), {})
        before = (base.label if base.first_step is not None else base.inherits) if base else ""
        if wanted or before:
            finished[run.manifest.digest] = _finished(run, wanted, before)
    yield from finished.values()
    if rows:
        yield from _unfinished(store, rows)


def _rows(places: Sequence[Place]) -> Rows:
    found: Rows = {}
    for place in places:
        if place.file.endswith(".arrow"):
            found.setdefault(place.file.removeprefix("shards/").removesuffix(".arrow"), set()).add(place.row)
    return found


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """Every run after the one that it started from."""
    order = ("pretrain", "continue", "finetune")
    return sorted(runs, key=lambda run: order.index(run.stage) if run.stage in order else len(order))


def _finished(run: Run, wanted: Rows, inherits: str) -> Stage:
    num_steps = len(run.steps().step)
    uses = uses_of(run.manifest.folder, wanted, num_steps)
    _check_ledger(run, wanted, uses)
    return _stage(run.label, run.manifest.folder.url, uses, [num_steps], run.manifest.inputs.get("base", ""), inherits)


def _stage(label: str, url: str, uses: Uses, steps: Sequence[int], base: str, inherits: str) -> Stage:
    return Stage(
        label=label, url=url, finished=bool(base), kinds=dict(sorted(Counter(uses.kinds).items())),
        first_step=int(uses.steps.min()) if len(uses.steps) else None,
        last_step=int(uses.steps.max()) if len(uses.steps) else None,
        seen=tuple(uses.seen(step) for step in steps), started_from=base, inherits=inherits,
    )  # fmt: skip


def uses_of(folder: Folder, wanted: Rows, num_steps: int) -> Uses:
    """The documents of some rows that a plan has before a step."""
    steps, lengths, kinds, totals = [], [], list[str](), np.zeros(num_steps, np.int64)
    for name in (name for name in folder.list("plan/rows-") if name.endswith(".parquet")):
        columns = ["step", "kind", "shard", "shard_row", "length"]
        table = pq.read_table(folder.fetch(name), columns=columns)
        table = table.filter(pc.less(table["step"], num_steps))
        step, length = (np.asarray(table[column]).astype(np.int64) for column in ("step", "length"))
        totals += np.bincount(step, weights=length, minlength=num_steps).astype(np.int64)[:num_steps]
        hit = _hits(table["shard"], np.asarray(table["shard_row"]), wanted)
        steps.append(step[hit])
        lengths.append(length[hit])
        kinds += table["kind"].filter(pa.array(hit)).cast(pa.string()).to_pylist()
    nothing = np.zeros(0, np.int64)
    return Uses(np.concatenate([nothing, *steps]), np.concatenate([nothing, *lengths]), tuple(kinds), totals)


def _hits(shards: pa.ChunkedArray, rows: Integers, wanted: Rows) -> npt.NDArray[np.bool_]:
    hit = np.zeros(len(rows), np.bool_)
    for shard, inside in wanted.items():
        hit |= np.asarray(pc.equal(shards.cast(pa.string()), shard)) & np.isin(rows, sorted(inside))
    return hit


def _check_ledger(run: Run, wanted: Rows, uses: Uses) -> None:
    """The ledger lists as many documents of these rows as the plan, at the same steps."""
    listed = []
    for _, entry in run.files():
        for shard, inside in wanted.items():
            listing = read_documents(run.manifest.local(entry), run.where(entry), shard=shard)
            listed.append(listing.steps[np.isin(listing.rows, sorted(inside))].astype(np.int64))
    steps = np.sort(np.concatenate([np.zeros(0, np.int64), *listed]))
    if not np.array_equal(steps, np.sort(uses.steps)):
        raise IntegrityError(f"{run.label}: its ledger and its plan disagree; run `arm ledger verify` on it.")


def _unfinished(store: str, rows: dict[str, Rows]) -> Iterator[Stage]:
    """Stages with checkpoints and without a manifest. Nothing says yet which token shards they read: those of the names in
    their plan are taken."""
    folder = open_folder(store)
    places = sorted({match[1] for name in folder.list() if (match := _PLAN.fullmatch(name))})
    for place in (place for place in places if not folder.exists(f"{place}/{manifests.NAME}")):
        output = folder.child(place)
        seals = (_SEAL.fullmatch(name) for name in output.child(f"{WORK}/checkpoints").list())
        steps = sorted(int(seal[1]) for seal in seals if seal)
        for wanted in rows.values() if steps else ():
            uses = uses_of(output, wanted, steps[-1])
            if len(uses.steps):
                yield _stage(f"unfinished {place}", output.url, uses, steps, "", "")
                break


def to_line(stage: Stage) -> str:
    """`pretrain 1a2b3c4d5e6f: 3 documents, 42 of 51,200 tokens (0.08%), steps 12 to 340`."""
    last = stage.seen[-1]
    share = f"{100 * last.tokens / max(last.of_tokens, 1):.3g}%"
    words = f"{stage.label}: {last.documents:,} documents, {last.tokens:,} of {last.of_tokens:,} tokens ({share})"
    when = f", steps {stage.first_step:,} to {stage.last_step:,}" if stage.first_step is not None else ""
    return f"{words}{when}{f', after {stage.inherits}' if stage.inherits else ''}"
