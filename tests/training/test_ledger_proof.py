"""The proof that nothing was left out or repeated, and who saw what: `arm ledger`."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_ledger import SHARDS, STEPS, Columns, columns, consumed, make_run, publish, record, write_plan

from arm import cli
from arm.errors import IntegrityError, UserError
from arm.manifest import NAME
from arm.training.ledger.chain import open_chains
from arm.training.ledger.format import Listing, read_documents, write_documents
from arm.training.ledger.query import query_shard, seen, uses_of
from arm.training.ledger.verification import verify


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of five steps."""
    return make_run(tmp_path / "pretrain")


def failure(output: Path) -> str:
    """The sentence that verification ends with."""
    with pytest.raises(IntegrityError) as caught:
        verify(open_chains([str(output)])[0])
    return str(caught.value).split("does not verify: ")[1]


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a Parquet file as somebody would who also rewrites the manifest."""
    pq.write_table(change(pq.read_table(path)), path)
    publish(path.parents[1])


def edited(output: Path, name: str, change: Callable[[Listing], Listing]) -> None:
    """Change what a documents file lists."""
    path = output / "ledger" / name
    write_documents(path, change(read_documents(path, name)))
    publish(output)


def test_a_removed_step_does_not_verify(run: Path) -> None:
    rewrite(run / "ledger" / "steps-00001.parquet", lambda t: t.slice(1))
    assert failure(run) == "step 2 is missing: step 3 stands in its place."


def test_a_missing_last_step_does_not_verify(run: Path) -> None:
    for path in (run / "ledger").glob("*-00002.parquet"):
        path.unlink()
    publish(run)
    assert failure(run) == "the ledger holds 4 steps, the manifest counts 5; step 4 is missing."


def test_a_document_that_is_not_listed_does_not_verify(run: Path) -> None:
    def drop_last(listing: Listing) -> Listing:
        return Listing(listing.groups[:-1], listing.starts[:-1], listing.rows[:-1], listing.steps[:-1])

    edited(run, "documents-00001.parquet", drop_last)
    assert failure(run) == "step 2 fed 2 documents, ledger/documents-00001.parquet lists 1."


def test_another_document_in_its_place_does_not_verify(run: Path) -> None:
    edited(run, "documents-00000.parquet", lambda x: dataclasses.replace(x, rows=x.rows + np.uint32(1)))
    assert failure(run) == "step 0 fed other documents than ledger/documents-00000.parquet lists."


def test_swapped_files_do_not_verify(run: Path) -> None:
    a, b = run / "ledger" / "documents-00000.parquet", run / "ledger" / "documents-00001.parquet"
    (run / "spare").write_bytes(a.read_bytes())
    shutil.copyfile(b, a)
    shutil.move(run / "spare", b)
    publish(run)
    assert failure(run).startswith("step 0 is not in ledger/documents-00000.parquet, which lists step 2")


def test_a_truncated_or_altered_file_does_not_verify(run: Path) -> None:
    path = run / "ledger" / "documents-00000.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert "documents-00000.parquet is truncated or altered" in failure(run)
    publish(run)
    assert "documents-00000.parquet is no Parquet file, or damaged" in failure(run)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([*STEPS[:4], columns(("text", 0, 0, 0, 9))], "step 4 repeats a document: row 0 of default/a-00000 as text, "),
        ([*STEPS[:4], columns(("caption", 2, 7, 0, 9))], "step 4 repeats a document: row 7 of default/b-00000 as "),
        ([*STEPS[:3], columns(*[("text", 0, 1, 0, 5)] * 2), STEPS[4]], "step 3 repeats a document: row 1 of default/a"),
    ],
)
def test_a_document_repeated_within_its_epoch_does_not_verify(
    tmp_path: Path, steps: list[Columns], sentence: str
) -> None:
    """Across files and within one; the ranks, the plan and the manifest all agree with it."""
    record(tmp_path, steps)
    write_plan(tmp_path, steps)
    publish(tmp_path, tokens=sum(int(step[4].sum()) for step in steps))
    assert failure(tmp_path).startswith(sentence)


def test_another_plan_does_not_verify(run: Path) -> None:
    write_plan(run, [*STEPS[:3], columns(("text", 0, 1, 0, 7), ("text", 0, 0, 1, 6)), STEPS[4]])
    publish(run)
    assert failure(run) == "step 3 fed other documents than the plan has."
    write_plan(run, [*STEPS, STEPS[4]])
    publish(run)
    assert failure(run) == "the plan goes on at step 5, where the ledger ends."
    write_plan(run, [*STEPS[:4], columns(("caption", 2, 7, 1, 8))])
    publish(run)
    assert failure(run) == "step 4 fed 9 tokens, the plan has 8."


def test_rows_that_fill_no_step_may_follow_where_a_source_stopped_the_stage(run: Path) -> None:
    """The plan's last row is number 5: of two rows a step it is half of step 2, and of one row a step the whole step 5."""
    path = run / "plan" / "rows-00001.parquet"
    table = pq.read_table(path)
    more = table.slice(len(table) - 1).to_pylist()[0] | {"step": 5, "row": 5}
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist([more], schema=table.schema)]), path)
    publish(run)
    assert failure(run) == "the plan goes on at step 5, where the ledger ends."
    publish(run, rows_per_step=2)
    assert verify(open_chains([str(run)])[0]).steps.step.tolist() == [0, 1, 2, 3, 4]


