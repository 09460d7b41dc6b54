"""The proof that a run consumed its plan: every step once, every document once an epoch, nothing left out.

    steps files       the steps 0 to n − 1, each once
    documents files   list, step by step, as many documents as the ranks fed, with the same identities
    repeats           a (kind, shard, row) once an epoch; an epoch comes after the one before (but for open rows)
    plan/             holds the same documents and tokens at each step
    attempts          a step that a kill lost was done again with the same tokens

What the ranks counted comes from the batches that they built; the lists come from the plan: two ways that must agree. The
tokens themselves are proved by `arm.training.ledger.tokens`, which reads the shards again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.errors import IntegrityError
from arm.manifest import FileEntry, Manifest
from arm.model.documents import KINDS
from arm.training.ledger.attempts import Attempt, read_attempts
from arm.training.ledger.chain import Run, base_of
from arm.training.ledger.format import Group, Listing, Steps, read_documents, read_groups
from arm.training.ledger.identity import identities, shard_keys, sums_by_step
from arm.training.ledger.repeats import SeenDocuments, last_files

PLAN = "plan/rows-"
_PLAN_COLUMNS = ("step", "row", "kind", "shard", "shard_row", "epoch", "length")

PlanColumns = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved of a run."""

    run: Run
    steps: Steps
    attempts: list[Attempt]
    num_epochs: int
    num_late: int

    def line(self) -> str:
        """The counts in one line."""
        again = sum(len(attempt.lost) for attempt in self.attempts)
        begun = f"begun {len(self.attempts)} times, {again} steps done again" if self.attempts else "attempts unknown"
        late = f", {self.num_late:,} documents packed after their next epoch" if self.num_late else ""
        return (
            f"{self.run.label}: {len(self.steps.step):,} steps, {self.steps.documents.sum():,} documents, "
            f"{self.steps.tokens.sum():,} tokens, {self.num_epochs} epoch{'s' if self.num_epochs > 1 else ''}, {begun}{late}"
        )


def verify_all(runs: Sequence[Run], others: Sequence[Manifest], *, tokens: bool) -> Iterator[str]:
    """Prove runs one after the other, each from the published end of the one that it started from; a line each."""
    known = [*(run.manifest for run in runs), *others]
    for run in runs:
        base = base_of(run, known)
        start = f"from the end of {Run(base).label}" if base else "from a language model"
        line = f"{verify(run).line()}, {start}"
        if tokens:
            from arm.training.ledger.tokens import verify_tokens

            equal, withdrawn = verify_tokens(run, known)
            line += f", tokens of {equal:,} steps built again and equal"
            line += f", {withdrawn:,} steps fed documents that were taken down since" if withdrawn else ""
        yield line


def verify(run: Run) -> Proof:
    """Prove a run; IntegrityError names the first step where something does not hold."""
    try:
        return _proof(run)
    except IntegrityError as error:
        raise IntegrityError(f"{run.label} does not verify: {error}") from None


def _proof(run: Run) -> Proof:
    files = run.files()
    steps = run.steps()
    _check_steps(run, steps)
    manifest = run.manifest
    seen = SeenDocuments(last_files(_groups(manifest.local(entry), run.where(entry)) for _, entry in files))
    place = 0
    for number, (counted, documents) in enumerate(files):
        last = place + pq.read_metadata(manifest.local(counted)).num_rows
        listing = read_documents(manifest.local(documents), run.where(documents))
        _check_listing(listing, steps, place, last, documents)
        try:
            seen.add(number, listing)
        except IntegrityError as error:
            raise IntegrityError(f"{error} ({documents.path}).") from None
        place = last
    seen.check_epochs(_most_open(run, _check_plan(run, steps)))
    attempts = read_attempts(manifest.folder)
    _check_attempts(attempts, steps)
    return Proof(run, steps, attempts, seen.num_epochs, seen.num_late)


def _check_steps(run: Run, steps: Steps) -> None:
    """Every step once, as many as the manifest counts."""
    wrong = np.flatnonzero(steps.step != np.arange(len(steps.step)))
    if len(wrong):
        raise IntegrityError(f"step {wrong[0]} is missing: step {steps.step[wrong[0]]} stands in its place.")
    counts = {"steps": len(steps.step), "documents": steps.documents.sum(), "tokens": steps.tokens.sum()}
    for name, found in counts.items():
        declared = run.manifest.counts.get(name)
        if found != declared:
            last = f"; step {found} is missing" if name == "steps" else ""
            raise IntegrityError(f"the ledger holds {found} {name}, the manifest counts {declared}{last}.")


def _check_listing(listing: Listing, steps: Steps, first: int, last: int, entry: FileEntry) -> None:
    """The documents file lists what the ranks fed at the steps `first` to `last` − 1."""
    outside = listing.steps[(listing.steps < first) | (listing.steps >= last)]
    if len(outside):
        raise IntegrityError(
            f"step {first} is not in {entry.path}, which lists step {outside.min()}: it should hold the steps {first} to {last - 1}."
        )
    places = listing.steps.astype(np.int64) - first
    counts = np.bincount(places, minlength=last - first)
    _raise_first(
        counts != steps.documents[first:last],
        lambda i: f"step {first + i} fed {steps.documents[first + i]} documents, {entry.path} lists {counts[i]}.",
    )
    sums = sums_by_step(_hashes(listing), places, last - first)
    _raise_first(
        sums != steps.identity[first:last],
        lambda i: f"step {first + i} fed other documents than {entry.path} lists.",
    )


