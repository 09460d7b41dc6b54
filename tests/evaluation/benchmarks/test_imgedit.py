"""ImgEdit-Bench: every item and type of the official run, and what its parser loses."""

import json
from pathlib import Path

import pytest

from arm.evaluation.benchmarks import imgedit
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.result import Failure

BOLD = "**Prompt Compliance:** 2\nVisual Naturalness: 3\nPhysical & Detail Integrity: 5"


def test_every_item_and_type_is_the_official_one(shared: Path) -> None:
    files = open_files(str(shared / "evaldata/imgedit/made_judge_outputs.json"))
    expected = json.loads((shared / "evaldata/imgedit/made_expected_official.json").read_text())
    found = imgedit.score(files, files, ScoreConfig())
    assert {item.uid: item.numbers["mean"] for item in found.items if item.outcome == "ok"} == expected["per_item"]
    estimates = found.scores.estimates
    assert {kind: estimates[f"type/{kind}"].value for kind in expected["per_type"]} == expected["per_type"]
    assert estimates["overall"].value == expected["overall_mean_of_types"]
    assert estimates["items"].value == expected["overall_mean_of_items"]
    assert found.scores.refused == "133 of 737 items have no score (133 failed)"
    assert found.protocol.flags == {"mean of 2 scores": 301}


def test_official_loses_bold_and_decimals_and_corrected_reads_them() -> None:
    assert imgedit.parse(BOLD) == [3, 5]
    assert imgedit.parse(BOLD, "corrected") == [2, 3, 5]
    assert imgedit.judge("1", "add", BOLD).numbers["mean"] == 4.0
    assert imgedit.judge("1", "add", BOLD, "corrected").numbers["mean"] == 3.33
    decimals = BOLD.replace("3", "3.5")
    assert imgedit.parse(decimals) == [5]
    assert imgedit.parse(decimals, "corrected") == [2, 3.5, 5]


@pytest.mark.parametrize("reply", ["I cannot help with that.", "", "Prompt Compliance: 4", BOLD.replace("5", "6")])
def test_corrected_needs_three_scores_from_1_to_5(reply: str) -> None:
    assert isinstance(imgedit.parse(reply, "corrected"), Failure)


def test_a_type_is_summed_in_the_order_of_the_replies(tmp_path: Path) -> None:
    """4, 3.33, 4.5, 4.5, 4.33 and 1.33 have the mean 3.665: the program prints 3.66 forwards and 3.67 backwards."""
    scores = ([4], [1, 4, 5], [4, 5], [4, 5], [3, 5, 5], [1, 1, 2])
    texts = ["\n".join(f"a: {value}" for value in values) for values in scores]
    edits = {str(number): {"edit_type": "add"} for number in range(len(texts))}
    (tmp_path / "basic_edit.json").write_text(json.dumps(edits))
    values = []
    for order in (1, -1):
        replies = dict(list(zip(edits, texts, strict=True))[::order])
        (tmp_path / "result.json").write_text(json.dumps(replies))
        files = open_files(str(tmp_path))
        values.append(imgedit.score(files, files, ScoreConfig()).scores.estimates["type/add"].value)
    assert values == [3.66, 3.67]


def test_two_files_in_the_official_layout(tmp_path: Path) -> None:
    edits = {
        uid: {"id": "x", "prompt": "p", "edit_type": kind} for uid, kind in (("1", "add"), ("2", "add"), ("3", "style"))
    }
    (tmp_path / "basic_edit.json").write_text(json.dumps(edits))
    (tmp_path / "result.json").write_text(json.dumps({"1": "a: 1\nb: 2", "2": "a: 4", "3": "a: 5"}))
    files = open_files(str(tmp_path))
    found = imgedit.score(files, files, ScoreConfig())
    # add: (1.5 + 4) / 2 = 2.75, style 5
    assert found.scores.estimates["overall"].value == 3.875
    assert found.scores.refused is None
