"""Images of scenes: shapes cover what geometry says, and depend on scene and seed alone."""

import io
import random
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from arm.toy.png import encode_png
from arm.toy.rendering import PALETTE, coverage, render
from arm.toy.scene import COLORS, Background, Object, Scene, draw_scene

PLAIN = Background(tint=(220.0, 220.0, 220.0), noise=0.0)
AREAS = {
    "circle": np.pi * 4.6**2,
    "square": (2 * 0.9 * 4.6) ** 2,
    "triangle": 0.5 * (2 * 4.6) * (2 * 0.95 * 4.6),
    "cross": 2 * (2 * 4.6) * (0.64 * 4.6) - (0.64 * 4.6) ** 2,
}


@pytest.mark.parametrize("shape", AREAS)
def test_templates_cover_the_area_of_the_shape_at_every_offset(shape: str) -> None:
    areas = coverage(shape, 4.6).sum((2, 3))
    assert areas.shape == (8, 8)
    assert np.allclose(areas, AREAS[shape], rtol=0.04)


def test_an_object_lies_where_its_centre_says() -> None:
    item = Object(shape="circle", color="red", size="large", x=18.25, y=6.5)
    image = render([Scene(objects=(item,), background=PLAIN)], [0])[0].astype(float)
    weight = np.abs(image - 220).sum(2)
    axis = np.arange(36) + 0.5
    assert weight.sum(0) @ axis / weight.sum() == pytest.approx(18.25, abs=0.02)
    assert weight.sum(1) @ axis / weight.sum() == pytest.approx(6.5, abs=0.02)


@pytest.mark.parametrize("center", [5.0, 31.0])
def test_an_object_at_the_edge_that_a_video_may_reach_lies_where_its_centre_says(center: float) -> None:
    item = Object(shape="circle", color="red", size="large", x=center, y=36 - center)
    image = render([Scene(objects=(item,), background=PLAIN, aligned=False)], [0])[0].astype(float)
    weight = np.abs(image - 220).sum(2)
    assert weight.sum(0) @ (np.arange(36) + 0.5) / weight.sum() == pytest.approx(center, abs=0.02)


@pytest.mark.parametrize("color", COLORS)
def test_the_middle_of_an_object_has_its_colour(color: str) -> None:
    item = Object(shape="square", color=color, size="small", x=18.0, y=18.0, shade=0.9)
    image = render([Scene(objects=(item,), background=PLAIN)], [0])[0]
    assert np.allclose(image[18, 18], 0.9 * PALETTE[COLORS.index(color)], atol=0.6)
    assert (image[0, 0] == 220).all()


def test_an_image_depends_on_its_scene_and_seed_alone() -> None:
    rng = random.Random(0)
    scenes = [draw_scene(rng) for _ in range(300)]
    together = render(scenes, range(300))
    assert together.shape == (300, 36, 36, 3)
    assert (together[299] == render(scenes[299:], [299])[0]).all()
    assert (together[5] != render([scenes[5]], [6])[0]).any()


def test_the_same_seed_leaves_what_an_edit_does_not_touch_as_it_was() -> None:
    first = Object(shape="circle", color="red", size="large", x=6, y=6)
    second = Object(shape="cross", color="blue", size="large", x=30, y=30)
    before, after = render(
        [Scene(objects=(first, second)), Scene(objects=(replace(first, color="green"), second))], [4, 4]
    )
    assert (before[12:] == after[12:]).all()
    assert (before[:12, 12:] == after[:12, 12:]).all()
    assert (before[:12, :12] != after[:12, :12]).any()


def test_more_than_a_chunk_of_scenes_and_none_at_all_are_rendered() -> None:
    assert render([], []).shape == (0, 36, 36, 3)
    empty = Scene(objects=(), background=PLAIN)
    assert (render([empty] * 300, range(300)) == 220).all()


@pytest.mark.parametrize("scale", [1, 8])
def test_png_files_hold_the_same_pixels_enlarged(scale: int) -> None:
    image = render([draw_scene(random.Random(3))], [3])[0]
    with PIL.Image.open(io.BytesIO(encode_png(image, scale))) as picture:
        assert picture.size == (36 * scale, 36 * scale)
        assert (np.asarray(picture) == image.repeat(scale, 0).repeat(scale, 1)).all()
