"""GenEval: the official verdicts on 1,106 made images, and the rule's quirks by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from arm.evaluation.benchmarks import geneval
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.geneval_rule import Box, check, keep_boxes, relations
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.benchmarks.result import Failure, with_lost


def box(x: float, y: float, width: float = 10, score: float = 0.95) -> Box:
    """A square box by its corner."""
    return (x, y, x + width, y + width, score)


def verdict(boxes: dict[str, list[Box]], **clauses: Any) -> tuple[bool, list[str]]:
    """Check boxes whose colour is red for everything."""
    return check(keep_boxes(boxes, "position"), clauses, lambda name, box: "red")


def words(reasons: list[str]) -> list[list[str]]:
    """Reasons as sorted words: the official program joins relations in the order of a set."""
    return sorted(sorted(reason.split()) for reason in reasons)


def test_every_official_verdict_reason_and_kept_box(shared: Path) -> None:
    name = "made_detections_official_verdicts.jsonl"
    files = open_files(str(shared / "evaldata/geneval"))
    rows = files.rows(name)
    items = [geneval.judge(row) for row in rows]
    assert len(items) == 1106
    for row, item in zip(rows, items, strict=True):
        expected = row["expected"]
        assert (item.outcome, item.strict, item.answer) == ("ok", expected["correct"], expected["kept"])
        assert words(list(item.reasons)) == words([line for line in expected["reason"].split("\n") if line])


def test_the_overall_score_is_the_mean_of_the_tags_and_says_what_it_is_not(shared: Path) -> None:
    folder = shared / "evaldata/geneval"
    results = open_files(str(folder / "made_detections_official_verdicts.jsonl"))
    found = geneval.score(results, open_files(str(folder / "evaluation_metadata.jsonl")), ScoreConfig())
    tags = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
    shares = []
    for tag in tags:
        right = [item.strict for item in found.items if item.group == tag]
        shares.append(sum(right) / len(right))
        assert found.scores.estimates[tag].value == shares[-1]
    assert found.scores.estimates["overall"].value == pytest.approx(sum(shares) / 6, abs=1e-15)
    assert found.scores.refused is None
    assert "2 images a prompt; the published protocol has 4" in found.protocol.notes


def test_thresholds_are_exclusive_and_counting_is_stricter() -> None:
    boxes = {"cow": [box(0, 0, score=0.3), box(0, 0, score=0.31), box(0, 0, score=0.9), box(0, 0, score=0.91)]}
    assert [kept[4] for kept in keep_boxes(boxes, "colors")["cow"]] == [0.91, 0.9, 0.31]
    assert [kept[4] for kept in keep_boxes(boxes, "counting")["cow"]] == [0.91]


def test_at_most_16_boxes_of_a_class_count_and_none_is_suppressed() -> None:
    same = [box(0, 0, score=0.5 + number / 100) for number in range(20)]
    kept = keep_boxes({"cow": same, "dog": [box(0, 0, score=0.2)]}, "colors")
    assert [round(found[4], 2) for found in kept["cow"]] == [round(0.69 - n / 100, 2) for n in range(16)]
    assert "dog" not in kept


def test_a_position_is_measured_against_the_whole_offset() -> None:
    # 40 apart, sizes 10 and 10: (40 - 2) / 40 = .95
    assert relations(box(0, 0), box(40, 0)) == ("left of",)
    # (40, 40) apart: 38 / 56.6 = .67 on both axes; y points down
    assert relations(box(40, 40), box(0, 0)) == ("right of", "below")
    # (40, 20): 38 / 44.7 = .85 and 18 / 44.7 = .40
    assert relations(box(40, 20), box(0, 0)) == ("right of",)
    assert relations(box(1, 1), box(0, 0)) == ()
    assert relations(box(0, 0), box(0, 0)) == ()


def test_only_the_surest_boxes_are_looked_at() -> None:
    """The second cow, left of nothing, is less sure than the first and is not asked for."""
    boxes = {"dog": [box(50, 0)], "cow": [box(0, 0, score=0.9), box(99, 0, score=0.8)]}
    include = [{"class": "dog", "count": 1}, {"class": "cow", "count": 1, "position": ["left of", 0]}]
    assert verdict(boxes, include=include) == (True, [])
    include[1]["count"] = 2
    assert verdict(boxes, include=include) == (False, ["expected cow left of target, found right of target"])


def test_a_position_is_skipped_when_the_colour_failed_and_reports_a_target_that_failed() -> None:
    boxes = {"dog": [box(0, 0)], "cow": [box(50, 0)]}
    dog, cow = {"class": "dog", "count": 1}, {"class": "cow", "count": 1, "position": ["left of", 0]}
    assert verdict(boxes, include=[dog, {**cow, "color": "blue"}])[1] == [
        "expected blue cow>=1, found 0 blue; and 1 red"
    ]
    assert verdict(boxes, include=[{**dog, "count": 2}, cow])[1] == [
        "expected dog>=2, found 1", "no target for cow to be left of",
    ]  # fmt: skip


def test_exclude_breaks_at_its_count() -> None:
    boxes = {"cow": [box(0, 0), box(20, 0)]}
    assert verdict(boxes, exclude=[{"class": "cow", "count": 3}]) == (True, [])
    assert verdict(boxes, exclude=[{"class": "cow", "count": 2}]) == (False, ["expected cow<2, found 2"])


def test_what_cannot_be_read_is_failed_and_refuses_the_headline(tmp_path: Path) -> None:
    metadata = {
        "tag": "colors",
        "include": [{"class": "cow", "count": 1, "color": "red"}],
        "prompt": "a photo of a cow",
    }
    rows = [
        {"prompt_index": 0, "sample": 0, "metadata": metadata, "detections": {"cow": [list(box(0, 0))]}},
        {"prompt_index": 1, "sample": 0, "metadata": metadata},
        {"prompt_index": 2, "sample": 0, "metadata": metadata, "detections": {}},
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "evaluation_metadata.jsonl").write_text("".join(json.dumps(metadata) + "\n" for _ in rows))
    files = open_files(str(tmp_path))
    found = geneval.score(files, files, ScoreConfig())
    assert [item.outcome for item in found.items] == ["failed", "failed", "ok"]
    assert found.scores.refused == "2 of 3 items have no score (2 failed)"
    assert "overall" not in found.scores.published()
    assert isinstance(geneval.parse({"detections": {"cow": [[1, 2, 3]]}}), Failure)


def test_official_results_are_read_as_they_are(tmp_path: Path) -> None:
    row = {"filename": "out/00007/samples/0002.png", "tag": "colors", "prompt": "a photo of a red cow", "correct": False,
           "reason": "expected cow>=1, found 0", "metadata": json.dumps({"tag": "colors"}), "details": "{}"}  # fmt: skip
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    files = open_files(str(tmp_path))
    found = geneval.score(files, files, ScoreConfig())
    assert (found.items[0].uid, found.items[0].reasons) == ("00007/0002", ("expected cow>=1, found 0",))
    assert (
        found.scores.refused == "1658 of 1659 items have no score (0 failed)"
    )  # sample 2 of 553 prompts: three a prompt


def test_an_image_lost_of_every_prompt_is_missed(tmp_path: Path) -> None:
    """Two prompts, each without its image 1 of three; told that four were asked for, four lack."""
    rows = [
        {"prompt_index": prompt, "sample": sample, "metadata": {"tag": "colors"}, "correct": True}
        for prompt in (0, 1) for sample in (0, 2)
    ]  # fmt: skip
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "evaluation_metadata.jsonl").write_text('{"prompt": "a photo of a cow"}\n' * 2)
    files = open_files(str(tmp_path))
    assert geneval.score(files, files, ScoreConfig()).scores.refused == "2 of 6 items have no score (0 failed)"
    asked = geneval.score(files, files, ScoreConfig(images_a_prompt=4))
    assert (asked.scores.refused, asked.protocol.num_missing) == ("4 of 8 items have no score (0 failed)", 4)


def test_images_of_prompts_that_the_data_do_not_have_are_noted(tmp_path: Path) -> None:
    rows = [{"prompt_index": n, "metadata": {"tag": "colors"}, "correct": True} for n in range(2)]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "evaluation_metadata.jsonl").write_text('{"prompt": "a photo of a cow"}\n')
    found = geneval.score(open_files(str(tmp_path)), open_files(str(tmp_path)), ScoreConfig())
    assert "1 images of prompts that the data do not have" in found.protocol.notes


def test_what_is_known_to_be_lost_is_missing_also_where_the_scorer_did_not_expect_it(tmp_path: Path) -> None:
    """One image of one prompt, scored; another three were lost on the way: 1 of 4, and the reasons add up."""
    row = {"prompt_index": 0, "sample": 0, "metadata": {"tag": "colors"}, "correct": True}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "evaluation_metadata.jsonl").write_text('{"prompt": "a photo of a cow"}\n')
    files = open_files(str(tmp_path))
    found = geneval.score(files, files, ScoreConfig())
    assert found.scores.refused is None
    lost = with_lost(found, {"status 500": 2, "refused": 1})
    assert lost.scores.refused == "3 of 4 items have no score (0 failed)"
    assert (lost.protocol.num_missing, lost.protocol.unscored) == (3, {"status 500": 2, "refused": 1})
