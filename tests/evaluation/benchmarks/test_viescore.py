"""VIEScore: replies as the official parser reads them, and the mean of roots on real judgements."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from arm.evaluation.benchmarks import viescore
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.result import Failure


def test_the_official_parser_cases(shared: Path) -> None:
    cases = json.loads((shared / "evaldata/gedit/made_parser_cases_official.json").read_text())
    for case in cases:
        found, official = viescore.parse(case["input"]), case["official"]
        assert found == official if isinstance(official, dict) else isinstance(found, Failure), case


def test_the_overall_score_is_the_mean_of_the_roots(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/viescore/gpt4o_0shot/MagicBrush"))
    expected = json.loads((shared / "evaldata/viescore/expected_aggregates.json").read_text())["MagicBrush"]
    found = viescore.score(files, files, ScoreConfig())
    values = [found.scores.estimates[name].value for name in ("semantics", "quality", "overall")]
    assert values == [expected["SC"], expected["PQ"], expected["O_mean_of_sqrt"]]
    assert found.details["root_of_means"] == expected["sqrt_of_means"]
    assert found.scores.num_scored == expected["n"]


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ('Well: {"score": [3, 4]} so.', [3, 4]), ('{"score": {"a": 1}}', [{"a": 1}]), ("{score: 7}", [7]), ("[6,0]", [6, 0]),
        ("see [6, 0] there", [6, 0]), (" 10 ", [10]), ('||V^=^V||{"score": 2}||V^=^V||', [2]),
    ],
)  # fmt: skip
def test_scores_are_found_in_prose_code_and_broken_json(reply: str, scores: list[Any]) -> None:
    parsed = viescore.parse(reply)
    assert isinstance(parsed, dict)
    assert parsed["score"] == scores


@pytest.mark.parametrize(
    "reply",
    ["11", "-1", "[6]", "[6, 0, 1]", "} {", "7.5", '["a", 1]', "||V^=^V||||V^=^V||", "||V^=^V||[1, 2]||V^=^V||", "[07, 1]",
     "||V^=^V||" + "[" * 100_000 + "||V^=^V||"],
)  # fmt: skip
def test_what_holds_no_scores_is_a_failure(reply: str) -> None:
    assert isinstance(viescore.parse(reply), Failure)


@pytest.mark.parametrize(
    ("reply", "parsed"), [("{}", {}), ('{"marks": 7}', {"marks": [7]}), ("{marks: 7}", {"marks": [7]})]
)
def test_an_object_without_a_score_passes_the_parser_and_fails_the_item(reply: str, parsed: dict[str, Any]) -> None:
    assert viescore.parse(reply) == parsed
    assert isinstance(viescore.minimum(parsed), Failure)


@pytest.mark.parametrize("scores", [[], ["8", "7"], [8, 11], [-1, 2], [True, 1], [{"a": 1}]])
def test_scores_that_are_no_numbers_from_0_to_10_are_a_failure(scores: list[Any]) -> None:
    assert isinstance(viescore.minimum({"score": scores}), Failure)


def test_an_item_is_the_root_of_both_minima() -> None:
    item = viescore.judge("a", 4, 9)
    assert item.numbers == {"SC": 4.0, "PQ": 9.0, "O": 6.0}
    assert item.score == pytest.approx(0.6)
    assert viescore.judge("a", 4, Failure("no")).outcome == "failed"


def test_an_item_without_its_other_half_is_missing(tmp_path: Path) -> None:
    (tmp_path / "SC.json").write_text(json.dumps({"a": {"score": [4, 5]}, "b": {"score": [1]}}))
    (tmp_path / "PQ.json").write_text(json.dumps({"a": '{"score": [9, 10]}'}))
    files = open_files(str(tmp_path))
    found = viescore.score(files, files, ScoreConfig())
    assert found.scores.refused == "1 of 2 items have no score (0 failed)"
    assert found.scores.estimates["overall"].value == math.sqrt(36)
