"""VQAv2: every question of the official run, and the program's quirks by hand."""

from pathlib import Path
from typing import Any

import pytest

from arm.evaluation.benchmarks import vqav2
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.vqa_normalise import CONTRACTIONS, normalise, strip_punctuation


def annotation(*answers: str) -> dict[str, Any]:
    """A question with these answers, numbered from 1."""
    entries = [{"answer": text, "answer_confidence": "yes", "answer_id": n + 1} for n, text in enumerate(answers)]
    return {"question_id": 1, "answer_type": "other", "question_type": "what", "answers": entries}


def test_every_question_and_every_type_is_the_official_one(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/vqa"))
    expected = files.json("made_expected_official.json")
    found = vqav2.score(files, files, ScoreConfig())
    assert {item.uid: item.numbers["percent"] for item in found.items} == expected["perQuestion"]
    estimates = found.scores.estimates
    assert estimates["overall"].value == expected["overall"]
    for name, key in (("question_type", "perQuestionType"), ("answer_type", "perAnswerType")):
        assert {kind: estimates[f"{name}/{kind}"].value for kind in expected[key]} == expected[key]


def test_nine_others_share_out_the_accuracy() -> None:
    """Three of ten said 2: left out itself each sees 2 others, 2/3; the seven others see 3: 1. (3 · 2/3 + 7) / 10 = .9"""
    assert vqav2.accuracy(annotation(*["two"] * 3, *["five"] * 7), "2") == (pytest.approx(0.9), "2")
    assert vqav2.accuracy(annotation(*["two"] * 4, *["five"] * 6), "Two.")[0] == 1
    assert vqav2.accuracy(annotation(*["two"] * 10), "one")[0] == 0


def test_an_item_says_what_the_people_answered() -> None:
    item = vqav2.judge(annotation(*["maroon"] * 3, *["red"] * 7), "blue")
    assert (item.wanted, item.reasons) == ("red × 7, maroon × 3", ("nobody answered 'blue'",))
    assert vqav2.judge(annotation(*["red"] * 10), None).wanted == "red × 10"


def test_answers_that_all_agree_are_not_normalised() -> None:
    agreed = annotation(*["Two."] * 10)
    assert vqav2.accuracy(agreed, "Two.")[0] == 1
    assert vqav2.accuracy(agreed, "2")[0] == 0
    assert vqav2.accuracy(agreed, "2", "corrected")[0] == 1


def test_answers_with_the_same_id_leave_each_other_out() -> None:
    """Of four equal answers two share an id: each of these two sees 2 others, not 3."""
    same = annotation(*["red"] * 4, *["blue"] * 6)
    same["answers"][1]["answer_id"] = 1
    assert vqav2.accuracy(same, "red")[0] == pytest.approx((2 * 2 / 3 + 8) / 10)
    assert vqav2.accuracy(same, "red", "corrected")[0] == 1


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("None", "0"), ("the Dog.", "dog"), ("3.5", "3.5"), ("U.S.", "us"), ("red/blue", "red blue"), ("red / blue", "red blue"),
        ("1,000 x-y", "1000 xy"), ("x-y", "x y"), ("dont", "don't"), ("couldnt've", "couldn't've"), ("somebody'd", "somebodyd"),
        ("ten, a", "10"), ("don't", "don't"), ("a", ""),
    ],
)  # fmt: skip
def test_normalisation_by_hand(answer: str, normalised: str) -> None:
    assert normalise(answer) == normalised


def test_only_32_periods_go() -> None:
    assert strip_punctuation("a." * 40) == "a" * 32 + "a." * 8


def test_contractions_lack_one_apostrophe() -> None:
    assert len(CONTRACTIONS) == 114  # the official table's 120 without six that change nothing in lower case
    assert CONTRACTIONS["ow's'at"] == CONTRACTIONS["'ows'at"] == CONTRACTIONS["'ow'sat"] == "'ow's'at"
    assert "id" not in CONTRACTIONS
    assert "well" not in CONTRACTIONS
