"""Who saw a sample: the steps that consumed it, and the models that were made of them.

A uid is looked up in the sidecars of the token shards that the runs read, then in their ledgers. The answer is one line
a use, or plainly why there is none: never offered, held out, or offered and never consumed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import UserError
from arm.manifest import Manifest
from arm.model.token_shards import find_uid
from arm.training.ledger.chain import Run, base_of, find_input
from arm.training.ledger.format import Group, read_documents, read_groups

MAX_STEPS = 8
"""Steps that a line spells out."""


@dataclass(frozen=True, slots=True)
class Use:
    """Documents of one group that a run consumed."""

    run: Run
    group: Group
    num_documents: int
    steps: tuple[int, ...]
    """Distinct, ascending."""

    def line(self) -> str:
        """`pretrain 1a2b…  caption  default/garden-00000  epoch 0  1 document  step 12`."""
        spelled = ", ".join(f"{step:,}" for step in self.steps)
        steps = spelled if len(self.steps) <= MAX_STEPS else f"{self.steps[0]:,} to {self.steps[-1]:,}"
        documents = f"{self.num_documents:,} document{'s' if self.num_documents > 1 else ''}"
        word = "step" if len(self.steps) == 1 else "steps"
        kind, shard, epoch = self.group
        return f"{self.run.label}  {kind}  {shard}  epoch {epoch}  {documents}  {word} {steps}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample lies in token shards."""

    shard: str
    row: int
    held_out: bool


def query_uid(runs: Sequence[Run], uid: str, others: Sequence[Manifest] = ()) -> Iterator[str]:
    """Lines that say which steps consumed a sample and which models saw it."""
    key = _key(uid)
    sources = {run.manifest.inputs["tokens"]: _tokens(run, others) for run in runs}
    places = {digest: [Place(*found) for found in find_uid(tokens, key)] for digest, tokens in sources.items()}
    for digest, tokens in sources.items():
        for place in places[digest]:
            kept = ", held out: no run of training reads it" if place.held_out else ""
            yield f"{uid} is row {place.row} of {place.shard} in {tokens.folder.url}{kept}."
    if not any(places.values()):
        yield f"{uid} was never offered: it is in none of the token shards that these runs read."
        return
    found = [
        use
        for run in runs
        for place in places[run.manifest.inputs["tokens"]]
        for use in uses_of(run, place.shard, row=place.row)
    ]
    if not found and not all(place.held_out for group in places.values() for place in group):
        yield f"{uid} was offered and never consumed."
    yield from _answer(found, runs)


def query_shard(runs: Sequence[Run], shard: str) -> Iterator[str]:
    """Lines that say which steps consumed documents of a shard (`variant/unit`) and which models saw them."""
    found = [use for run in runs for use in uses_of(run, shard)]
    if not found:
        known = sorted({name for run in runs for name in shards_of(run)})
        listed = f"{', '.join(known[:3])}{', …' if len(known) > 3 else ''}"
        raise UserError(f"No document of a shard {shard!r} was consumed by these runs; they read {listed}.")
    yield from _answer(found, runs)


def uses_of(run: Run, shard: str, row: int | None = None) -> Iterator[Use]:
    """What a run consumed of a shard, or of one of its rows, file by file; files without it are not read."""
    for _, entry in run.files():
        path, where = run.manifest.local(entry), run.where(entry)
        groups = read_groups(path, where)
        wanted = pc.equal(groups["shard"], shard)
        if row is not None:
            inside = pc.and_(pc.less_equal(groups["first_row"], row), pc.greater_equal(groups["last_row"], row))
            wanted = pc.and_(wanted, inside)
        if not pc.any(wanted).as_py():
            continue
        listing = read_documents(path, where, shard=shard)
        for index, group in enumerate(listing.groups):
            part = slice(listing.starts[index], listing.starts[index + 1])
            steps = listing.steps[part] if row is None else listing.steps[part][listing.rows[part] == row]
            if len(steps):
                yield Use(run, group, len(steps), tuple(np.unique(steps).tolist()))


def shards_of(run: Run) -> set[str]:
    """The shards that a run consumed documents of."""
    files = (entry for _, entry in run.files())
    return {
        name
        for entry in files
        for name in read_groups(run.manifest.local(entry), run.where(entry))["shard"].unique().to_pylist()
    }


def seen(runs: Sequence[Run], step: int | None, path: str | None) -> Iterator[str]:
    """Count what the checkpoint of a chain's last run after `step` steps has seen, or list it in a Parquet file."""
    if path is None:
        yield from count_seen(runs, step)
        return
    if not Path(path).absolute().parent.is_dir() or Path(path).is_dir():
        raise UserError(f"--write {path!r} is no file that can be written; give a name in a folder that exists.")
    yield f"{write_seen(runs, step, Path(path)):,} documents listed in {path}"


