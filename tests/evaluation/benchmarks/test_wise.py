"""WISE: the official parser and summary, both versions by hand."""

import json
from pathlib import Path

import pytest

from arm.evaluation.benchmarks import wise
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.result import Failure


def test_the_parser_and_the_summary_are_the_official_ones(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/wise"))
    expected = files.json("made_expected_official.json")
    assert [wise.parse(text) for text, _ in expected["legacy_parse"]] == [
        scores for _, scores in expected["legacy_parse"]
    ]
    found = wise.score(files, files, ScoreConfig())
    assert found.details["printed"] == expected["legacy_summary"]
    assert found.scores.refused is None


@pytest.mark.parametrize(
    ("reply", "scores"),
    [("2\n1\n0", [2, 1, 0]), (" 2 \n\n1\n0\n1", [2, 1, 0]), ("2\n1", []), ("2\n3\n1\n0", [2, 1, 0]), ("**Consistency:** 2", []),
     ("**Consistency**: 2", [2]), ("CONSISTENCY 2", [2])],
)  # fmt: skip
def test_bold_up_to_the_colon_is_read_and_bare_lines_are(reply: str, scores: list[float]) -> None:
    assert list(wise.parse(reply).values()) == scores


def test_the_wiscore_and_its_categories_by_hand() -> None:
    assert wise.wiscore(2, 1, 0) == pytest.approx(0.8)
    names = [wise.category_of(prompt, wise.LEGACY) for prompt in (400, 401, 567, 568, 700, 701, 801, 901, 1000, 1001)]
    assert names == ["culture", "time", "time", "space", "space", "biology", "physics", "chemistry", "chemistry", None]
    names = [wise.category_of(prompt, wise.VERIFIED) for prompt in (400, 520, 521, 641, 761, 881)]
    assert names == ["culture", "time", "space", "biology", "physics", "chemistry"]


def test_verified_weighs_culture_04_and_the_rest_012(tmp_path: Path) -> None:
    """Culture all right, the rest wrong: .4 weighted and 400 of 1,000 unweighted."""
    rows = [{"prompt_id": n, "evaluation": f"Score: {int(n <= 400)}"} for n in range(1, 1001)]
    (tmp_path / "x_scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = open_files(str(tmp_path))
    found = wise.score_verified(files, files, ScoreConfig())
    assert found.scores.estimates["overall"].value == pytest.approx(0.4)
    assert found.scores.estimates["unweighted"].value == pytest.approx(0.4)
    assert "not checked" in found.protocol.checked["all"]


@pytest.mark.parametrize("reply", ["", "Score: 2", "Score: 10", "**Score:** 1", "1\n0", "Score： 1", "it is 1"])
def test_verified_fails_without_a_binary_score(reply: str) -> None:
    assert isinstance(wise.parse_verified(reply), Failure)


@pytest.mark.parametrize(
    ("reply", "score"),
    [("Score: 1", 1), ("**Score**: 0", 0), ("good.\nscore:1\n", 1), ("SCORE 1", 1), (" 1 ", 1), ("so\n0\n", 0),
     ("Score: 1\nScore: 0", 1), ("Score: 0.5", 0), ("1\nScore: 0", 0)],
)  # fmt: skip
def test_verified_takes_the_first_score_or_a_lone_bare_line(reply: str, score: int) -> None:
    assert wise.parse_verified(reply) == score


@pytest.mark.parametrize("value", [999, 9.9, -1, None, "2", True])
def test_what_the_official_programs_write_for_a_failed_reply_is_failed(value: object) -> None:
    row = {"prompt_id": 1, "consistency": 2, "realism": value, "aesthetic_quality": 0}
    assert wise.judge(row).outcome == "failed"
