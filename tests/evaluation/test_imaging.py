"""The grids at which images are read: those of training, worked out once from the original."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_models import GreyDetokenizer

from arm.evaluation.config import EvaluateConfig
from arm.evaluation.imaging import grid_of, square_grid
from arm.evaluation.items import Item
from arm.evaluation.reconstruction import Reconstruction
from arm.evaluation.subject import Subject, Tools
from arm.tokenizer.config import ResolutionConfig

EDITS = ResolutionConfig(min_short_side=512, max_long_side=1_024)
QUESTIONS = ResolutionConfig(min_short_side=256, max_long_side=976)


@pytest.mark.parametrize(
    ("size", "resolution", "grid"),
    [
        ((3000, 4000), EDITS, (48, 64)),
        ((1080, 1920), EDITS, (36, 64)),
        ((1024, 1024), EDITS, (64, 64)),
        ((480, 640), QUESTIONS, (30, 40)),
        ((600, 2700), EDITS, (14, 64)),
        ((1080, 1920), ResolutionConfig.within(512), (18, 32)),
    ],
)
def test_an_image_has_the_grid_that_training_gives_it(
    size: tuple[int, int], resolution: ResolutionConfig, grid: tuple[int, int]
) -> None:
    assert grid_of(*size, resolution, stride=16) == grid


def test_images_of_texts_are_squares() -> None:
    assert square_grid(1_024, stride=16) == (64, 64)
    assert square_grid(36, stride=12) == grid_of(36, 36, ResolutionConfig.within(36), stride=12) == (3, 3)


class WideTokenizer:
    """Codes of 16 pixels, all 0."""

    stride = 16

    def encode(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images_BCHW), images_BCHW.shape[2] // 16, images_BCHW.shape[3] // 16, dtype=torch.long)


class WideDetokenizer(GreyDetokenizer):
    """Renders codes of 16 pixels; takes sources that fit the codes."""

    takes_sources = True

    def render(
        self, codes_BHW: torch.Tensor, tokenizer: Any, *, sources_BCHW: Any = None, **_others: Any
    ) -> torch.Tensor:
        _, height, width = codes_BHW.shape
        assert sources_BCHW is None or sources_BCHW.shape[2:] == (16 * height, 16 * width)
        return torch.zeros(len(codes_BHW), 3, 16 * height, 16 * width)


def tools(monkeypatch: pytest.MonkeyPatch, **sizes: Any) -> Tools:
    monkeypatch.setattr(Tools, "tokenizer", WideTokenizer())
    monkeypatch.setattr(Tools, "detokenizer", WideDetokenizer())
    return Tools(tokenizer=Path("t"), detokenizer=Path("d"), encoder=None, config=EvaluateConfig(**sizes))


PHOTOGRAPHS = [np.zeros((height, 640, 3), np.uint8) for height in range(320, 641)]
"""The shapes of COCO: some were fitted to one grid and then, being that size, to another."""


@pytest.mark.parametrize("size", [{"image_size": 1_024}, {"image_size": 512}, {"edit_resolution": EDITS}])
def test_photographs_of_all_shapes_are_reconstructed_at_the_grids_of_the_originals(
    monkeypatch: pytest.MonkeyPatch, size: dict[str, Any]
) -> None:
    made = tools(monkeypatch, **size)
    some = [*PHOTOGRAPHS[::8], PHOTOGRAPHS[1], PHOTOGRAPHS[15], PHOTOGRAPHS[26]]
    items = [Item(uid=str(index), group="all", prompt="", source=image) for index, image in enumerate(some)]
    outputs = Reconstruction().generate(items, Subject(name="reference", tools=made))
    grids = [
        (output.image.shape[0] // 16, output.image.shape[1] // 16) for output in outputs if output.image is not None
    ]
    assert grids == [grid_of(*image.shape[:2], made.config.editing, stride=16) for image in some]
    codes = made.encode([made.fit(image, made.config.editing) for image in some])
    assert [image.shape for image in made.render(codes, range(len(some)), some)] == [
        (16 * height, 16 * width, 3) for height, width in grids
    ]


def test_a_protocol_names_sizes_that_were_set_and_no_others() -> None:
    assert EvaluateConfig(image_size=8).sizes == {"image_size": 8}
    sizes = EvaluateConfig(image_size=1_024, read_resolution=QUESTIONS, edit_resolution=EDITS).sizes
    assert sizes == {"image_size": 1_024, "read_sizes": "256 to 976", "edit_sizes": "512 to 1024"}
