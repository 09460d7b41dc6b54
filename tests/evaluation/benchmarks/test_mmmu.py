"""MMMU: 900 real responses read and scored as the official program does, and its quirks by hand."""

import json
from pathlib import Path
from random import Random

import pytest

from arm.evaluation.benchmarks import mmmu
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.mmmu_answers import is_right_open, parse_choice, parse_open
from arm.evaluation.benchmarks.reading import open_files, open_given


def test_every_response_is_read_and_scored_as_the_official_program_does(shared: Path) -> None:
    folder = shared / "evaldata/mmmu"
    model = json.loads((folder / "expected_official.json").read_text())["models"]["llava1.5_13b"]
    results = open_files(str(folder / "llava1.5_13b/responses.jsonl"))
    found = mmmu.score(results, results, ScoreConfig())
    assert len(found.items) == model["n"] == 900
    for item in found.items:
        official = model["parse_and_eval_per_item"][item.uid]
        assert ("random fallback" in item.flags) == official["random_fallback"]
        if not official["random_fallback"]:
            answer = item.answer if isinstance(item.answer, str) else sorted(map(str, item.answer))
            parsed = official["parsed"] if isinstance(official["parsed"], str) else sorted(official["parsed"])
            assert (item.strict, answer) == (official["correct"], parsed)
    assert sum(item.strict for item in found.items if not item.flags) == model["deterministic_correct"]
    assert found.protocol.flags == {"random fallback": 2}


def test_the_printed_table_of_parsed_answers_is_the_official_one(shared: Path) -> None:
    folder = shared / "evaldata/mmmu"
    expected = json.loads((folder / "expected_official.json").read_text())["models"]["llava1.5_13b"]
    results = open_files(str(folder / "llava1.5_13b/total_val_output.json"))
    found = mmmu.score(results, open_files(str(folder / "answer_dict_val.json")), ScoreConfig())
    assert found.details["printed"] == expected["eval_only_official"]


def test_the_official_parser_cases(shared: Path) -> None:
    cases = json.loads((shared / "evaldata/mmmu/expected_official.json").read_text())
    assert [parse_choice(*case[:3]) for case in cases["multi_choice_cases"]] == [
        case[3] for case in cases["multi_choice_cases"]
    ]
    assert [sorted(map(str, parse_open(reply))) for reply, _ in cases["open_parse_cases"]] == [
        sorted(parsed) for _, parsed in cases["open_parse_cases"]
    ]
    assert [is_right_open(wanted, parse_open(reply)) for wanted, reply, _ in cases["open_eval_cases"]] == [
        right for *_, right in cases["open_eval_cases"]
    ]


def test_corrected_fails_what_the_official_program_draws(shared: Path) -> None:
    results = open_files(str(shared / "evaldata/mmmu/llava1.5_13b/responses.jsonl"))
    found = mmmu.score(results, results, ScoreConfig(mode="corrected"))
    assert found.scores.refused == "2 of 900 items have no score (2 failed)"


