"""The tokenizer ablation: rows by their losses, mean and spread by hand, a page that loads nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_store import HOSTILE, curve
from test_report import read

from arm import manifest as manifests
from arm.errors import UserError
from arm.evaluation.ablation import LOSSES, PAPER, gather, look_up, losses_of, mean_and_spread, to_table, written
from arm.evaluation.page.ablation import mean_curve
from arm.evaluation.tokenizer_comparison import compare_tokenizers
from arm.manifest import Manifest
from arm.storage import open_folder

ZERO_SHOT = "zero_shot/kinds/top1"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


def publish(folder: Path, kind: str, *, config: dict[str, Any], inputs: dict[str, str], **fields: Any) -> Manifest:
    output = open_folder(str(folder))
    for name, data in fields.get("files", {}).items():
        output.write(name, data)
    manifest = Manifest(
        kind=kind, job="made-up", version=1, key="0" * 64, config=config, inputs=inputs, counts={},
        metrics=fields["metrics"], files=manifests.entries_of(output), folder=output,
    )  # fmt: skip
    output.write("manifest.json", manifest.to_json())
    return manifest


def tokenizer(folder: Path, losses: tuple[str, ...], seed: int, psnr: float) -> Manifest:
    weights = {f"{loss}_weight": 2.0 if loss in losses else 0.0 for loss in LOSSES}
    files = {
        "curves.jsonl": curve(seed, {"loss/pixel": (1.0, 0.2)}, steps=40),
        "samples/reconstruction.png": PIXEL,
    }
    config = {"seed": seed, "note": HOSTILE, **weights}
    return publish(folder, "tokenizer", config=config, inputs={}, metrics={"pixel_dit/psnr": psnr}, files=files)


def evaluation(folder: Path, of: Manifest, top1: float) -> Manifest:
    return publish(
        folder,
        "tokenizer-evaluation",
        config={},
        inputs={"tokenizer": of.digest},
        metrics={ZERO_SHOT: top1},
        files={"samples/photographs.png": PIXEL},
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Manifest], list[Manifest]]:
    """All four losses from seeds 1 and 0, and caption + pixel from seed 0, evaluated in another order."""
    root = tmp_path_factory.mktemp("runs")
    four = tuple(LOSSES)
    made = [
        tokenizer(root / "a", four, 1, 23.0),
        tokenizer(root / "b", ("caption", "pixel"), 0, 22.5),
        tokenizer(root / "c", four, 0, 22.0),
    ]
    scores = (0.99, 0.05, 0.97)
    found = [evaluation(root / f"e{n}", of, score) for n, (of, score) in enumerate(zip(made, scores, strict=True))]
    return made, found[::-1]


def test_spread_is_that_of_a_sample() -> None:
    mean, spread = mean_and_spread([1.0, 2.0, 6.0])  # squares 4 + 1 + 9 = 14, over n - 1 = 2: 7
    assert mean == 3.0
    assert spread == pytest.approx(7**0.5)
    assert mean_and_spread([5.0]) == (5.0, 0.0)
    assert written([1.0, 2.0, 6.0], 2) == "3.00 ± 2.65"
    assert written([0.5], 3) == "0.500"
    assert written([], 3) == "–"


def test_a_tokenizers_row_is_the_losses_with_a_weight() -> None:
    assert losses_of({"caption_weight": 1.0, "pixel_weight": 5.0, "sigmoid_weight": 0.0, "feature_weight": 0}) == (
        "caption",
        "pixel",
    )
    assert losses_of({"feature_weight": 0.1, "pixel_weight": 5.0}) == ("pixel", "feature")


def test_rows_stand_in_the_order_of_table_7_with_their_seeds_and_their_own_scores(runs: Any) -> None:
    rows = gather(*runs)
    assert [row.losses for row in rows] == [("caption", "pixel"), tuple(LOSSES)]
    assert [run.seed for run in rows[1].runs] == [0, 1]
    assert rows[1].values(ZERO_SHOT) == [0.97, 0.99]
    assert rows[1].values("pixel_dit/psnr") == [22.0, 23.0]
    assert rows[0].values(ZERO_SHOT) == [0.05]


def test_the_same_tokenizer_twice_is_one_seed(runs: Any) -> None:
    tokenizers, evaluations = runs
    assert [len(row.runs) for row in gather([*tokenizers, *tokenizers], evaluations)] == [1, 2]
    with pytest.raises(UserError, match="no tokenizer"):
        gather([], [])


def test_the_table_marks_losses_and_dashes_what_nobody_measured(runs: Any) -> None:
    last = to_table(gather(*runs)).splitlines()[-1]
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    assert cells == ["x", "x", "x", "x", "0.980 ± 0.014", "–", "22.50 ± 0.71", "–", "–", "–", "–", "2"]


def test_a_metric_is_found_by_its_name_or_at_the_only_size() -> None:
    assert look_up({"psnr": 20.0, "psnr/36x36": 21.0}, "psnr") == 20.0
    assert look_up({"psnr/36x36": 21.0}, "psnr") == 21.0
    assert look_up({"psnr/36x36": 21.0, "psnr/36x48": 19.0}, "psnr") is None
    assert look_up({"psnr/of_pixels": 21.0}, "psnr") is None


def test_the_mean_curve_has_the_steps_that_all_seeds_have() -> None:
    assert mean_curve([[(1, 4.0), (2, 6.0)], [(1, 2.0), (3, 9.0)]]) == [(1, 3.0)]


def test_the_papers_rows_are_table_7() -> None:
    assert [row["zero_shot"] for row in PAPER.values()] == [0.002, 0.794, 0.581, 0.802]
    assert [row["pixel_psnr"] for row in PAPER.values()] == [15.2, 9.3, 17.1, 19.6]
    assert [row["usage"] for row in PAPER.values()] == [0.694, 0.705, 0.710, 0.756]
    assert [row["perplexity"] for row in PAPER.values()] == [0.21, 0.24, 0.24, 0.28]


@pytest.fixture(scope="module")
def report(runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    tokenizers, evaluations = ([item.url for item in items] for items in runs)
    compare_tokenizers(
        tokenizers=tokenizers, evaluations=evaluations, folder=str(store / "ablation"), path=str(store / "table.md")
    )
    return store


def test_the_report_says_the_same_as_page_numbers_and_text(report: Path) -> None:
    numbers = json.loads((report / "ablation/ablation.json").read_text())
    four = numbers["rows"][1]
    assert four["losses"] == list(LOSSES)
    assert four["seeds"] == [0, 1]
    assert four["metrics"]["zero_shot"] == {"mean": 0.98, "spread": 0.014142, "values": [0.97, 0.99]}
    assert four["paper"]["pixel_psnr"] == 19.6
    text = " ".join(read(report / "ablation/report.html").text)
    for value in ("0.980 ± 0.014", "0.970 · 0.990", "22.50 ± 0.71", "19.6", "0.802", "caption + pixel"):
        assert value in text
    assert (report / "table.md").read_text() == (report / "ablation/ablation.md").read_text()


def test_the_page_shows_curves_and_pictures_loads_nothing_and_runs_nothing(report: Path) -> None:
    page = read(report / "ablation/report.html")
    assert "script" not in page.tags
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert len(page.addresses) == 3 + 2  # a reconstruction of each tokenizer, photographs of each row's first seed
    assert page.tags.count("polyline") == 1 + 3  # caption + pixel: its mean; all four: two seeds and their mean
    assert page.ids == ["table-7", "curves", "reconstructions", "settings"]
    assert HOSTILE not in (report / "ablation/report.html").read_text()
    assert HOSTILE in " ".join(page.text)


def test_the_tracker_is_told_means_spreads_and_the_page(report: Path) -> None:
    (events,) = (report / ".tracking/spool").glob("*/events.jsonl")
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [event["event"] for event in told] == ["start", "metrics", "file", "file", "finish"]
    assert told[0]["job"] == "compare-tokenizers"
    assert told[1]["values"]["caption+pixel+sigmoid+feature/zero_shot"] == 0.98
    assert told[1]["values"]["caption+pixel+sigmoid+feature/zero_shot/spread"] == 0.014142
    assert told[2]["path"].endswith("report.html")
