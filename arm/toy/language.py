"""What the toy world says about its scenes: captions in GenEval's six categories, questions, edits, documents.

caption   "a photo of a red circle and a blue square"
          {"category": "color_attr", "include": [{"class": "circle", "count": 1, "color": "red"}, …]}
question  "how many squares are there?"  "two"   counting
edit      "make the red circle blue"             recolour
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from arm.toy.config import DEFAULT, SceneConfig
from arm.toy.scene import CATEGORIES, CELLS, COLORS, SHAPES, SIZES, Object, Scene, draw_scene, free_center

NUMBERS = ("zero", "one", "two", "three", "four")
PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
TEMPLATES = ("{}", "a photo of {}", "a picture of {}")
CAPTION_WEIGHTS = {
    "single_object": 1.0, "colors": 1.5, "two_object": 2.0, "counting": 2.0, "position": 2.5, "color_attr": 3.0, "places": 2.0,
}  # fmt: skip
"""How often training captions are of each category: the harder, the more often."""
COUNT_WEIGHTS = (1, 1.5, 6, 20, 20)
"""How much more often a question asks for two, three or four, which few scenes have."""
OPERATIONS = ("recolour", "remove", "add", "replace", "move")
QUESTION_KINDS = ("existence", "counting", "colour", "position")
WORDS = tuple(
    sorted(
        {word for phrase in (*CELLS, *NUMBERS, *SHAPES, *COLORS, *SIZES, *PLURALS.values()) for word in phrase.split()}
    )
)
"""The content words: the rest is a handful of function words."""

EDIT_ATTEMPTS = 40
MIN_MOVE_PIXELS = 8.0
"""A shorter move could end where a reader would still say 'it has not moved'; only the unaligned world has such."""

Meta = dict[str, Any]


def describe(scene: Scene, category: str, rng: random.Random) -> tuple[str, Meta]:
    """Caption a scene that was drawn for `category` ('full': everything with sizes and places; 'places': without sizes).

        position  ->  "a photo of a circle left of a square"
                      {"category": "position", "include": [{"class": "square", "count": 1},
                                     {"class": "circle", "count": 1, "position": ["left of", 0]}]}
        full      ->  "a large red circle at the top left, a small blue square at the center"
    """  # fmt: skip
    phrase, include = _CAPTIONS[category](scene, rng)
    template = "{}" if category in ("full", "places") else rng.choice(TEMPLATES)
    return template.format(phrase), {"category": category, "include": include}


def draw_captioned(rng: random.Random, config: SceneConfig = DEFAULT) -> tuple[Scene, str, Meta]:
    """A training scene with its caption, its category drawn by CAPTION_WEIGHTS."""
    category = rng.choices(list(CAPTION_WEIGHTS), weights=list(CAPTION_WEIGHTS.values()))[0]
    scene = draw_scene(rng, config, category=category if category in CATEGORIES else None)
    return scene, *describe(scene, category, rng)


def ask(scene: Scene, rng: random.Random, count: int = 4) -> list[tuple[str, str, str]]:
    """`count` different questions about a scene: (question, answer, kind), kinds in turn from a random start.

        ("is there a red circle?", "yes", "existence")     ("what color is the circle?", "red", "colour")
        ("how many squares are there?", "two", "counting") ("where is the red circle?", "top left", "position")

    Answers are balanced: yes and no are equally likely, and a number of objects that is present as one that is not.
    """  # fmt: skip
    start = rng.randrange(len(QUESTION_KINDS))
    questions: list[tuple[str, str, str]] = []
    for turn in range(20 * count):
        kind = QUESTION_KINDS[(start + turn) % len(QUESTION_KINDS)]
        found = _QUESTIONS[kind](scene, rng)
        if found and found[0] not in {question for question, _, _ in questions}:
            questions.append((*found, kind))
        if len(questions) == count:
            break
    return questions


def edit(
    scene: Scene, rng: random.Random, config: SceneConfig = DEFAULT, operation: str | None = None
) -> tuple[str, Scene, Meta]:
    """An unambiguous instruction for a scene of distinct objects (`draw_distinct_scene`), with the scene it leads to.

        recolour  "make the red circle blue"             remove  "remove the red circle"
        replace   "replace the red circle with a square" (the colour stays)
        add       "add a red circle at the top left"     move    "move the red circle to the top left"

    meta: {"operation", "source": {"objects": […]}, "target": {"objects": […]}}, objects as `Scene.describe` gives them.
    """  # fmt: skip
    for _ in range(EDIT_ATTEMPTS):
        chosen = operation or rng.choice(OPERATIONS)
        found = _EDITS[chosen](scene, rng, config)
        if found:
            instruction, target = found
            return instruction, target, {"operation": chosen, "source": scene.describe(), "target": target.describe()}
    raise ValueError(f"{operation} is not possible on a scene of {len(scene.objects)} objects")


def document(scene: Scene, rng: random.Random) -> str:
    """A short text about a scene, without its image: a description, what follows from it, questions and answers."""
    names = [named(item, size=True) for item in scene.objects]
    lines = [f"in the garden there {'is' if len(names) == 1 else 'are'} {listed(names)}."]
    unique = [o for o in scene.objects if sum(other.kind == o.kind for other in scene.objects) == 1]
    lines += [f"the {name_of(item)} is at the {item.place}." for item in unique]
    if len(unique) > 1:
        first, second = rng.sample(unique, 2)
        relation = relation_of(first, second)
        if relation:
            lines.append(f"the {name_of(first)} is {relation} the {name_of(second)}.")
    lines += [f"question: {question} answer: {answer}." for question, answer, _ in ask(scene, rng, 2)]
    return " ".join(lines)


def named(item: Object, *, size: bool = False) -> str:
    """'a red circle', or 'a large red circle'."""
    return f"a {item.size} {item.color} {item.shape}" if size else f"a {item.color} {item.shape}"


def name_of(item: Object) -> str:
    """'red circle'."""
    return f"{item.color} {item.shape}"


def listed(phrases: Sequence[str]) -> str:
    """'a, b and c'."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def relation_of(item: Object, other: Object) -> str | None:
    """How `item` lies to `other` when one direction clearly prevails, else None."""
    across, down = item.x - other.x, item.y - other.y
    if abs(across) > 2 * abs(down):
        return "left of" if across < 0 else "right of"
    if abs(down) > 2 * abs(across):
        return "above" if down < 0 else "below"
    return None


