"""The verifier reads real images right, and judges strictly."""

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from arm.toy.config import SceneConfig
from arm.toy.language import OPERATIONS, describe, edit
from arm.toy.rendering import render
from arm.toy.scene import CATEGORIES, SHAPES, Background, Object, Scene, draw_distinct_scene, draw_scene
from arm.toy.verifier import Seen, check_edit, check_prompt, expand, is_related, judge, read_image

PLAIN = Background(noise=0.0)


def seen(shape: str, color: str, x: float, y: float, size: str = "large") -> Seen:
    return Seen(shape=shape, color=color, size=size, x=x, y=y, score=0.99)


@pytest.mark.parametrize("aligned", [True, False])
def test_at_least_99_in_100_real_images_are_read_right(aligned: bool) -> None:
    rng = random.Random(7)
    scenes = [draw_scene(rng, SceneConfig(aligned=aligned), split=None) for _ in range(600)]
    right = 0
    for scene, image in zip(scenes, render(scenes, range(600)), strict=True):
        found = sorted((item.shape, item.color, item.size) for item in read_image(image))
        right += found == sorted((o.shape, o.color, o.size) for o in scene.objects)
    assert right >= 594


def test_centres_are_found_to_a_quarter_pixel() -> None:
    rng = random.Random(8)
    scenes = [draw_scene(rng, category="single_object") for _ in range(100)]
    for scene, image in zip(scenes, render(scenes, range(100)), strict=True):
        (item,) = read_image(image)
        assert item.x == pytest.approx(scene.objects[0].x, abs=0.26)
        assert item.y == pytest.approx(scene.objects[0].y, abs=0.26)


def test_soft_images_are_read_too() -> None:
    rng = random.Random(9)
    scenes = [draw_scene(rng) for _ in range(200)]
    images = ndimage.gaussian_filter(render(scenes, range(200)).astype(np.float32), (0, 0.6, 0.6, 0))
    right = 0
    for scene, image in zip(scenes, images, strict=True):
        found = sorted((item.shape, item.color, item.place) for item in read_image(image.astype(np.uint8)))
        right += found == sorted((o.shape, o.color, o.place) for o in scene.objects)
    assert right >= 190


def test_an_enlarged_image_is_read_like_the_small_one() -> None:
    image = render([draw_scene(random.Random(10))], [1])[0]
    assert read_image(image.repeat(8, 0).repeat(8, 1)) == read_image(image)


def test_an_empty_ground_and_a_full_one_hold_no_object_of_the_world() -> None:
    assert read_image(render([Scene(objects=())], [0])[0]) == ()
    assert not any(item.known for item in read_image(np.full((36, 36, 3), (215, 40, 45), np.uint8)))


def test_debris_counts_as_one_more_object() -> None:
    image = render(
        [Scene(objects=(Object(shape="circle", color="red", size="large", x=6, y=6),), background=PLAIN)], [0]
    )[0]
    image[30, 20:34] = (45, 80, 215)
    items = read_image(image)
    assert [item.known for item in items] == [True, False]
    verdict = check_prompt(image, {"include": [{"class": "circle", "count": 1}]})
    assert not verdict.strict
    assert verdict.score == 0.5
    assert verdict.reasons == ("1 more than asked for",)


def test_a_blend_of_two_shapes_is_seldom_taken_for_either() -> None:
    """Half circle, half square, and half triangle, half cross: at most one in four passes."""
    for one, other in (("circle", "square"), ("triangle", "cross")):
        item = Object(shape=one, color="blue", size="large", x=18, y=18)
        pairs = [
            (replace(item, x=18 + step / 40), replace(item, shape=other, x=18 + step / 40)) for step in range(-16, 16)
        ]
        images = [
            render([Scene(objects=(o,), background=PLAIN) for o in pair], [0, 0]).astype(float).mean(0)
            for pair in pairs
        ]
        known = sum(read_image(np.rint(image).astype(np.uint8))[0].shape in SHAPES for image in images)
        assert known <= 8


