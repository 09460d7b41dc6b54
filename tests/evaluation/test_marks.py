"""Replies of every rubric become marks between 0 and 1, or a reason why not."""

import json
from pathlib import Path
from typing import Any

import pytest

from arm.errors import UserError
from arm.evaluation.benchmarks.result import Failure
from arm.evaluation.marks import check_readable, marks_of
from arm.evaluation.rubric import load_rubric, read_rubric

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "arm/evaluation/rubrics").glob("*.json"))
VALUES: dict[str, Any] = {
    "editing": {"following": 8, "preservation": 10, "quality": 5, "reason": ""},
    "text_to_image": {"objects": 0, "attributes": 5, "relations": 10, "reason": ""},
    "imgedit": "Brief reasoning: good\n**Prompt Compliance:** 3\nVisual Naturalness: 5\nPhysical and Detail Integrity: 1",
    "viescore_editing": '{"score": [8, 3], "reasoning": ""}',
    "viescore_quality": "[6, 9]",
    "viescore_text_to_image": '{"score": [4], "reasoning": ""}',
    "wise": "Consistency: 2\nRealism: 1\nAesthetic Quality: 0",
    "wise_verified": "Score: 1",
}
MARKS = {
    "editing": {"following": 0.8, "preservation": 1.0, "quality": 0.5},
    "text_to_image": {"objects": 0.0, "attributes": 0.5, "relations": 1.0},
    "imgedit": {"prompt_compliance": 0.5, "visual_naturalness": 1.0, "physical_and_detail_integrity": 0.0},
    "viescore_editing": {"success": 0.8, "over_edit": 0.3, "semantics": 0.3},
    "viescore_quality": {"naturalness": 0.6, "artefacts": 0.9, "quality": 0.6},
    "viescore_text_to_image": {"semantics": 0.4},
    "wise": {"consistency": 1.0, "realism": 0.5, "aesthetic_quality": 0.0},
    "wise_verified": {"score": 1.0},
}


def value_of(reply: Any) -> dict[str, Any]:
    return {"text": reply} if isinstance(reply, str) else reply


@pytest.mark.parametrize("name", NAMES)
def test_every_rubric_of_ours_declares_its_marks_and_maps_them_to_0_to_1(name: str) -> None:
    rubric = load_rubric(name)
    check_readable(rubric)
    assert marks_of(rubric, value_of(VALUES[name])) == pytest.approx(MARKS[name])


@pytest.mark.parametrize("name", [name for name in NAMES if load_rubric(name).schema])
def test_a_declared_range_is_that_of_the_schema(name: str) -> None:
    rubric = load_rubric(name)
    bounds = {mark: (rubric.schema["properties"][mark]["minimum"], rubric.schema["properties"][mark]["maximum"]) for mark in rubric.marks}  # fmt: skip
    assert dict(rubric.marks) == bounds


@pytest.mark.parametrize(
    ("name", "reply", "reason"),
    [
        ("viescore_editing", "[8]", "no scores"),
        ("viescore_editing", '{"score": [8], "reasoning": ""}', "1 scores, not 2"),
        ("viescore_quality", '{"score": [8, 11], "reasoning": ""}', "not all 0 to 10"),
        ("wise", "Consistency: 2\nRealism: 1", "the mark 'aesthetic_quality' is None, no number"),
        ("wise", "Consistency: 3\nRealism: 1\nAesthetic Quality: 0", "the mark 'consistency' is 3, outside 0 to 2"),
        ("wise_verified", "Score: 2", "no score of 0 or 1"),
        ("imgedit", "Prompt Compliance: 3", "not three scores"),
        ("editing", {"following": True, "preservation": 1, "quality": 1}, "the mark 'following' is True, no number"),
    ],
)
def test_a_reply_without_all_its_marks_is_a_failure_and_says_why(name: str, reply: Any, reason: str) -> None:
    found = marks_of(load_rubric(name), value_of(reply))
    assert isinstance(found, Failure)
    assert reason in found.reason


def made(**changes: Any) -> str:
    schema = {"type": "object", "properties": {"style": {"type": "number"}}, "required": ["style"]}
    values = {"name": "mine", "version": 1, "source": "me", "images": 1, "prompt": "?", "schema": schema, "marks": {"style": [-1, 1]}}  # fmt: skip
    return json.dumps(values | changes)


def test_a_rubric_of_a_user_maps_its_own_range() -> None:
    rubric = read_rubric(made(), "mine.json")
    check_readable(rubric)
    assert marks_of(rubric, {"style": 0.5}) == {"style": 0.75}
    assert isinstance(marks_of(rubric, {"style": float("nan")}), Failure)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"marks": {}}, "declares no marks"),
        ({"marks": {"style": [1, 1]}}, "'style' of the rubric mine has no range"),
        ({"schema": {}}, "text that nothing here reads"),
        ({"marks": {"taste": [0, 1]}}, "does not require its mark 'taste'"),
    ],
)
def test_a_rubric_that_can_be_no_reward_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_readable(read_rubric(made(**changes), "mine.json"))