def test_the_questions_of_the_data_are_expected_with_their_answers(tmp_path: Path) -> None:
    """Three questions, of which one is not answered and one has two right answers; the results' own are another and a lie."""
    asked = [
        ("validation_Art_1", "7"),
        ("validation_Art_2", "['1/2', '0.5']"),
        ("validation_Math_1", "3"),
        ("dev_Art_1", "1"),
    ]
    rows = [{"id": uid, "question_type": "open", "answer": answer} for uid, answer in asked]
    said = [{"question_type": "open", "answer": "9", "response": reply} for reply in ("9", "so 0.5", "x")]
    made = [
        {**row, "id": uid}
        for row, uid in zip(said, ("validation_Art_1", "validation_Art_2", "validation_Law_1"), strict=True)
    ]
    for folder, name, lines in (("data", "questions.jsonl", rows), ("results", "responses.jsonl", made)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = open_files(str(tmp_path / "results"))
    found = mmmu.score(results, open_files(str(tmp_path / "data")), ScoreConfig())
    assert [(item.uid, item.strict) for item in found.items] == [
        ("validation_Art_1", False),
        ("validation_Art_2", True),
    ]
    assert found.scores.refused == "1 of 3 items have no score (0 failed)"
    assert found.protocol.notes == (
        "3 items; the published set has 900", "1 answers to questions that the data do not have",
    )  # fmt: skip
    alone = mmmu.score(results, open_files(str(tmp_path / "results")), ScoreConfig())
    assert [item.strict for item in alone.items] == [True, False, False]
    assert (alone.protocol.num_expected, alone.protocol.notes) == (
        900, ("the right answers are those that the results themselves name",),
    )  # fmt: skip
    (tmp_path / "dict.json").write_text(
        json.dumps({"validation_Art_1": {"question_type": "open", "ground_truth": "7"}})
    )
    given = mmmu.score(results, open_given(str(tmp_path / "dict.json")), ScoreConfig())
    assert (given.protocol.num_expected, given.protocol.num_scored) == (1, 1)


OPTIONS = {"A": "apple pie", "B": "pear"}


@pytest.mark.parametrize(
    ("reply", "letter"),
    [("(A) or B", "A"), ("A or B", "B"), ("A, or B", "B"), ("(B) not (A)", "A"), ("pear", None), ("b", None),
     ("of all the things here a Pear it is, no apple pie", "A"), ("B.", "B"), ("'B'", "B"), ("B)", None)],
)  # fmt: skip
def test_the_last_letter_wins_and_options_count_in_long_replies(reply: str, letter: str | None) -> None:
    assert parse_choice(reply, ["A", "B"], OPTIONS) == letter


def test_an_item_says_what_is_right_also_where_nothing_can_be_read() -> None:
    row = {"id": "validation_Art_1", "question_type": "open", "answer": ["1/2", "0.5"], "response": "a half"}
    assert mmmu.judge(row, None).wanted == "1/2 or 0.5"
    row |= {"question_type": "multiple-choice", "answer": "B", "all_choices": ["A", "B"], "index2ans": OPTIONS}
    failed = mmmu.judge(row, None)
    assert (failed.outcome, failed.wanted) == ("failed", "B")


def test_the_random_fallback_draws_as_the_official_program_does() -> None:
    row = {"id": "validation_Art_1", "question_type": "multiple-choice", "answer": "B", "all_choices": ["A", "B"],
           "index2ans": OPTIONS, "response": "I do not know"}  # fmt: skip
    random, official = Random(42), Random(42)
    assert [mmmu.judge(row, random).answer for _ in range(6)] == [official.choice(["A", "B"]) for _ in range(6)]


def test_subjects_are_drawn_for_in_the_order_of_their_names_and_one_without_answers_is_0(tmp_path: Path) -> None:
    row = {
        "question_type": "multiple-choice",
        "answer": "B",
        "all_choices": list("ABCDEFGH"),
        "index2ans": {},
        "response": "?",
    }
    names = ("validation_Music_1", "validation_Art_2", "validation_Art_1")
    (tmp_path / "responses.jsonl").write_text("".join(json.dumps({**row, "id": name}) + "\n" for name in names))
    found = mmmu.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    random = Random(42)
    assert [(item.uid, item.answer) for item in found.items] == [
        (names[n], random.choice("ABCDEFGH")) for n in (1, 2, 0)
    ]
    assert found.details["printed"]["Overall-Business"] == {"num": 0, "acc": 0}
    assert found.details["printed"]["Overall"]["num"] == 3


def test_open_answers_are_tails_texts_and_numbers() -> None:
    # line 1: the shortest tail behind `is` and `so`; line 2 is the last, so `=` counts; then the numbers in both tails
    assert parse_open("So it is 1,234.5 kg\nx = .5") == ["1,234.5 kg", 0.5, 1234.0, 234.5]
    assert parse_open("x = 3\ndone") == ["x = 3\ndone", 3.0]
    assert is_right_open("a", parse_open("banana")) is False  # one letter needs a blank beside it
    assert is_right_open("a", parse_open("it is a")) is True  # both become " a" and "a "
    assert is_right_open("3.14", parse_open("so 3.14159")) is True