def _entry(item: Object, *, color: bool = False) -> Meta:
    return {"class": item.shape, "count": 1} | ({"color": item.color} if color else {})


def _single(scene: Scene, rng: random.Random) -> tuple[str, list[Meta]]:
    item = scene.objects[0]
    return f"a {item.shape}", [_entry(item)]


def _two(scene: Scene, rng: random.Random) -> tuple[str, list[Meta]]:
    first, second = rng.sample(scene.objects, 2)
    return f"a {first.shape} and a {second.shape}", [_entry(first), _entry(second)]


def _counting(scene: Scene, rng: random.Random) -> tuple[str, list[Meta]]:
    shape, count = scene.objects[0].shape, len(scene.objects)
    phrase = f"{NUMBERS[count]} {PLURALS[shape]}" if count > 1 else f"one {shape}"
    return phrase, [{"class": shape, "count": count}]


def _colors(scene: Scene, rng: random.Random) -> tuple[str, list[Meta]]:
    return named(scene.objects[0]), [_entry(scene.objects[0], color=True)]


def _position(scene: Scene, rng: random.Random) -> tuple[str, list[Meta]]:
    first, second = rng.sample(scene.objects, 2)
    relation = relation_of(first, second)
    assert relation, "a scene drawn for 'position' has its objects in line"
    include = [_entry(second), _entry(first) | {"position": [relation, 0]}]
    return f"a {first.shape} {relation} a {second.shape}", include


def _attribution(scene: Scene, rng: random.Random) -> tuple[str, list[Meta]]:
    first, second = rng.sample(scene.objects, 2)
    return f"{named(first)} and {named(second)}", [_entry(first, color=True), _entry(second, color=True)]


def _full(scene: Scene, rng: random.Random) -> tuple[str, list[Meta]]:
    items = _reading_order(scene)
    include = [_entry(item, color=True) | {"size": item.size, "place": item.place} for item in items]
    return ", ".join(f"{named(item, size=True)} at the {item.place}" for item in items), include


def _places(scene: Scene, rng: random.Random) -> tuple[str, list[Meta]]:
    items = _reading_order(scene)
    include = [_entry(item, color=True) | {"place": item.place} for item in items]
    return ", ".join(f"{named(item)} at the {item.place}" for item in items), include