def _hashes(listing: Listing) -> npt.NDArray[np.uint64]:
    sizes = listing.sizes
    kinds = np.repeat(_kind_numbers([group.kind for group in listing.groups]), sizes)
    keys = np.repeat(shard_keys([group.shard for group in listing.groups]), sizes)
    epochs = np.repeat(np.asarray([group.epoch for group in listing.groups], np.int64), sizes)
    return identities(kinds, keys, listing.rows, epochs)


def _kind_numbers(kinds: list[str]) -> npt.NDArray[np.int64]:
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise IntegrityError(f"{unknown[0]!r} is no kind of document.")
    return np.asarray([KINDS.index(kind) for kind in kinds], np.int64)


def _groups(path: Path, where: str) -> list[Group]:
    table = read_groups(path, where)
    return [Group(*values) for values in zip(*(table[name].to_pylist() for name in Group._fields), strict=True)]


def _most_open(run: Run, shortest: int) -> int:
    """Documents that the open rows of the packing can hold at once."""
    config = run.manifest.config
    return int(config["mixture"]["window_rows"] * (config["sequence_length"] // max(shortest, 1)))


def _check_plan(run: Run, steps: Steps) -> int:
    """The plan beside the ledger holds the same documents and tokens at each step; returns the shortest length.

    Where a source stopped the stage, rows that do not fill a step follow the last one, and nobody read them.
    """
    num_steps, shortest, rows_per_step = len(steps.step), 2**32, int(run.manifest.config["rows_per_step"])
    planned = Steps(**{name: np.zeros(num_steps, getattr(steps, name).dtype) for name in Steps.__slots__})
    for step, row, hashes, lengths in _planned(run):
        read = step < num_steps
        if not read.all():
            if row.max() + 1 >= (num_steps + 1) * rows_per_step:
                raise IntegrityError(f"the plan goes on at step {num_steps}, where the ledger ends.")
            step, hashes, lengths = step[read], hashes[read], lengths[read]
        if not len(step):
            continue
        shortest = min(shortest, int(lengths.min(initial=shortest)))
        first, last = int(step.min()), int(step.max())
        here, size = slice(first, last + 1), last + 1 - first
        planned.documents[here] += np.bincount(step - first, minlength=size)
        planned.tokens[here] += np.bincount(step - first, weights=lengths, minlength=size).astype(np.int64)
        planned.identity[here] += sums_by_step(hashes, step - first, size)
    _compare("documents", steps.documents, planned.documents)
    _compare("tokens", steps.tokens, planned.tokens)
    _raise_first(
        steps.identity != planned.identity % np.uint64(1 << 62),
        lambda i: f"step {i} fed other documents than the plan has.",
    )
    return shortest


def _compare(what: str, fed: npt.NDArray[np.int64], planned: npt.NDArray[np.int64]) -> None:
    _raise_first(fed != planned, lambda i: f"step {i} fed {fed[i]} {what}, the plan has {planned[i]}.")


def _planned(run: Run) -> Iterator[PlanColumns]:
    """Steps, rows, hashes and lengths of the plan's documents, row group by row group."""
    entries = run.manifest.select(PLAN, ".parquet")
    if not entries:
        raise IntegrityError(f"there is no plan beside the ledger in {run.manifest.folder.url}.")
    for entry in entries:
        try:
            with pq.ParquetFile(run.manifest.local(entry)) as file:
                groups = range(file.num_row_groups)
                yield from (_columns(file.read_row_group(number, columns=list(_PLAN_COLUMNS))) for number in groups)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise IntegrityError(f"{run.where(entry)} is no file of a plan ({error}).") from None


def _columns(table: pa.Table) -> PlanColumns:
    step, row, rows, epochs, lengths = (
        np.asarray(table[name]).astype(np.int64) for name in ("step", "row", "shard_row", "epoch", "length")
    )
    kinds, kind_names = _encoded(table["kind"])
    shards, shard_names = _encoded(table["shard"])
    keys = shard_keys(shard_names)[shards]
    return step, row, identities(_kind_numbers(kind_names)[kinds], keys, rows, epochs), lengths


def _encoded(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], list[str]]:
    """A column of words as numbers into its distinct words."""
    plain = column.cast(pa.string()).combine_chunks()
    array = plain if isinstance(plain, pa.Array) else pa.concat_arrays(plain.chunks)
    encoded = array.dictionary_encode()
    return np.asarray(encoded.indices).astype(np.int64), encoded.dictionary.to_pylist()


def _check_attempts(attempts: list[Attempt], steps: Steps) -> None:
    """Attempts follow one another, and what was done again came out the same."""
    for before, after in pairwise(attempts):
        if after.first > before.end:
            raise IntegrityError(f"step {before.end} was done by no attempt: the next began at step {after.first}.")
    for attempt in attempts:
        for step, digest, identity in attempt.lost:
            if step >= len(steps.step):
                continue
            same_tokens = digest == int(steps.digest[step]) or attempt.tombstones != _tombstones_at(step, attempts)
            if not same_tokens or identity != int(steps.identity[step]):
                raise IntegrityError(f"step {step} fed other tokens when it was done again after a kill.")


def _tombstones_at(step: int, attempts: list[Attempt]) -> str:
    """What was refused when a step was done for good, by the last attempt that did it: then other tokens may be fed."""
    return next((attempt.tombstones for attempt in reversed(attempts) if attempt.first <= step), "")


def _raise_first(wrong: npt.NDArray[np.bool_], sentence: Callable[[int], str]) -> None:
    places = np.flatnonzero(wrong)
    if len(places):
        raise IntegrityError(sentence(int(places[0])))
