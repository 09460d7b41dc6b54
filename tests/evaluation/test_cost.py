"""Cost: the shape of what is measured, and its arithmetic on made-up times."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from arm.errors import UserError
from arm.evaluation.cost import Stopwatch, measure_cost, quantile, summarise, to_table
from arm.evaluation.items import Pixels
from arm.evaluation.models.made_images import MadeImages
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed, Unable


class Drawer(Unable):
    """Draws 4 tokens an image in two phases."""

    name = "drawer"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def protocol(self) -> dict[str, Any]:
        return {}

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        self.batches.append(len(drawings))
        with clock.phase("decode"):
            clock.count(4 * len(drawings))
        with clock.phase("detokenize"):
            return [np.zeros((2, 2, 3), np.uint8) for _ in drawings]


def test_two_calls_worked_out_by_hand() -> None:
    """2 calls of 2 images: decode 1 s and 3 s, detokenize 1 s each: 6 s for 4 images, 16 tokens in 4 s."""
    watches = [Stopwatch({"decode": 1.0, "detokenize": 1.0}, 8), Stopwatch({"decode": 3.0, "detokenize": 1.0}, 8)]
    run = summarise(2, watches)
    assert run["images_per_second"] == pytest.approx(4 / 6)
    assert run["tokens_per_image"] == 4
    assert run["phases"]["decode"] == pytest.approx(
        {"seconds_per_image": 1.0, "call_p50": 2.0, "call_p95": 2.9, "tokens_per_second": 4.0}
    )
    assert run["phases"]["detokenize"]["seconds_per_image"] == pytest.approx(0.5)
    assert run["phases"]["all"]["call_p95"] == pytest.approx(3.9)
    assert quantile([5.0], 0.95) == 5.0


def test_every_batch_size_is_warmed_up_and_measured() -> None:
    model = Drawer()
    cost = measure_cost(model, ["a", "b"], [1, 3], 2, {"kind": "ours"})
    assert model.batches == [1, 1, 1, 3, 3, 3]
    assert [(run["batch_size"], run["num_calls"], run["tokens_per_image"]) for run in cost["runs"]] == [
        (1, 2, 4), (3, 2, 4),
    ]  # fmt: skip
    assert set(cost["runs"][0]["phases"]) == {"decode", "detokenize", "all"}
    assert cost["runs"][0]["peak_memory_bytes"] > 0
    assert json.loads(json.dumps(cost)) == cost
    assert len(to_table(cost).splitlines()) == 7


def test_nothing_to_measure_is_one_sentence() -> None:
    with pytest.raises(UserError, match="at least one call"):
        measure_cost(Drawer(), ["a"], [1], 0, {})


def test_images_that_are_there_already_have_no_cost(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match="draws nothing itself, its images are there"):
        measure_cost(MadeImages(tmp_path), ["a"], [1], 1, {})


def test_an_image_that_failed_has_no_cost() -> None:
    class Refusing(Drawer):
        def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
            return [Failed("policy") for _ in drawings]

    with pytest.raises(UserError, match=r"drawer did not draw an image that was to be timed \(policy\)"):
        measure_cost(Refusing(), ["a"], [1], 1, {})
