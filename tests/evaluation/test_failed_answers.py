"""A question that nobody answered is missing, whatever stands beside it: never 0, never a shift of its neighbours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from arm.evaluation.benchmarks import mme
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.models.model import Failed, Question
from arm.evaluation.official import judging
from arm.evaluation.official.answering import write_answers
from arm.evaluation.official.config import OfficialConfig
from arm.evaluation.production.answers import answer_questions
from arm.storage import LocalFolder


class Answers:
    """A model that says what it is told to."""

    name, independent = "told", True

    def __init__(self, *said: str | Failed) -> None:
        self.said = list(said)

    def protocol(self) -> dict[str, Any]:
        return {}

    def answer(self, questions: list[Question], max_tokens: int | None = None) -> list[str | Failed]:
        return [self.said.pop(0) for _ in questions]


def test_a_failed_answer_of_mme_keeps_the_place_of_its_line_and_refuses_the_headline(tmp_path: Path) -> None:
    """Both questions of the second image are right: without the failed line they would be of two images."""
    rows = [
        {"image": f"{number // 2}.jpg", "question": "?", "label": ("Yes", "No")[number % 2], "prediction": ("Yes", "No")[number % 2]}
        for number in range(4)
    ]  # fmt: skip
    rows[0] |= {"failed": "status 400", "prediction": None}
    (tmp_path / "existence.txt").write_bytes(write_answers("mme", rows))
    folder = LocalFolder(tmp_path)
    result = mme.score(Files(folder, folder.list()), Files(folder, folder.list()), ScoreConfig(num_bootstraps=100))
    assert [(item.outcome, item.uid) for item in result.items][:2] == [
        ("failed", "existence/0000/0"),
        ("ok", "existence/0000/1"),
    ]
    assert result.protocol.num_failed == 1
    assert result.scores.refused


def test_an_item_of_dpg_whose_questioner_failed_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    head = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"
    lines = [f"{item},a dog,,1,0,entity,whole,entity - whole (dog),Is there a dog?" for item in ("a", "b")]
    (data / "dpg_bench.csv").write_text("\n".join([head, *lines]) + "\n")
    for item in ("a", "b"):
        PIL.Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{item}.png")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(judging, "load", lambda config, task: Answers(Failed("status 500"), "Yes."))
    files = Files(LocalFolder(data), LocalFolder(data).list())
    told: list[int] = []
    monkeypatch.setattr(judging.Progress, "advance", lambda self, count=1: told.append(count))
    found, unasked = judging.ask_questions(tmp_path, files, OfficialConfig(), tmp_path / "scratch", num_images=1)
    assert json.loads(found) == {"b": {"Is there a dog?": ["yes"]}}
    assert [(row["uid"], row["failed"]) for row in unasked] == [("a", "status 500")]
    assert told == [1, 1]


def test_half_an_emoji_in_an_answer_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    row = {"question_id": "1", "text": "half \ud83d", "image": ""}
    answer_questions(Answers("Yes \ud83d"), "told", [row], output, style="none", images=None, batch_size=1)  # type: ignore[arg-type]
    (found,) = map(json.loads, output.read_text().splitlines())
    assert found["prediction"] == "Yes ?"
