"""DPG-Bench: every crop of the official run, and dependencies by hand."""

from pathlib import Path

import pytest

from arm.evaluation.benchmarks import dpg
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files

HEAD = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
)


def test_every_crop_item_and_category_is_the_official_one(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/dpg"))
    expected = files.json("made_expected_official.json")
    found = dpg.score(open_files(str(shared / "evaldata/dpg/made_vqa_answers.json")), files, ScoreConfig())
    scored = {item.uid: item for item in found.items if item.outcome == "ok"}
    assert scored.keys() == expected["items"].keys()
    for uid, official in expected["items"].items():
        item = scored[uid]
        assert (item.score, list(item.numbers.values())) == (official["score"], official["crop_scores"])
        assert {str(number): value for number, value in item.answer["last_crop"].items()} == official["last_crop_raw"]
    estimates = found.scores.estimates
    assert estimates["score"].value == expected["dpg_score"]
    assert {name: estimates[f"level 1/{name}"].value for name in expected["l1"]} == expected["l1"]
    assert {name: estimates[f"level 2/{name}"].value for name in expected["l2"]} == expected["l2"]
    assert "the official program drops 1 of 60 items" in found.protocol.notes
    assert found.protocol.flags == {"dropped by the official program": 1}
    assert found.scores.refused is None


def test_a_question_is_zeroed_in_order_of_the_questions() -> None:
    # 2 depends on 1, 3 on 2: both fall with 1; 5 stands before its parent 6 falls
    scores = {1: 0.0, 2: 1.0, 3: 1.0, 5: 1.0, 6: 1.0}
    assert dpg.zero_dependents(scores, {1: [], 2: [1], 3: [2], 5: [6], 6: [1]}) == {1: 0, 2: 0, 3: 0, 5: 1, 6: 0}


def write(folder: Path) -> None:
    """Two items; `a` loses its first question officially. Detail lines as the official program writes them."""
    rows = [
        "a,t,,1,0,e,w,entity - whole (a),Is there a dog?", "a,t,,2,0,e,w,entity - whole (b),\"Is it red, or blue?\"",
        "b,t,,1,0,e,w,global -  (c),Is it night?", "b,t,,2,\"1 , 1\",e,w,entity - whole (d),Is there a cat?",
    ]  # fmt: skip
    (folder / "dpg_bench.csv").write_text(HEAD + "\n".join(rows) + "\n")
    answers = [
        ("a", "Is there a dog?", "no"),
        ("a", "Is it red, or blue?", "yes"),
        ("b", "Is it night?", "no"),
        ("b", "Is there a cat?", "yes"),
    ]
    lines = [
        f"out/{item}.png, ({x}, 0, {x + 8}, 8), {text}, {answer}" for x in (0, 8) for item, text, answer in answers
    ]
    (folder / "results_detail.txt").write_text("\n".join(lines) + "\n")


def test_official_loses_the_first_row_and_corrected_does_not(tmp_path: Path) -> None:
    write(tmp_path)
    files = open_files(str(tmp_path))
    official = dpg.score(files, files, ScoreConfig())
    # a: only the second question is left, 1; b: 0 and a child that falls with it
    assert {item.uid: item.score for item in official.items} == {"a": 1.0, "b": 0.0}
    assert official.scores.estimates["score"].value == 50
    assert official.scores.estimates["level 2/entity - whole"].value == 100  # the last crop, without dependencies
    corrected = dpg.score(files, files, ScoreConfig(mode="corrected"))
    assert {item.uid: item.score for item in corrected.items} == {"a": 0.5, "b": 0.0}
    # two crops of: dog 0, red 1, cat 0
    assert corrected.scores.estimates["level 2/entity - whole"].value == pytest.approx(100 / 3)


def test_a_question_asked_twice_and_an_answer_with_a_comma_are_read(tmp_path: Path) -> None:
    rows = ["x,t,,1,0,e,w,entity - whole (x),Is it x?"] + [f"a,t,,{n},0,e,w,entity - whole (b),\"Is it red, or not?\"" for n in (1, 2)]  # fmt: skip
    (tmp_path / "dpg_bench.csv").write_text(HEAD + "\n".join(rows) + "\n")
    lines = [f"out/a.png, ({x}, 0, {x + 8}, 8), Is it red, or not?, {said}\n" * 2 for x, said in ((0, "yes"), (8, "yes, it is"))]  # fmt: skip
    (tmp_path / "results_detail.txt").write_text("".join(lines))
    files = open_files(str(tmp_path))
    assert dpg.read_answers(files) == {"a": {"Is it red, or not?": ["yes", "yes, it is"]}}
    assert [item.score for item in dpg.score(files, files, ScoreConfig()).items] == [0.5]


def test_only_the_word_yes_is_yes_and_a_missing_answer_fails(tmp_path: Path) -> None:
    assert [dpg.parse(reply) for reply in ("yes", "Yes", "yes.", "", "no")] == [1, 0, 0, 0, 0]
    questions = dpg.Questions({1: "Is it night?"}, {1: "global"}, {1: []})
    assert dpg.judge("a", questions, {}).outcome == "failed"
