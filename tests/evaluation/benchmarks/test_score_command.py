"""`arm score`: the table, the files, the protocol; what a user gets wrong; and the layouts that can be read."""

import importlib
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from arm import cli
from arm.errors import UserError
from arm.evaluation.benchmarks import registry
from arm.evaluation.benchmarks.config import Mode, ScoreConfig
from arm.evaluation.benchmarks.reading import open_files, open_given
from arm.evaluation.benchmarks.result import CHECKED, NOT_CHECKED, make_result, prompt_hash, scores_row

ROWS = [{"question_id": str(n), "prediction": "A", "gt_answer": "A" if n else "B"} for n in range(4)]
MODES: tuple[Mode, ...] = ("official", "corrected")


def test_scores_and_items_are_written_with_their_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "prompt.txt").write_text("Answer with a letter.")
    arguments = ["score", "--benchmark", "seed", "--results", str(tmp_path / "predictions.jsonl"), "--revision", "abc"]
    cli.main([*arguments, "--prompt", str(tmp_path / "prompt.txt"), "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "refused   17993 of 17997 items have no score (0 failed)" in printed
    assert "not checked against the official program" in printed
    scores = json.loads((tmp_path / "out/seed/scores.json").read_text())
    assert scores["refused"] == "17993 of 17997 items have no score (0 failed)"
    assert "all" not in scores["estimates"]
    assert scores["protocol"]["prompt_sha256"] == prompt_hash("Answer with a letter.")
    assert (scores["protocol"]["revision"], scores["protocol"]["num_missing"]) == ("abc", 17993)
    items = [json.loads(line) for line in (tmp_path / "out/seed/items.jsonl").read_text().splitlines()]
    assert [item["strict"] for item in items] == [False, True, True, True]
    assert items[0]["reasons"] == ["answered 'A', expected 'B'"]


def test_what_is_missing_and_whose_the_right_answers_are_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of SEED-Bench's two questions one is answered, and one answer is to neither."""
    lines = [json.dumps({"question_id": uid, "prediction": "A", "gt_answer": "B"}) for uid in ("1", "9")]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    questions = [{"question_id": uid, "answer": "A", "data_type": "image"} for uid in ("1", "2")]
    (tmp_path / "mine.json").write_text(json.dumps({"questions": questions}))
    arguments = ["score", "--benchmark", "seed", "--results", str(tmp_path / "predictions.jsonl")]
    cli.main([*arguments, "--output", str(tmp_path / "out")])
    assert "note: the right answers are those that the results themselves name" in capsys.readouterr().out
    cli.main([*arguments, "--output", str(tmp_path / "out"), "--data", str(tmp_path / "mine.json")])
    printed = capsys.readouterr().out
    assert "2 expected, 1 scored, 0 failed, 1 missing; not checked" in printed
    assert "note: 1 answers to questions that the data do not have" in printed
    assert "results themselves" not in printed


@pytest.mark.parametrize("name", ["geneval", "mmbench", "seed", "imagenet"])
def test_data_that_are_named_must_hold_what_the_benchmark_reads(tmp_path: Path, name: str) -> None:
    """A folder without it is refused; one file is read whatever its name, and here not as JSON or a table."""
    row = {"question_id": "1", "prediction": "A", "gt_answer": "A", "index": "1", "image": "a", "label": "b"}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.txt").write_text("?")
    results = open_files(str(tmp_path / "predictions.jsonl"))
    for place, sentence in (
        ("data", "data holds no .* get it from"),
        ("data/mine.txt", "mine.txt (has no|is not JSON)"),
    ):
        with pytest.raises(UserError, match=sentence):
            registry.score(name, results, open_given(str(tmp_path / place)), ScoreConfig())


def test_data_that_a_benchmark_does_not_read_are_noted(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text('{"prompt_id": 1, "consistency": 2, "realism": 2, "aesthetic_quality": 2}\n')
    results, data = open_files(str(tmp_path)), open_given(str(tmp_path / "scores.jsonl"))
    notes = registry.score("wise", results, data, ScoreConfig()).protocol.notes
    assert notes == (f"nothing was read of the data at {tmp_path}",)


def test_several_files_that_one_pattern_fits_are_named(tmp_path: Path) -> None:
    """An earlier pattern that one file fits decides; else nobody knows which is meant."""
    for name in ("old_predictions.jsonl", "new_predictions.jsonl"):
        (tmp_path / name).write_text(json.dumps(ROWS[0]) + "\n")
    sentence = r"holds 2 files that fit \*prediction\* .*: new_predictions.jsonl, old_predictions.jsonl; leave one"
    with pytest.raises(UserError, match=sentence):
        registry.score("seed", files := open_files(str(tmp_path)), files, ScoreConfig())
    (tmp_path / "seed-bench-1.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    assert registry.score("seed", open_files(str(tmp_path)), files, ScoreConfig()).protocol.num_scored == 1


@pytest.mark.parametrize("name", ["dpg", "imgedit", "mmmu", "seed", "vqav2"])
def test_only_the_official_rule_can_have_been_checked(name: str) -> None:
    published = importlib.import_module(f"arm.evaluation.benchmarks.{name}").PUBLISHED
    found = {
        mode: make_result(published, ScoreConfig(mode=mode), items=[], estimates={}, num_expected=0).protocol.checked
        for mode in MODES
    }
    assert found["official"] == {"all": NOT_CHECKED if name == "seed" else CHECKED}
    assert found["corrected"] == {"all": NOT_CHECKED}


def test_half_an_emoji_in_an_answer_is_written_as_a_question_mark(tmp_path: Path) -> None:
    row = {"question_id": "1", "prediction": "half \ud83d", "gt_answer": "A"}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    cli.main(["score", "--benchmark", "seed", "--results", str(tmp_path), "--output", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out/seed/items.jsonl").read_text())["answer"] == "half ?"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--benchmark", "sed"], "There is no benchmark 'sed'; did you mean 'seed'?"),
        (["--benchmark", "pope", "--mode", "corrected"], "pope has no corrected mode"),
        (["--benchmark", "seed", "--results", "nowhere"], "There is no file below nowhere"),
        (["--benchmark", "seed", "--bootstraps", "5"], "num_bootstraps is 5; an interval needs at least 100"),
        (["--benchmark", "seed", "--prompt", "nowhere"], "--prompt 'nowhere' cannot be read"),
        (["--benchmark", "geneval", "--data", "nowhere"], "There is no file below nowhere"),
        (["--benchmark", "wise"], "has no 'prompt_id'; it has 'question_id'"),
    ],
)
def test_an_error_is_one_sentence(
    tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "predictions.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(SystemExit):
        cli.main(["score", "--results", str(tmp_path), "--output", str(tmp_path / "out"), *arguments])
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_every_benchmark_is_found_and_names_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("nothing to score")
    for name in registry.SCORERS:
        with pytest.raises(UserError, match=r"holds no .* get it from .*\(.+\)"):
            registry.score(name, open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())


def test_the_same_rows_are_read_from_every_layout(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "b.jsonl").write_text("\n".join(lines) + "\n\n")
    (tmp_path / "c.json").write_text(",\n".join(lines))
    (tmp_path / "d.tsv").write_text("\n".join(["\t".join(ROWS[0]), *("\t".join(row.values()) for row in ROWS)]))
    (tmp_path / "e.csv").write_text(
        "\ufeff" + "\n".join([",".join(ROWS[0]), *(",".join(row.values()) for row in ROWS)])
    )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "f.parquet")
    files = open_files(str(tmp_path))
    for name in files.names:
        assert files.rows(name) == ROWS, name


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "Line 2 of .*a.jsonl is not JSON"),
        ("a.tsv", b"a\tb\n1\n", "Line 2 of .*a.tsv has not as many cells as the header"),
        ("a.parquet", b"PAR1", "a.parquet is not Parquet"),
        ("a.json", b"\xff\xfe", "a.json is not UTF-8 text"),
        ("a.json", b"[1, 2]", "a.json does not hold objects"),
        ("a.xlsx", b"x", "a.xlsx has no table's suffix"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        open_files(str(tmp_path)).rows(name)


@pytest.mark.parametrize(
    ("benchmark", "name", "field"),
    [("seed", "predictions.jsonl", "gt_answer"), ("imagenet", "predictions.jsonl", "prediction"),
     ("mmbench", "predictions.jsonl", "prediction"), ("mmmu", "responses.jsonl", "response"),
     ("gedit_en", "scores.csv", "group"), ("wise", "scores.jsonl", "prompt_id")],
)  # fmt: skip
def test_a_row_is_named_with_its_file_and_counted_from_1(tmp_path: Path, benchmark: str, name: str, field: str) -> None:
    keys = (
        "question_id",
        "prediction",
        "gt_answer",
        "index",
        "image",
        "label",
        "id",
        "question_type",
        "answer",
        "response",
    )
    rows = [dict.fromkeys((*keys, "group", "prompt_id"), str(number)) for number in range(2)]
    del rows[1][field]
    content = "x,y\n1,2\n" if name.endswith("csv") else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_text(content)
    sentence = rf"Row {1 if name.endswith('csv') else 2} of .*{name} has no '{field}'"
    with pytest.raises(UserError, match=sentence):
        registry.score(benchmark, open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())


def test_rows_of_another_layout_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "predictions.tsv").write_text("index\tA\tB\tanswer\tprediction\nfirst\tx\ty\tA\tA\n")
    with pytest.raises(UserError, match=r"is not in the layout of mmbench .*invalid literal.*mmbench.py"):
        registry.score("mmbench", files := open_files(str(tmp_path)), files, ScoreConfig())


def test_a_refused_headline_is_not_printed_by_the_back_door(tmp_path: Path) -> None:
    """One prompt a category is enough for WISE's overall score, but 994 of 1,000 are missing."""
    rows = [
        {"prompt_id": n, "consistency": 2, "realism": 2, "aesthetic_quality": 2} for n in (1, 401, 568, 701, 801, 901)
    ]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = registry.score("wise", files := open_files(str(tmp_path)), files, ScoreConfig())
    assert found.details["printed"][0] == "Overall WiScore: 1.00"
    written = scores_row(found)
    assert "overall" not in written["estimates"]
    assert "printed" not in written["details"]