def count_seen(runs: Sequence[Run], step: int | None) -> Iterator[str]:
    """What a checkpoint after `step` steps of the last run has seen (None: its end), and the runs before it whole."""
    total = 0
    for run, until in _parts(runs, step):
        counts: dict[tuple[str, int], int] = {}
        for path, where in _paths(run):
            listing = read_documents(path, where)
            totals = np.concatenate([[0], np.cumsum(listing.steps < until)])
            for group, number in zip(listing.groups, np.diff(totals[listing.starts]).tolist(), strict=True):
                counts[group.kind, group.epoch] = counts.get((group.kind, group.epoch), 0) + number
        for (kind, epoch), number in sorted(counts.items()):
            if number:
                yield f"{run.label}  steps 0 to {until - 1:,}  {kind}  epoch {epoch}  {number:,} documents"
        total += sum(counts.values())
    yield f"{total:,} documents"


def write_seen(runs: Sequence[Run], step: int | None, path: Path) -> int:
    """List every document that a checkpoint has seen as Parquet, file by file; returns how many."""
    names = {"stage": pa.string(), "run": pa.string(), "step": pa.uint32(), "kind": pa.string()}
    layout = pa.schema({**names, "shard": pa.string(), "row": pa.uint32(), "epoch": pa.uint32()})
    total = 0
    with pq.ParquetWriter(path, layout, compression="zstd") as writer:
        for run, until in _parts(runs, step):
            for source, where in _paths(run):
                listing = read_documents(source, where)
                kept = listing.steps < until
                groups = np.repeat(np.arange(len(listing.groups)), listing.sizes)[kept]
                columns = {name: _spread([getattr(g, name) for g in listing.groups], groups) for name in Group._fields}
                whole = {"stage": run.stage, "run": run.manifest.digest}
                columns |= {name: _spread([value], np.zeros(len(groups), np.int64)) for name, value in whole.items()}
                columns |= {"step": listing.steps[kept], "row": listing.rows[kept]}
                writer.write_table(pa.table([columns[name] for name in layout.names], schema=layout))
                total += len(groups)
    return total


def _spread(values: list[str] | list[int], places: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> pa.Array:
    return pa.array(values, pa.string() if values and isinstance(values[0], str) else pa.uint32()).take(places)


def _parts(runs: Sequence[Run], step: int | None) -> Iterator[tuple[Run, int]]:
    """Each run with the step that it counts to."""
    for run in runs:
        num_steps = len(run.steps().step)
        last = run is runs[-1]
        if last and step is not None and not 0 <= step <= num_steps:
            raise UserError(f"--step is {step}; {run.label} has the steps 0 to {num_steps}.")
        yield run, num_steps if step is None or not last else step


def _paths(run: Run) -> Iterator[tuple[Path, str]]:
    for _, entry in run.files():
        yield run.manifest.local(entry), run.where(entry)


def _answer(uses: Sequence[Use], runs: Sequence[Run]) -> Iterator[str]:
    """A line a use, then when each model first saw it: its own run, or one that it started from."""
    yield from (use.line() for use in uses)
    first: dict[str, tuple[Run, int]] = {}
    for use in uses:
        digest = use.run.manifest.digest
        if digest not in first or use.steps[0] < first[digest][1]:
            first[digest] = (use.run, use.steps[0])
    for run in runs:
        base = base_of(run, [other.manifest for other in runs])
        inherited = first.get(base.digest) if base else None
        own = first.get(run.manifest.digest)
        if inherited:
            first[run.manifest.digest] = inherited
        origin = first.get(run.manifest.digest)
        if origin is None:
            continue
        seen = f"first at step {origin[1]:,} of {origin[0].label}"
        checkpoints = f"its checkpoints from step {own[1] + 1:,} on" if own and not inherited else "all its checkpoints"
        yield f"seen by the model of {run.label} and {checkpoints}: {seen}"


def _tokens(run: Run, others: Sequence[Manifest]) -> Manifest:
    found = find_input(run.manifest, "tokens", others)
    if found is None:
        raise UserError(
            f"The token shards of {run.label} ({run.manifest.inputs.get('tokens', '')[:12]}) are not found; "
            "give --store with the store that holds them."
        )
    return found


def _key(uid: str) -> bytes:
    try:
        key = bytes.fromhex(uid)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise UserError(f"--uid is {uid!r}; give the 32 hexadecimal digits of a sample.")
    return key
