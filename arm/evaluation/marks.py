"""The marks in a judge's reply, each mapped from the range that its rubric declares to 0..1: what rewards are made of.

    editing      {"following": 8, "preservation": 10, "quality": 5, …}     ->  {"following": .8, "preservation": 1, "quality": .5}
    imgedit      "Prompt Compliance: 3 …", marks from 1 to 5               ->  {"prompt_compliance": .5, …}

A reply with a schema holds its marks by name; one that is text is read as the rubric's benchmark reads it. A mark that lacks
or is out of its range is a Failure: never guessed, never 0.
"""

from collections.abc import Callable, Mapping
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks import imgedit, viescore, wise
from arm.evaluation.benchmarks.result import Failure
from arm.evaluation.rubric import Rubric

Marks = Mapping[str, Any]


def marks_of(rubric: Rubric, value: Mapping[str, Any]) -> dict[str, float] | Failure:
    """Every mark that the rubric declares, in 0..1, of a reply that was ok."""
    found = value if rubric.schema else READERS[rubric.name](str(value["text"]))
    if isinstance(found, Failure):
        return found
    marks = {}
    for name, (low, high) in rubric.marks.items():
        mark = found.get(name)
        if isinstance(mark, bool) or not isinstance(mark, int | float):
            return Failure(f"the mark {name!r} is {mark!r}, no number")
        if not low <= mark <= high:
            return Failure(f"the mark {name!r} is {mark:g}, outside {low:g} to {high:g}")
        marks[name] = (mark - low) / (high - low)
    return marks


def check_readable(rubric: Rubric) -> None:
    """Refuse a rubric whose replies hold no marks that can be read."""
    if not rubric.marks:
        raise UserError(
            f'The rubric {rubric.name} declares no marks; add them with their ranges: "marks": {{"a": [0, 10]}}.'
        )
    if empty := [name for name, (low, high) in rubric.marks.items() if not low < high]:
        raise UserError(f"The mark {empty[0]!r} of the rubric {rubric.name} has no range; give [least, greatest].")
    if not rubric.schema and rubric.name not in READERS:
        raise UserError(f"The replies of the rubric {rubric.name} are text that nothing here reads; give it a schema.")
    absent = [name for name in rubric.marks if rubric.schema and name not in rubric.schema.get("required", ())]
    if absent:
        raise UserError(
            f"The schema of the rubric {rubric.name} does not require its mark {absent[0]!r}; list it there."
        )


def _viescore(*names: str, least: str) -> Callable[[str], Marks | Failure]:
    """A list of scores, and the least of them under the name that VIEScore gives it."""

    def read(text: str) -> Marks | Failure:
        parsed = viescore.parse(text)
        lowest = viescore.minimum(parsed)
        if isinstance(parsed, Failure):
            return parsed
        if isinstance(lowest, Failure):
            return lowest
        scores = parsed["score"] if isinstance(parsed["score"], list) else [parsed["score"]]
        if len(scores) != len(names):
            return Failure(f"{len(scores)} scores, not {len(names)}")
        return {**dict(zip(names, scores, strict=True)), least: lowest}

    return read


def _wise_verified(text: str) -> Marks | Failure:
    found = wise.parse_verified(text)
    return found if isinstance(found, Failure) else {"score": found}


def _imgedit(text: str) -> Marks | Failure:
    found = imgedit.parse(text, "corrected")
    names = ("prompt_compliance", "visual_naturalness", "physical_and_detail_integrity")
    return found if isinstance(found, Failure) else dict(zip(names, found, strict=True))


READERS: dict[str, Callable[[str], Marks | Failure]] = {
    "viescore_editing": _viescore("success", "over_edit", least="semantics"),
    "viescore_quality": _viescore("naturalness", "artefacts", least="quality"),
    "viescore_text_to_image": _viescore("semantics", least="semantics"),
    "wise": wise.parse,
    "wise_verified": _wise_verified,
    "imgedit": _imgedit,
}
"""Rubric -> its marks in a reply that is text."""