def test_an_epoch_that_comes_before_the_one_before_it_does_not_verify(tmp_path: Path) -> None:
    """One open row of 10 tokens holds at most two documents of five: three that come late were not waiting there."""
    late = [columns(*(("text", 0, row, epoch, 5) for row in range(3))) for epoch in (1, 0)]
    for number, (count, sentence) in enumerate([(3, "3 text documents of epoch 0 came after"), (2, "")]):
        output = tmp_path / str(number)
        steps = [Columns(*(c[:count] for c in step)) for step in late]
        record(output, steps)
        write_plan(output, steps)
        publish(output, steps=2, documents=2 * count, tokens=10 * count)
        if sentence:
            assert failure(output).startswith(sentence)
        else:
            assert "2 documents packed after their next epoch" in verify(open_chains([str(output)])[0]).line()


def test_a_step_done_again_with_other_tokens_does_not_verify(run: Path) -> None:
    lost = {"attempt": 0, "ranks": 2, "first": 0, "end": 4, "lost": [[3, 7, consumed(3, STEPS[3])[3]]]}
    follow = {"attempt": 1, "ranks": 1, "first": 3, "end": 5, "lost": []}
    (run / "view" / "attempts.jsonl").write_text(f"{json.dumps(lost)}\n{json.dumps(follow)}\n")
    assert failure(run) == "step 3 fed other tokens when it was done again after a kill."
    (run / "view" / "attempts.jsonl").write_text(f"{json.dumps(lost)}\n{json.dumps({**follow, 'first': 5})}\n")
    assert failure(run) == "step 4 was done by no attempt: the next began at step 5."


@pytest.fixture
def chain(tmp_path: Path, run: Path) -> list[Path]:
    """pretrain, continue and finetune, each from the one before."""
    outputs, base = [run], open_chains([str(run)])[0].manifest.digest
    for stage in ("continue", "finetune"):
        output = tmp_path / stage
        steps = STEPS[:3] if stage == "continue" else STEPS[3:]
        record(output, steps)
        write_plan(output, steps)
        counts = {
            "steps": len(steps),
            "documents": sum(len(s[0]) for s in steps),
            "tokens": sum(int(s[4].sum()) for s in steps),
        }
        base = publish(output, stage=stage, base=base, **counts).digest
        provenance = {"inputs": {"base": str(outputs[-1] / NAME)}}
        (output / "run.json").write_text(json.dumps(provenance))
        outputs.append(output)
    return outputs


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """What `arm ledger` prints."""
    cli.main(["ledger", *map(str, arguments)])
    return capsys.readouterr().out.splitlines()


def test_a_chain_verifies_from_its_last_run(chain: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "verify", chain[-1])
    assert [line.split()[0] for line in lines] == ["pretrain", "continue", "finetune"]
    assert lines[0].endswith("from a language model")
    assert lines[2].endswith(f"from the end of {' '.join(lines[1].split()[:2])[:-1]}")


