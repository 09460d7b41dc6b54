"""The ledger's files: what each step consumed, in two bytes a document, the same after a kill."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_up_ledger import KEYS, SHARDS, STEPS, Columns, columns, make_run, publish, record, write_plan

from arm.manifest import entries_of
from arm.storage import LocalFolder
from arm.training.ledger.attempts import AttemptsLog, read_attempts
from arm.training.ledger.chain import open_chains
from arm.training.ledger.format import Group, Listing, read_documents, read_steps, write_documents
from arm.training.ledger.identity import MODULUS, identity_sum, shard_keys, sums_by_step
from arm.training.ledger.recorder import Recorder
from arm.training.ledger.verification import verify


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of five steps."""
    return make_run(tmp_path / "pretrain")


def test_a_file_lists_documents_by_shard_with_gaps_and_steps(tmp_path: Path) -> None:
    rows, steps = np.asarray([0, 2, 3, 4, 7], np.uint32), np.asarray([11, 10, 11, 12, 10], np.uint32)
    listing = Listing([Group("text", "default/a", 0)], np.asarray([0, 5]), rows, steps)
    write_documents(tmp_path / "x.parquet", listing)
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == [{
        "kind": "text", "shard": "default/a", "epoch": 0, "first_row": 0, "last_row": 7, "first_step": 10,
        "last_step": 12, "gaps": [0, 2, 1, 1, 3], "steps": [1, 0, 1, 2, 0],
    }]  # fmt: skip
    read = read_documents(tmp_path / "x.parquet", "x")
    assert (read.groups, read.rows.tolist(), read.steps.tolist()) == (listing.groups, rows.tolist(), steps.tolist())


def test_the_sum_of_identities_notices_a_document_left_out_fed_twice_or_of_another_epoch() -> None:
    whole = identity_sum(*STEPS[0][:1], KEYS[STEPS[0][1]], *STEPS[0][2:4])
    others = [
        columns(("text", 0, 0, 0, 5)),
        columns(("text", 0, 0, 0, 5), ("caption", 2, 7, 0, 9), ("caption", 2, 7, 0, 9)),
        columns(("text", 0, 0, 1, 5), ("caption", 2, 7, 0, 9)),
        columns(("caption", 0, 0, 0, 5), ("text", 2, 7, 0, 9)),
        columns(("text", 0, 7, 0, 5), ("caption", 2, 0, 0, 9)),
    ]
    assert whole not in [identity_sum(d[0], KEYS[d[1]], d[2], d[3]) for d in others]
    dealt = [columns(("caption", 2, 7, 0, 9)), columns(("text", 0, 0, 0, 5))]
    assert sum(identity_sum(d[0], KEYS[d[1]], d[2], d[3]) for d in dealt) % MODULUS == whole


def test_sums_by_step_are_worked_out_by_hand() -> None:
    hashes, steps = np.asarray([5, 7, 9], np.uint64), np.asarray([1, 0, 1])
    assert sums_by_step(hashes, steps, 3).tolist() == [7, 14, 0]
    assert sums_by_step(hashes[:0], steps[:0], 2).tolist() == [0, 0]


def test_the_ledger_holds_each_step_once_in_files_of_two_steps(run: Path) -> None:
    steps = [read_steps(run / "ledger" / f"steps-{n:05d}.parquet", "x") for n in range(3)]
    assert [part.step.tolist() for part in steps] == [[0, 1], [2, 3], [4]]
    assert [part.documents.tolist() for part in steps] == [[2, 2], [2, 2], [1]]
    assert [part.tokens.tolist() for part in steps] == [[14, 10], [13, 13], [9]]
    listed = read_documents(run / "ledger" / "documents-00001.parquet", "x")
    assert listed.groups == [
        Group("text", SHARDS[0], 0), Group("text", SHARDS[0], 1), Group("text", SHARDS[1], 0), Group("caption", SHARDS[2], 0)
    ]  # fmt: skip
    assert (listed.rows.tolist(), listed.steps.tolist()) == ([1, 2, 0, 3], [3, 3, 2, 2])


def files(output: Path) -> dict[str, bytes]:
    """What a digest covers."""
    return {entry.path: (output / entry.path).read_bytes() for entry in entries_of(LocalFolder(output))}


