"""GQA: the numbers that the published formula gives on 400 made questions."""

import json
from pathlib import Path

import pytest

from arm.evaluation.benchmarks import gqa
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.result import NOT_CHECKED


def test_converted_and_raw_accuracy_by_type(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/gqa"))
    expected = files.json("made_expected.json")
    found = gqa.score(files, files, ScoreConfig())
    for prefix, key in (("raw/", "raw_exact"), ("", "after_llava_convert_rstrip_dot_lower")):
        for name in ("accuracy", "binary", "open"):
            assert found.scores.estimates[f"{prefix}{name}"].value == expected[key][name]
        for kind, (value, count) in expected[key]["per_structural"].items():
            estimate = found.scores.estimates[f"{prefix}structural/{kind}"]
            assert (estimate.value, estimate.num_items) == (value, count)
    assert found.protocol.checked == {"all": NOT_CHECKED}
    assert found.scores.num_expected == 365  # of 400 questions, 35 are not balanced


@pytest.mark.parametrize(("reply", "answer"), [("Yes.", "yes"), (" yes", " yes"), ("no..", "no"), ("a.b", "a.b")])
def test_final_periods_and_case_go_and_blanks_stay(reply: str, answer: str) -> None:
    assert gqa.parse(reply) == answer


def test_two_files_in_the_official_layout_and_a_missing_prediction(tmp_path: Path) -> None:
    types = {"structural": "query"}
    questions = {uid: {"answer": "red", "isBalanced": uid != "3", "types": types} for uid in ("1", "2", "3")}
    (tmp_path / "testdev_balanced_questions.json").write_text(json.dumps(questions))
    predictions = [{"questionId": "1", "prediction": "Red."}, {"questionId": "3", "prediction": "blue"}]
    (tmp_path / "testdev_balanced_predictions.json").write_text(json.dumps(predictions))
    files = open_files(str(tmp_path))
    found = gqa.score(files, files, ScoreConfig())
    assert found.scores.refused == "1 of 2 items have no score (0 failed)"
    assert {item.uid: item.strict for item in found.items} == {"1": True}