def test_a_chain_whose_earlier_run_was_made_anew_does_not_verify(
    chain: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    publish(chain[0], steps=5, extra=1)
    with pytest.raises(SystemExit) as caught:
        cli.main(["ledger", "verify", *map(str, chain)])
    assert caught.value.code == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("continue ")
    assert "which is none of the given runs and not at" in sentence


def test_a_run_that_does_not_verify_ends_with_one_sentence_and_code_1(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(run / "ledger" / "steps-00001.parquet", lambda t: t.slice(1))
    with pytest.raises(SystemExit) as caught:
        cli.main(["ledger", "verify", str(run)])
    assert caught.value.code == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.endswith("does not verify: step 2 is missing: step 3 stands in its place.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["verify", "absent"], "absent holds no manifest.json: not an artifact, or its job has not finished; run that"),
        (["verify", "--store", "absent"], "The store absent holds no output of train-model; give its folder."),
        (["query", "RUN"], "One of the arguments --uid --shard is required; see `arm ledger query --help`."),
        (["query", "--uid", "xyz", "RUN"], "--uid is 'xyz'; give the 32 hexadecimal digits of a sample."),
        (["query", "--uid", "0" * 32, "RUN"], "(111111111111) are not found; give --store with the store that holds"),
        (["seen", "--step", "6", "RUN"], "--step is 6; pretrain"),
        (
            ["seen", "--write", "absent/seen.parquet", "RUN"],
            "--write 'absent/seen.parquet' is no file that can be written",
        ),
        (["forget"], "invalid choice: 'forget' (choose from"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    run: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["ledger", *(str(run) if argument == "RUN" else argument for argument in arguments)])
    assert caught.value.code == 1
    (printed_sentence,) = capsys.readouterr().err.splitlines()
    assert sentence in printed_sentence


def test_a_shard_is_seen_by_every_model_that_came_after(chain: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    runs = open_chains([str(chain[-1])])
    labels = [run.label for run in runs]
    assert printed(capsys, "query", "--shard", SHARDS[1], chain[-1]) == [
        f"{labels[0]}  text  {SHARDS[1]}  epoch 0  1 document  step 1",
        f"{labels[0]}  text  {SHARDS[1]}  epoch 0  1 document  step 2",
        f"{labels[1]}  text  {SHARDS[1]}  epoch 0  1 document  step 1",
        f"{labels[1]}  text  {SHARDS[1]}  epoch 0  1 document  step 2",
        f"seen by the model of {labels[0]} and its checkpoints from step 2 on: first at step 1 of {labels[0]}",
        f"seen by the model of {labels[1]} and all its checkpoints: first at step 1 of {labels[0]}",
        f"seen by the model of {labels[2]} and all its checkpoints: first at step 1 of {labels[0]}",
    ]


def test_all_runs_that_are_given_are_asked(chain: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "query", "--shard", SHARDS[1], chain[1], chain[0])
    assert [line.split()[0] for line in lines] == ["pretrain"] * 2 + ["continue"] * 2 + ["seen"] * 2


def test_an_unknown_shard_lists_the_known(run: Path) -> None:
    with pytest.raises(UserError, match="No document of a shard 'x' was consumed by these runs; they read default/a"):
        list(query_shard(open_chains([str(run)]), "x"))


def test_what_a_checkpoint_has_seen_is_counted_and_listed(
    chain: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, "seen", chain[0], "--step", 3)
    label = open_chains([str(chain[0])])[0].label
    assert lines == [
        f"{label}  steps 0 to 2  caption  epoch 0  2 documents",
        f"{label}  steps 0 to 2  text  epoch 0  4 documents",
        "6 documents",
    ]
    listed = tmp_path / "seen.parquet"
    assert printed(capsys, "seen", chain[1], "--step", 1, "--write", listed) == [f"11 documents listed in {listed}"]
    table = pq.read_table(listed).to_pylist()
    assert sum(row["stage"] == "pretrain" for row in table) == 9
    last = [(row["step"], row["kind"], row["shard"], row["row"], row["epoch"]) for row in table[9:]]
    assert last == [(0, "text", SHARDS[0], 0, 0), (0, "caption", SHARDS[2], 7, 0)]
    with pytest.raises(UserError, match=r"--step is 9; pretrain .* has the steps 0 to 5"):
        list(seen(open_chains([str(chain[0])]), 9, None))


def test_a_row_is_found_among_the_documents_of_its_shard(run: Path) -> None:
    (opened,) = open_chains([str(run)])
    assert [use.steps for use in uses_of(opened, SHARDS[0], row=2)] == [(1,), (3,)]
    assert list(uses_of(opened, SHARDS[0], row=3)) == []