@pytest.mark.parametrize(("killed", "checkpoint"), [(1, 0), (3, 2), (4, 3), (5, 3), (5, 4)])
def test_a_killed_run_gives_the_same_ledger_and_notes_the_steps_done_again(
    tmp_path: Path, run: Path, killed: int, checkpoint: int
) -> None:
    output = tmp_path / "killed"
    write_plan(output, STEPS)
    record(output, STEPS, stop=killed, close=False)
    record(output, STEPS, first=checkpoint)
    assert files(output) == files(run)
    first, second = read_attempts(LocalFolder(output))
    assert (first.first, first.end, [step for step, _, _ in first.lost]) == (0, killed, list(range(checkpoint, killed)))
    assert (second.first, second.end, second.lost) == (checkpoint, 5, [])
    publish(output)
    again = killed - checkpoint
    assert (
        f"5 steps, 9 documents, 59 tokens, 2 epochs, begun 2 times, {again} steps"
        in verify(open_chains([str(output)])[0]).line()
    )


def test_files_that_another_machine_never_had_are_written_from_the_checkpoint(tmp_path: Path, run: Path) -> None:
    output = tmp_path / "moved"
    write_plan(output, STEPS)
    record(output, STEPS, first=4)
    assert files(output) == files(run)


def test_a_torn_line_of_the_attempts_is_left_out(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    log = AttemptsLog(folder, num_ranks=1)
    log.begin(0)
    log.note(0, 11, 12)
    with (folder.scratch("ledger") / "attempts.jsonl").open("a") as stream:
        stream.write('{"step": 1, "dig')
    AttemptsLog(folder, num_ranks=4).begin(0)
    assert [(a.ranks, a.first, a.end, a.lost) for a in read_attempts(folder)] == [
        (1, 0, 1, [[0, 11, 12]]), (4, 0, 0, [])
    ]  # fmt: skip


def test_a_checkpoint_further_back_loses_the_steps_of_an_older_attempt_too(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    for first, stop in ((0, 3), (2, 4), (1, 1)):
        log = AttemptsLog(folder, num_ranks=1)
        log.begin(first)
        for step in range(first, stop):
            log.note(step, step, step)
    assert [[step for step, _, _ in attempt.lost] for attempt in read_attempts(folder)] == [[2], [1, 2, 3], []]


def window_order(num_documents: int, shard_rows: int, shards: int, seed: int) -> Iterator[Columns]:
    """Documents of seven kinds by their shares; each kind's lie shuffled inside windows of `shards` shards."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(7, size=num_documents, p=[0.05, 0.03, 0.07, 0.6, 0.1, 0.1, 0.05])
    shard_numbers, rows = np.zeros((2, num_documents), np.int64)
    for kind in range(7):
        here = np.flatnonzero(kinds == kind)
        window = shards * shard_rows
        order = np.concatenate([w * window + rng.permutation(window) for w in range(len(here) // window + 1)])
        shard_numbers[here], rows[here] = np.divmod(order[: len(here)], shard_rows)
    epochs, lengths = np.zeros_like(rows), np.full_like(rows, 500)
    order = np.argsort(np.arange(num_documents) // 1_000 * 1_000 + rng.integers(0, 1_500, num_documents), kind="stable")
    for part in np.array_split(order, num_documents // 1_000):
        yield Columns(*(column[part] for column in (kinds, shard_numbers, rows, epochs, lengths)))


def test_a_document_costs_less_than_two_bytes(tmp_path: Path) -> None:
    """1,000 steps of 1,000 documents: shards of 5,000, windows of 64; rows and best fit move a third by one step."""
    steps = list(window_order(1_000_000, 5_000, 64, seed=0))
    names = [f"default/unit-{number:05d}" for number in range(1 + max(int(step[1].max()) for step in steps))]
    keys = shard_keys(names)
    recorder = Recorder(LocalFolder(tmp_path), lambda step: steps[step], names, num_ranks=1)
    recorder.begin([])
    for step, (kinds, shards, rows, epochs, lengths) in enumerate(steps):
        digest = int.from_bytes(np.random.default_rng(step).bytes(7), "little")
        identity = identity_sum(kinds, keys[shards], rows, epochs)
        recorder.record([len(kinds), int(lengths.sum()), digest, identity])
    recorder.close()
    listing = read_documents(tmp_path / "ledger" / "documents-00000.parquet", "x")
    assert len(listing.rows) == 1_000_000
    size = sum(path.stat().st_size for path in (tmp_path / "ledger").iterdir())
    print(f"{size / 1e6:.3f} bytes a document")
    assert size < 2_000_000
    wanted = {(int(s), int(r)) for s, r in zip(steps[500][1], steps[500][2], strict=True)}
    groups = np.repeat(np.arange(len(listing.groups)), listing.sizes)[listing.steps == 500]
    found = [int(listing.groups[group].shard[-5:]) for group in groups]
    assert set(zip(found, listing.rows[listing.steps == 500].tolist(), strict=True)) == wanted
