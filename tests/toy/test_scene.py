"""Scenes: their identity, their splits, and what a category promises."""

import itertools
import random
from collections import Counter

import pytest

from arm.errors import UserError
from arm.toy.config import SceneConfig, WorldConfig
from arm.toy.datasets import DRAWERS, draft
from arm.toy.scene import (
    CATEGORIES,
    CELL,
    CELLS,
    COLORS,
    RADIUS,
    SHAPES,
    SIDE,
    SIZES,
    Background,
    Object,
    Scene,
    draw_distinct_scene,
    draw_scene,
)

RED = Object(shape="circle", color="red", size="large", x=6.4, y=5.8)
BLUE = Object(shape="square", color="blue", size="small", x=30.0, y=18.1)


def test_a_place_is_named_by_the_cell_that_holds_the_centre() -> None:
    assert [RED.place, BLUE.place] == ["top left", "right"]
    names = [
        Object(shape="circle", color="red", size="small", x=x, y=y).place for y in (6, 18, 30) for x in (6, 18, 30)
    ]
    assert tuple(names) == CELLS


def test_jitter_background_noise_and_order_do_not_change_a_scenes_identity() -> None:
    moved = Object(shape="circle", color="red", size="large", x=5.5, y=6.6, shade=0.9)
    one = Scene(objects=(RED, BLUE))
    other = Scene(objects=(BLUE, moved), background=Background(tint=(200.0, 210.0, 190.0), noise=1.0))
    assert one.hash() == other.hash()
    assert one.canonical() == (("circle", "red", "large", "top left"), ("square", "blue", "small", "right"))


@pytest.mark.parametrize("change", [{"shape": "cross"}, {"color": "green"}, {"size": "small"}, {"x": 18.0}])
def test_shape_colour_size_and_place_change_it(change: dict[str, object]) -> None:
    fields = {"shape": "circle", "color": "red", "size": "large", "x": 6.4, "y": 5.8} | change
    assert Scene(objects=(Object(**fields),)).hash() != Scene(objects=(RED,)).hash()  # type: ignore[arg-type]


def test_unaligned_scenes_are_told_apart_by_the_pixel() -> None:
    near = Object(shape="circle", color="red", size="large", x=8.4, y=5.8)
    assert Scene(objects=(RED,), aligned=False).hash() != Scene(objects=(near,), aligned=False).hash()


def test_about_one_scene_in_twenty_goes_to_each_held_out_split() -> None:
    rng = random.Random(0)
    splits = Counter(draw_scene(rng, split=None).split() for _ in range(4000))
    assert 0.82 < splits["train"] / 4000 < 0.88
    assert all(0.03 < splits[name] / 4000 < 0.07 for name in ("prompts", "tuning", "evaluation"))


def test_each_held_out_split_owns_one_scene_of_each_kind_of_single_object() -> None:
    for shape, color in itertools.product(SHAPES, COLORS):
        single = [
            Scene(objects=(Object(shape=shape, color=color, size=size, x=x, y=y),))
            for size, x, y in itertools.product(SIZES, (6, 18, 30), (6, 18, 30))
        ]
        assert Counter(scene.split() for scene in single) == {"train": 15, "prompts": 1, "tuning": 1, "evaluation": 1}


@pytest.mark.parametrize("aligned", [True, False])
def test_training_prompts_and_evaluation_never_share_a_scene(aligned: bool) -> None:
    config = WorldConfig(scene=SceneConfig(aligned=aligned))
    hashes: dict[str, set[str]] = {}
    for dataset in DRAWERS:
        owner = dataset.split("-")[0] if "-" in dataset else "train"
        for index in range(40):
            one = draft(dataset, index, config)
            drawn = {part.hash() for part in one.parts if isinstance(part, Scene)}
            hashes.setdefault(owner, set()).update(drawn, *([one.meta[k]] for k in one.meta if k.endswith("_hash")))
    assert set(hashes) == {"train", "prompts", "evaluation"}
    assert all(len(found) > 40 for found in hashes.values())
    assert not hashes["train"] & hashes["prompts"]
    assert not hashes["train"] & hashes["evaluation"]
    assert not hashes["prompts"] & hashes["evaluation"]


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_draws_just_the_objects_that_it_names(category: str) -> None:
    rng = random.Random(category)
    for _ in range(100):
        objects = draw_scene(rng, category=category).objects
        if category in ("single_object", "colors"):
            assert len(objects) == 1
        elif category == "counting":
            assert 2 <= len(objects) <= 4
            assert len({o.shape for o in objects}) == 1
        else:
            assert len({o.shape for o in objects}) == len({o.color for o in objects}) == len(objects) == 2


@pytest.mark.parametrize("aligned", [True, False])
def test_objects_keep_inside_the_image_and_apart(aligned: bool) -> None:
    rng = random.Random(1)
    for _ in range(300):
        scene = draw_scene(rng, SceneConfig(aligned=aligned))
        for index, item in enumerate(scene.objects):
            reach = RADIUS[item.size]
            assert reach <= min(item.x, item.y)
            assert max(item.x, item.y) <= SIDE - reach
            for other in scene.objects[:index]:
                assert max(abs(item.x - other.x), abs(item.y - other.y)) >= reach + RADIUS[other.size] + 1
        if aligned:
            assert len({o.cell for o in scene.objects}) == len(scene.objects)
            assert all(abs(o.x % CELL - 6) <= 0.8 and abs(o.y % CELL - 6) <= 0.8 for o in scene.objects)


def test_a_distinct_scene_names_each_object_by_shape_and_colour() -> None:
    rng = random.Random(2)
    for _ in range(200):
        scene = draw_distinct_scene(rng, min_objects=2)
        assert len({o.kind for o in scene.objects}) == len(scene.objects) >= 2


def test_an_unknown_category_and_wrong_configs_are_refused() -> None:
    with pytest.raises(ValueError, match="single_object"):
        draw_scene(random.Random(0), category="singles")
    with pytest.raises(UserError, match="1 to 4"):
        SceneConfig(max_objects=5)
    with pytest.raises(UserError, match="leave their cell"):
        SceneConfig(jitter_pixels=2.0)
