"""Evaluations whose histories differ in seeds alone stand side by side on the page; any other difference keeps them apart."""

import json
import re
from pathlib import Path
from typing import Any

from arm import manifest as manifests
from arm.evaluation.page.store import read_store
from arm.evaluation.report import write_report
from arm.manifest import Manifest
from arm.storage import open_folder


def publish(store: Path, name: str, place: str, config: dict[str, Any], inputs: dict[str, str], **files: bytes) -> str:
    """An artifact among others of its family, the newest; returns its digest."""
    folder = open_folder(str(store / name / place))
    for path, data in files.items():
        folder.write(f"{path}.json", data)
    made = Manifest(
        kind="evaluation" if name == "23-evaluate-model" else "model", job=name[3:], version=1, key=place, config=config, inputs=inputs,
        counts={}, metrics={}, files=manifests.entries_of(folder), folder=folder,
    )  # fmt: skip
    folder.write("manifest.json", made.to_json())
    pointer = {"manifest": f"{place}/manifest.json", "digest": made.digest}
    open_folder(str(store / name)).write("current.json", json.dumps(pointer).encode())
    return made.digest


def road(store: Path, seed: int, value: float | None, steps: int = 400, world: str = "the crawl") -> None:
    """Two stages of training and their evaluation."""
    place = f"{seed}-{steps}"
    first = publish(store, "16-train-model-pretrain", place, {"seed": seed, "steps": steps}, {"tokens": world})
    second = publish(store, "18-train-model-finetune", place, {"seed": seed, "steps": 300}, {"base": first})
    estimates = (
        {} if value is None else {"mean": {"value": value, "low": value - 0.02, "high": value + 0.02, "num_items": 9}}
    )
    record = {
        "dataset": "f" * 64, "checker": "", "aggregation": "mean", "headline": "mean", "refused": "" if estimates else "1 is missing",
        "num_expected": 9, "num_scored": 9, "num_failed": 0, "interval": "95%", "sampling": {}, "estimates": estimates,
    }  # fmt: skip
    protocols = json.dumps({"finetuned": {"text_to_image": record}}).encode()
    publish(
        store, "23-evaluate-model", place, {"seed": seed, "max_images": 9}, {"finetuned": second}, protocols=protocols
    )


def cells(store: Path) -> list[list[str]]:
    """The rows of the seeds' table."""
    part = write_report(str(store)).read_text().partition('id="seeds"')[2].partition("</section>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in part.split("<tr>")[1:]]
    return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in rows]


def test_seeds_of_one_history_are_averaged(tmp_path: Path) -> None:
    for seed, value in ((0, 0.70), (2, 0.80), (1, 0.75)):
        road(tmp_path, seed, value)
    assert cells(tmp_path) == [
        ["Benchmark", "Stage", "Mean", "Range", "seed 0", "seed 1", "seed 2"],
        ["Text to image", "finetuned", "0.750", "0.700–0.800", "0.700", "0.750", "0.800"],
    ]


def test_a_run_that_differs_in_more_than_its_seed_is_left_out(tmp_path: Path) -> None:
    road(tmp_path, 0, 0.70, steps=100)
    road(tmp_path, 5, 0.71, world="another crawl")
    road(tmp_path, 0, 0.60)
    road(tmp_path, 1, 0.80)
    assert [row[2:] for row in cells(tmp_path)[1:]] == [["0.700", "0.600–0.800", "0.600", "0.800"]]


def test_a_refused_headline_counts_in_no_mean(tmp_path: Path) -> None:
    road(tmp_path, 0, 0.70)
    road(tmp_path, 1, None)
    assert cells(tmp_path)[1][2:] == ["0.700", "0.700–0.700", "0.700", "refused"]


def test_one_seed_has_no_such_part(tmp_path: Path) -> None:
    road(tmp_path, 0, 0.70)
    assert cells(tmp_path) == []
    assert [step.name for step in read_store(str(tmp_path))][-1] == "23-evaluate-model"