@pytest.mark.parametrize("category", [*CATEGORIES, "full", "places"])
def test_an_image_of_the_caption_is_strictly_right_and_of_another_mostly_wrong(category: str) -> None:
    rng = random.Random(category)
    scenes = [draw_scene(rng, category=category if category in CATEGORIES else None) for _ in range(60)]
    metas = [describe(scene, category, rng)[1] for scene in scenes]
    images = render(scenes, range(60))
    own = [check_prompt(image, meta) for image, meta in zip(images, metas, strict=True)]
    other = [check_prompt(image, meta) for image, meta in zip(images, metas[1:], strict=False)]
    assert sum(verdict.strict for verdict in own) >= 59
    assert all(verdict.score == 1 for verdict in own if verdict.strict)
    assert sum(verdict.strict for verdict in other) <= 25
    assert all(not verdict.strict for verdict in other if verdict.score < 1)


@pytest.mark.parametrize(
    ("include", "items", "strict", "score"),
    [
        ([{"class": "circle", "count": 2}], [seen("circle", "red", 6, 6), seen("circle", "blue", 18, 6)], True, 1.0),
        ([{"class": "circle", "count": 2}], [seen("circle", "red", 6, 6)], False, 0.5),
        ([{"class": "circle", "count": 1}], [seen("circle", "red", 6, 6), seen("cross", "red", 18, 6)], False, 0.5),
        ([{"class": "circle", "count": 1, "color": "blue"}], [seen("circle", "red", 6, 6)], False, 0.5),
        ([{"class": "circle", "count": 1, "place": "top left"}], [seen("circle", "red", 6, 6)], True, 1.0),
        ([{"class": "circle", "count": 1, "size": "small"}], [seen("circle", "red", 6, 6)], False, 0.5),
        ([{"class": "circle", "count": 1}], [], False, 0.0),
    ],
)
def test_scores_by_hand(include: list[dict[str, object]], items: list[Seen], strict: bool, score: float) -> None:
    verdict = judge(items, expand(include))
    assert (verdict.strict, verdict.score) == (strict, score)
    assert bool(verdict.reasons) != strict


def test_attributes_bind_to_their_own_object() -> None:
    include = [{"class": "circle", "count": 1, "color": "red"}, {"class": "square", "count": 1, "color": "blue"}]
    swapped = [seen("circle", "blue", 6, 6), seen("square", "red", 18, 6)]
    assert judge(swapped, expand(include)).score == 0.5


def test_a_position_points_to_the_first_object_of_an_earlier_entry() -> None:
    include = [{"class": "square", "count": 2}, {"class": "circle", "count": 1, "position": ["left of", 0]}]
    assert expand(include)[2]["position"] == ("left of", 0)
    later = [
        {"class": "cross", "count": 3},
        {"class": "square", "count": 1},
        {"class": "circle", "count": 1, "position": ["above", 1]},
    ]
    assert expand(later)[4]["position"] == ("above", 3)


@pytest.mark.parametrize(
    ("x", "y", "relation", "holds"),
    [(6, 6, "left of", True), (6, 6, "right of", False), (6, 18, "left of", True), (14, 6, "left of", True),
     (15, 6, "left of", False), (14, 30, "left of", False), (18, 6, "above", False)],
)  # fmt: skip
def test_a_relation_needs_distance_and_direction(x: float, y: float, relation: str, holds: bool) -> None:
    assert is_related(seen("circle", "red", x, y), seen("square", "red", 18, 6), relation) is holds


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_edit_passes_with_the_target_and_never_with_the_source(operation: str, aligned: bool) -> None:
    rng, config = random.Random(operation), SceneConfig(aligned=aligned)
    done = 0
    for index in range(60):
        scene = draw_distinct_scene(rng, config, min_objects=2)
        try:
            _, target, meta = edit(scene, rng, config, operation)
        except ValueError:
            continue
        before, after = render([scene, target], [index, index])
        assert check_edit(after, before, meta).strict
        assert check_edit(after, before, meta).score == 1
        assert not check_edit(before, before, meta).strict
        assert check_edit(before, before, meta).score == 0
        done += 1
    assert done > 30
