"""ImageNet zero-shot: predictions counted."""

import json
from pathlib import Path

import pytest

from arm.evaluation.benchmarks import imagenet
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files


def test_top1_and_the_mean_of_classes(tmp_path: Path) -> None:
    """tench 1 of 1, goldfish 0 of 2: 1/3 of the images, 1/2 over classes."""
    rows = [("a", "tench", "tench"), ("b", "goldfish", "tench"), ("c", "goldfish", "shark"), ("d", "goldfish", None)]
    lines = [json.dumps({"image": uid, "label": label, "prediction": found}) for uid, label, found in rows]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    files = open_files(str(tmp_path))
    found = imagenet.score(files, files, ScoreConfig())
    assert found.scores.estimates["top1"].value == pytest.approx(1 / 3)
    assert found.scores.estimates["mean_of_classes"].value == pytest.approx(1 / 2)
    assert found.scores.refused == "49997 of 50000 items have no score (1 failed)"


def test_classes_of_one_name_are_two_classes(tmp_path: Path) -> None:
    """CLIP calls n04355933 and n04356056 sunglasses: by name both images would be right, by id one is."""
    names = {"n04355933": "sunglasses", "n04356056": "sunglasses", "n01440764": "tench"}
    rows = [("a", "n04355933", "n04355933"), ("b", "n04356056", "n04355933"), ("c", "n01440764", "n01440764")]
    lines = [json.dumps({"image": uid, "label": label, "prediction": found}) for uid, label, found in rows]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    (tmp_path / "classes.json").write_text(json.dumps(names))
    files = open_files(str(tmp_path))
    found = imagenet.score(files, files, ScoreConfig())
    assert found.scores.estimates["top1"].value == pytest.approx(2 / 3)
    assert found.items[1].reasons == ("took sunglasses (n04356056) for sunglasses (n04355933)",)
