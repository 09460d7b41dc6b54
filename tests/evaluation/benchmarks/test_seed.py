"""SEED-Bench: GPT-4V's recorded rows, and letters out of free answers."""

import json
from pathlib import Path

import pytest

from arm.evaluation.benchmarks import seed
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.result import Failure


def test_gpt_4v_is_right_in_12109_of_17997(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/seed"))
    expected = files.json("expected_overall.json")
    found = seed.score(files, files, ScoreConfig())
    assert found.scores.num_scored == expected["lines"]
    assert sum(item.strict for item in found.items) == expected["correct"]
    assert found.scores.estimates["all"].value == expected["accuracy"]
    assert "not checked" in found.protocol.checked["all"]


@pytest.mark.parametrize(
    ("reply", "letter"), [("B", "B"), (" (B)", "B"), ("B. a dog", "B"), ("B a dog", "B"), ("B:", "B")]
)
def test_corrected_reads_a_letter(reply: str, letter: str) -> None:
    assert seed.parse(reply, "corrected") == letter


@pytest.mark.parametrize("reply", ["", "b", "Both", "E", "the answer is B", "(D dog"])
def test_corrected_fails_without_a_letter_in_front(reply: str) -> None:
    assert isinstance(seed.parse(reply, "corrected"), Failure) == (reply != "(D dog")


def test_the_results_of_eval_py_name_the_dimension_of_each_answer(tmp_path: Path) -> None:
    rows = [{"q_id": str(n), "prediction": "A", "gt": "AB"[n % 2], "q_type_id": (1, 9, 10)[n]} for n in range(3)]
    (tmp_path / "results.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = seed.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    names = ("all", "image", "video", "dimension/1", "dimension/9", "dimension/10")
    assert [found.scores.estimates[name].value for name in names] == [pytest.approx(2 / 3), 0.5, 1, 1, 0, 1]
    assert not any("SEED-Bench.json" in note for note in found.protocol.notes)
    (tmp_path / "results.json").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    found = seed.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    assert found.scores.headline == "image"
    assert found.scores.refused == "14231 of 14233 items have no score (0 failed)"


def test_images_and_videos_apart_where_the_questions_are_known(tmp_path: Path) -> None:
    questions = [
        {"question_id": uid, "answer": "A", "data_type": kind, "question_type_id": 1}
        for uid, kind in (("1", "image"), ("v2", "video"), ("v2", "video"), ("4", "image"))
    ]
    (tmp_path / "SEED-Bench.json").write_text(json.dumps({"questions": questions}))
    rows = [("1", "A"), ("v2", "B"), ("v2", "A")]
    lines = [json.dumps({"question_id": uid, "prediction": letter}) + "," for uid, letter in rows]
    (tmp_path / "predictions.json").write_text("\n".join(lines))
    files = open_files(str(tmp_path))
    found = seed.score(files, files, ScoreConfig())
    assert {name: found.scores.estimates[name].value for name in ("image", "video", "dimension/1")} == {
        "image": 1.0, "video": 0.5, "dimension/1": pytest.approx(2 / 3),
    }  # fmt: skip
    assert [item.uid for item in found.items] == ["1", "v2", "v2#2"]
    assert found.scores.refused == "1 of 4 items have no score (0 failed)"


def test_the_headline_is_of_images_where_no_video_was_asked(tmp_path: Path) -> None:
    """All three images, one wrong: 2/3; the video lacks, and neither it nor `all` has a number."""
    questions = [
        {"question_id": str(n), "answer": "A", "data_type": "image" if n else "video", "question_type_id": 1}
        for n in range(4)
    ]
    named = {"questions": questions, "question_type": {"Scene Understanding": 1}}
    (tmp_path / "SEED-Bench.json").write_text(json.dumps(named))
    rows = [{"question_id": str(n), "prediction": letter} for n, letter in ((1, "A"), (2, "B"), (3, "A"))]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = open_files(str(tmp_path))
    found = seed.score(files, files, ScoreConfig())
    assert (found.scores.headline, found.scores.refused) == ("image", None)
    assert {name: one.value for name, one in found.scores.published().items()} == {
        "image": pytest.approx(2 / 3), "dimension/Scene Understanding": pytest.approx(2 / 3),
    }  # fmt: skip
    assert found.protocol.notes == (
        "3 items; the published set has 14,233",
        "questions about videos were not asked (1): no number of videos, none of all questions",
    )
