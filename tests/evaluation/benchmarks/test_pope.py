"""POPE: the official program's printed lines, and its reading of answers."""

import json
from pathlib import Path

import pytest

from arm.errors import UserError
from arm.evaluation.benchmarks import pope
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.result import NOT_CHECKED


def test_the_printed_lines_and_the_reading_are_the_official_ones(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/pope"))
    expected = files.json("made_expected_official.json")
    found = pope.score(files, files, ScoreConfig())
    assert found.details["printed"] == {name: expected[name] for name in ("random", "popular")}
    assert [pope.parse(text) for text, _ in expected["parse_cases"]] == [
        answer for _, answer in expected["parse_cases"]
    ]
    assert found.scores.refused == "3000 of 9000 items have no score (0 failed)"
    assert found.protocol.checked["adversarial"] == NOT_CHECKED


def test_measures_of_a_published_confusion_matrix(shared: Path) -> None:
    published = json.loads((shared / "evaldata/pope/made_expected_official.json").read_text())["published"]["random"]
    found = pope.measures((published["TP"], published["FP"], published["TN"], published["FN"]))
    assert {name: found[name] for name in ("accuracy", "precision", "recall", "f1")} == {
        name: published[name] for name in ("accuracy", "precision", "recall", "f1")
    }


@pytest.mark.parametrize(
    ("reply", "answer"),
    [("no.yes", "no"), ("Yes. No", "yes"), ("a.b not", "yes"), ("no\n", "yes"), ("not,", "no"), ("\tno", "yes")],
)
def test_only_whole_words_between_blanks_in_the_first_sentence_deny(reply: str, answer: str) -> None:
    assert pope.parse(reply) == answer


def test_three_sets_give_the_mean_of_their_f1(tmp_path: Path) -> None:
    """random 2/2, popular one yes too many: P 1/2, R 1, F1 2/3; adversarial says no to all: F1 0. Mean 5/9."""
    answers = {"random": ("yes", "no"), "popular": ("yes", "yes"), "adversarial": ("no", "no")}
    for name, (first, second) in answers.items():
        labels = [{"question_id": 1, "label": "yes"}, {"question_id": 2, "label": "no"}]
        replies = [{"question_id": 2, "answer": second}, {"question_id": 1, "answer": first}]
        for file, rows in ((f"coco_pope_{name}.json", labels), (f"answers_{name}.jsonl", replies)):
            (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = open_files(str(tmp_path))
    found = pope.score(files, files, ScoreConfig())
    assert found.scores.estimates["mean_f1"].value == pytest.approx(5 / 9)
    # TP 2, FP 1, FN 1 together
    assert found.scores.estimates["pooled/f1"].value == pytest.approx(2 / 3)
    assert found.scores.refused is None


def test_what_says_neither_yes_nor_no_is_flagged_and_read_as_yes_all_the_same() -> None:
    replies = ("", "A dog.", "nope", "There is not.", "NO", "yes")
    found = [pope.judge("random/1", "random", "yes", reply) for reply in replies]
    assert [item.answer for item in found] == ["yes", "yes", "yes", "no", "yes", "yes"]
    assert [item.flags for item in found] == [("neither yes nor no",)] * 3 + [()] * 3


def test_answers_to_other_questions_are_noted_and_two_files_of_answers_refused(tmp_path: Path) -> None:
    for name in pope.SETS:
        (tmp_path / f"coco_pope_{name}.json").write_text('{"question_id": 1, "label": "yes"}\n')
        (tmp_path / f"answers_{name}.jsonl").write_text(
            "".join(json.dumps({"question_id": uid, "answer": "yes"}) + "\n" for uid in (1, 7))
        )
    found = pope.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    assert (found.scores.refused, found.protocol.notes[1:]) == (
        None,
        ("3 answers to questions that the data do not have",),
    )
    (tmp_path / "others_random.jsonl").write_text("{}")
    with pytest.raises(UserError, match=r"holds 2 files that fit \*random\*.json\* .*answers_random.*others_random"):
        pope.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())


def test_an_answer_that_comes_twice_is_named(tmp_path: Path) -> None:
    for name in pope.SETS:
        (tmp_path / f"coco_pope_{name}.json").write_text('{"question_id": 1, "label": "yes"}\n')
        (tmp_path / f"answers_{name}.jsonl").write_text('{"question_id": 1, "answer": "yes"}\n' * 2)
    with pytest.raises(UserError, match=r"POPE random holds question_id '1' twice; leave one of them\."):
        pope.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())


def test_missing_questions_are_named_with_where_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no coco_pope_random.json .* get it from github.com/AoiDragon/POPE"):
        pope.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