_CAPTIONS = {
    "single_object": _single,
    "two_object": _two,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "color_attr": _attribution,
    "full": _full,
    "places": _places,
}


def _reading_order(scene: Scene) -> list[Object]:
    return sorted(scene.objects, key=lambda item: (item.cell, item.y, item.x))


def _existence(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Half the answers are no; a 'no' mostly keeps a shape or a colour that is there, so that both must be looked at."""
    kinds = {item.kind for item in scene.objects}
    shape, color = rng.choice(scene.objects).kind
    if rng.random() < 0.5:
        return f"is there a {color} {shape}?", "yes"
    wrong = [(s, c) for s in SHAPES for c in COLORS if (s, c) not in kinds]
    near = [kind for kind in wrong if shape in kind or color in kind]
    shape, color = rng.choice(near if near and rng.random() < 0.8 else wrong)
    return f"is there a {color} {shape}?", "no"


def _counting_question(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask for a number that some shape has here; rare numbers are asked for more often."""
    counts = {shape: sum(item.shape == shape for item in scene.objects) for shape in SHAPES}
    numbers = sorted(set(counts.values()))
    wanted = rng.choices(numbers, weights=[COUNT_WEIGHTS[number] for number in numbers])[0]
    shape = rng.choice([shape for shape, count in counts.items() if count == wanted])
    return f"how many {PLURALS[shape]} are there?", NUMBERS[wanted]


def _colour(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    unique = [o for o in scene.objects if sum(other.shape == o.shape for other in scene.objects) == 1]
    if not unique:
        return None
    item = rng.choice(unique)
    return f"what color is the {item.shape}?", item.color


def _position_question(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    unique = [o for o in scene.objects if sum(other.kind == o.kind for other in scene.objects) == 1]
    if not unique:
        return None
    item = rng.choice(unique)
    return f"where is the {name_of(item)}?", item.place


_QUESTIONS = {
    "existence": _existence,
    "counting": _counting_question,
    "colour": _colour,
    "position": _position_question,
}


def _recolour(scene: Scene, rng: random.Random, config: SceneConfig) -> tuple[str, Scene] | None:
    item = rng.choice(scene.objects)
    color = rng.choice([c for c in COLORS if (item.shape, c) not in {o.kind for o in scene.objects}])
    return f"make the {name_of(item)} {color}", scene.exchanged(item, replace(item, color=color))


def _remove(scene: Scene, rng: random.Random, config: SceneConfig) -> tuple[str, Scene] | None:
    if len(scene.objects) < 2:
        return None
    item = rng.choice(scene.objects)
    return f"remove the {name_of(item)}", scene.without(item)


def _add(scene: Scene, rng: random.Random, config: SceneConfig) -> tuple[str, Scene] | None:
    center = free_center(rng, scene, config)
    if len(scene.objects) >= config.max_objects or center is None:
        return None
    kinds = [(s, c) for s in SHAPES for c in COLORS if (s, c) not in {o.kind for o in scene.objects}]
    shape, color = rng.choice(kinds)
    item = Object(
        shape=shape, color=color, size=rng.choice(SIZES), x=center[0], y=center[1], shade=rng.uniform(0.9, 1.0)
    )
    return f"add {named(item)} at the {item.place}", replace(scene, objects=(*scene.objects, item))


def _replace(scene: Scene, rng: random.Random, config: SceneConfig) -> tuple[str, Scene] | None:
    item = rng.choice(scene.objects)
    shapes = [s for s in SHAPES if (s, item.color) not in {o.kind for o in scene.objects}]
    if not shapes:
        return None
    other = replace(item, shape=rng.choice(shapes))
    return f"replace the {name_of(item)} with a {other.shape}", scene.exchanged(item, other)


def _move(scene: Scene, rng: random.Random, config: SceneConfig) -> tuple[str, Scene] | None:
    item = rng.choice(scene.objects)
    center = free_center(rng, scene, config, ignoring=item)
    if center is None or max(abs(center[0] - item.x), abs(center[1] - item.y)) < MIN_MOVE_PIXELS:
        return None
    other = replace(item, x=center[0], y=center[1])
    return f"move the {name_of(item)} to the {other.place}", scene.exchanged(item, other)


_EDITS = {"recolour": _recolour, "remove": _remove, "add": _add, "replace": _replace, "move": _move}
