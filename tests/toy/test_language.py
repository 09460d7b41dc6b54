"""What is said about scenes is true of them."""

import random
from collections import Counter

import pytest

from arm.toy.config import SceneConfig
from arm.toy.language import (
    NUMBERS,
    OPERATIONS,
    PLURALS,
    QUESTION_KINDS,
    ask,
    describe,
    document,
    edit,
    relation_of,
)
from arm.toy.scene import CATEGORIES, Object, Scene, draw_distinct_scene, draw_scene

CIRCLE = Object(shape="circle", color="red", size="large", x=6, y=6)
SQUARE = Object(shape="square", color="blue", size="small", x=18, y=6.5)
PAIR = Scene(objects=(CIRCLE, SQUARE))


class First(random.Random):
    """Draws the first of everything, so that a caption can be written out by hand."""

    def choice(self, seq):  # type: ignore[no-untyped-def]
        return seq[0]

    def sample(self, population, k, *, counts=None):  # type: ignore[no-untyped-def]
        return list(population[:k])


@pytest.mark.parametrize(
    ("category", "caption", "include"),
    [
        ("two_object", "a circle and a square", [{"class": "circle", "count": 1}, {"class": "square", "count": 1}]),
        (
            "position",
            "a circle left of a square",
            [{"class": "square", "count": 1}, {"class": "circle", "count": 1, "position": ["left of", 0]}],
        ),
        (
            "color_attr",
            "a red circle and a blue square",
            [{"class": "circle", "count": 1, "color": "red"}, {"class": "square", "count": 1, "color": "blue"}],
        ),
        (
            "full",
            "a large red circle at the top left, a small blue square at the top",
            [
                {"class": "circle", "count": 1, "color": "red", "size": "large", "place": "top left"},
                {"class": "square", "count": 1, "color": "blue", "size": "small", "place": "top"},
            ],
        ),
    ],
)
def test_captions_and_their_meta_by_hand(category: str, caption: str, include: list[dict[str, object]]) -> None:
    assert describe(PAIR, category, First()) == (caption, {"category": category, "include": include})


def test_counting_uses_plurals_and_the_number_word() -> None:
    three = Scene(objects=tuple(Object(shape="cross", color="red", size="small", x=x, y=6) for x in (6, 18, 30)))
    assert describe(three, "counting", First()) == (
        "three crosses",
        {"category": "counting", "include": [{"class": "cross", "count": 3}]},
    )


@pytest.mark.parametrize(
    ("x", "y", "relation"), [(18, 6, "left of"), (6, 30, "above"), (18, 18, None), (18, 12, None), (18, 11, "left of")]
)
def test_a_relation_needs_one_direction_to_prevail(x: float, y: float, relation: str | None) -> None:
    assert relation_of(CIRCLE, Object(shape="square", color="red", size="small", x=x, y=y)) == relation


@pytest.mark.parametrize("category", CATEGORIES)
def test_captions_are_lower_case_and_short(category: str) -> None:
    rng = random.Random(category)
    for _ in range(50):
        caption, meta = describe(draw_scene(rng, category=category), category, rng)
        assert caption == caption.lower()
        assert len(caption.split()) <= 12
        assert meta["category"] == category


def _true_answer(scene: Scene, question: str, kind: str) -> str:
    words = question.rstrip("?").split()
    objects = scene.objects
    if kind == "existence":
        return "yes" if (words[-1], words[-2]) in {o.kind for o in objects} else "no"
    if kind == "counting":
        return NUMBERS[sum(PLURALS[o.shape] == words[2] for o in objects)]
    if kind == "colour":
        (item,) = [o for o in objects if o.shape == words[-1]]
        return item.color
    (item,) = [o for o in objects if o.kind == (words[-1], words[-2])]
    return item.place


def test_every_answer_is_right_and_no_question_is_asked_twice() -> None:
    rng = random.Random(0)
    for _ in range(300):
        scene = draw_scene(rng)
        asked = ask(scene, rng)
        assert 1 <= len(asked) == len({question for question, _, _ in asked})
        assert all(answer == _true_answer(scene, question, kind) for question, answer, kind in asked)


def test_questions_of_all_kinds_come_and_guessing_does_not_pay() -> None:
    rng = random.Random(1)
    answers: dict[str, Counter[str]] = {kind: Counter() for kind in QUESTION_KINDS}
    for _ in range(1500):
        for _, answer, kind in ask(draw_scene(rng), rng):
            answers[kind][answer] += 1
    chance = {kind: max(counted.values()) / counted.total() for kind, counted in answers.items()}
    assert min(counted.total() for counted in answers.values()) > 900
    assert chance["existence"] < 0.55
    assert chance["counting"] < 0.45
    assert chance["colour"] < 0.22
    assert chance["position"] < 0.16


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_edit_changes_one_object_as_it_says(operation: str, aligned: bool) -> None:
    rng, config = random.Random(operation), SceneConfig(aligned=aligned)
    for _ in range(60):
        scene = draw_distinct_scene(rng, config, min_objects=2)
        if operation == "add" and len(scene.objects) == 4:
            continue
        try:
            instruction, target, meta = edit(scene, rng, config, operation)
        except ValueError:
            assert operation == "move"
            assert not aligned
            continue
        gone = [o for o in scene.objects if o not in target.objects]
        new = [o for o in target.objects if o not in scene.objects]
        assert (len(gone), len(new)) == {"remove": (1, 0), "add": (0, 1)}.get(operation, (1, 1))
        if gone:
            assert f"the {gone[0].color} {gone[0].shape}" in instruction
        if operation == "recolour":
            assert instruction == f"make the {gone[0].color} {gone[0].shape} {new[0].color}"
        if operation in ("add", "move"):
            assert instruction.endswith(f" the {new[0].place}")
        assert meta["operation"] == operation
        assert meta["target"] == target.describe()
        assert target.hash() != scene.hash()


def test_an_impossible_edit_says_so() -> None:
    with pytest.raises(ValueError, match="remove is not possible on a scene of 1 objects"):
        edit(Scene(objects=(CIRCLE,)), random.Random(0), operation="remove")


def test_a_document_by_hand() -> None:
    text = document(PAIR, random.Random(0))
    assert text.startswith(
        "in the garden there are a large red circle and a small blue square. "
        "the red circle is at the top left. the blue square is at the top. "
    )
    assert "the red circle is left of the blue square." in text or "the blue square is right of the red circle." in text
    assert text.count("question: ") == text.count("answer: ") == 2
