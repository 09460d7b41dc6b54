"""What a prompt asks for, whatever its words: the objects of GenEval's metadata or of its sentence.

    {"include": [{"class": "bench", "count": 2}]}       ->  (("bench", 2, ""),)
    "a photo of two benches"                            ->  (("bench", 2, ""),)
    "A photo of a red cow and a blue pizza."            ->  (("cow", 1, "red"), ("pizza", 1, "blue"))
    "a photo of a dog right of a teddy bear"            ->  (("dog", 1, ""), "right of", ("teddy bear", 1, ""))

Objects side by side are sorted, since their order asks for nothing else; a relation keeps its sides.
"""

import re
from collections.abc import Mapping
from typing import Any

from arm.evaluation.detectors.classes import CLASSES, COLOURS

Scene = tuple[Any, ...]
TEMPLATE = re.compile(r"(?:a |an )?(?:photo|picture|image) of (.+)")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
PLURALS = {"people": "person", "knives": "knife", "mice": "mouse", "computer mice": "computer mouse"}


def scene_of_meta(meta: Mapping[str, Any]) -> Scene | None:
    """The scene of GenEval's metadata; None where it is none."""
    try:
        clauses = meta["include"]
        objects = [(str(item["class"]), int(item.get("count", 1)), str(item.get("color", ""))) for item in clauses]
        related = [(index, item["position"]) for index, item in enumerate(clauses) if item.get("position")]
        if not related:
            return tuple(sorted(objects)) or None
        ((index, (relation, target)),) = related
        return (objects[index], str(relation), objects[target])
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def scene_of_text(text: str) -> Scene | None:
    """The scene of a sentence of GenEval's template, of which every object must be of its classes; else None."""
    found = TEMPLATE.fullmatch(" ".join(text.casefold().strip().rstrip(".!").split()))
    if found is None:
        return None
    for relation in RELATIONS:
        left, mark, right = found[1].partition(f" {relation} ")
        if mark:
            sides = (_object(left), _object(right))
            return (sides[0], relation, sides[1]) if all(sides) else None
    objects = [_object(part) for part in re.split(r" and |, ", found[1])]
    return tuple(sorted(item for item in objects if item)) if all(objects) else None


def _object(phrase: str) -> tuple[str, int, str] | None:
    """ "two red benches" -> ("bench", 2, "red")"""
    first, _, rest = phrase.partition(" ")
    number = NUMBERS.get(first)
    if number is None:
        return None
    colour, _, after = rest.partition(" ")
    colour, name = (colour, after) if colour in COLOURS and after else ("", rest)
    known = name if name in _KNOWN else _singular(name)
    return (known, number, colour) if known else None


def _singular(name: str) -> str | None:
    for ending, instead in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if name.endswith(ending) and name.removesuffix(ending) + instead in _KNOWN:
            return name.removesuffix(ending) + instead
    return PLURALS.get(name)


_KNOWN = frozenset(CLASSES)
