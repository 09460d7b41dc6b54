"""Classes of images, and zero-shot classification by text: what a `ZeroShotTask` means.

label     what an image says it is    caption, folder, or a path in its meta
classes   what it could be            a list, a file, or all labels that there are
prompts   each class in each template, embedded by the frozen text tower
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from arm.errors import UserError
from arm.outside import outside_files
from arm.tokenizer.config import ZeroShotTask
from arm.tokenizer.evaluation.evaluation_set import Example
from arm.tokenizer.metrics import class_of

MAX_CLASSES_BYTES = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The classes of a task: names for the prompts, and which label belongs to which."""

    names: tuple[str, ...]
    places: Mapping[str, int]
    """Label in lower case -> class."""
    by_name: bool
    """Whether a label is searched for the names instead of looked up."""

    def of(self, label: str | None) -> int | None:
        """The class of a label; None without one."""
        if label is None:
            return None
        return class_of(label, self.names) if self.by_name else self.places.get(label.lower())


def label_of(example: Example, task: ZeroShotTask) -> str | None:
    """The label of an image under a task, None when it takes no part.

    label "caption"                "a red circle"
    label "meta.label" -> "label"  {"label": "tench"} gives "tench";  "a.b": {"a": {"b": 3}} gives "3"
    """
    text = _found(example, task.label)
    if not text or (task.pattern and not re.fullmatch(task.pattern, text)):
        return None
    return text


def find_classes(task: ZeroShotTask, labels: Iterable[str | None], more: Iterator[str | None]) -> Classes:
    """The classes of a task: listed, read, or the `labels` of the evaluated images with `more` from training images."""
    if task.classes or task.classes_file:
        keyed = read_class_names(task.classes_file) if task.classes_file else {name: name for name in task.classes}
        names = tuple(keyed.values())
    else:
        names = _gathered(task, labels, more)
        keyed = {name: name for name in names}
    if len(names) < 2:
        raise UserError(f"The zero-shot task {task.name!r} has {len(names)} classes; it needs 2.")
    places = {key.lower(): place for place, key in enumerate(keyed)}
    return Classes(names=names, places=places, by_name=task.match == "names_one")


def templates_of(task: ZeroShotTask) -> tuple[str, ...]:
    """The prompts of a task: those of its file, or its own."""
    if not task.templates_file:
        return task.templates
    lines = tuple(_lines(task.templates_file))
    wrong = [line for line in lines if "{}" not in line]
    if wrong or not lines:
        raise UserError(f"{task.templates_file}: the template {wrong[:1]} has no '{{}}' for the class.")
    return lines


def read_class_names(path: str) -> dict[str, str]:
    """Key -> name. A JSON object {"n01440764": "tench"} or torchvision's {"0": ["n01440764", "tench"]}, a JSON list, or
    lines: with a key of ImageNet's form first ("n01440764 tench, Tinca tinca": the name ends at the comma) or names alone.
    """
    if path.endswith(".json"):
        try:
            return _from_json(json.loads(_text(path)), path)
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not JSON ({error}).") from None
    lines = [line.split(maxsplit=1) for line in _lines(path)]
    if all(len(words) == 2 and re.fullmatch(r"n\d{8}", words[0]) for words in lines):
        return {key: name.split(",")[0].strip() for key, name in lines}
    return {name: name for name in _lines(path)}


def _from_json(values: Any, path: str) -> dict[str, str]:
    if isinstance(values, list) and all(isinstance(name, str) for name in values):
        return {name: name for name in values}
    if isinstance(values, dict) and all(isinstance(name, str) for name in values.values()):
        return values
    if isinstance(values, dict) and all(isinstance(pair, list) and len(pair) == 2 for pair in values.values()):
        return {str(key): str(name).replace("_", " ") for key, name in values.values()}
    raise UserError(f"{path} is neither a list of class names nor an object of keys and names.")


def _gathered(task: ZeroShotTask, labels: Iterable[str | None], more: Iterator[str | None]) -> tuple[str, ...]:
    """All labels that there are, and others until there are `num_classes`; labels that differ in case are one class."""
    found: dict[str, str] = {}
    for label in labels:
        if label:
            found.setdefault(label.lower(), label)
    wanted = task.num_classes or len(found)
    for label in more if len(found) < wanted else ():
        if label:
            found.setdefault(label.lower(), label)
        if len(found) == wanted:
            break
    if len(found) < wanted:
        raise UserError(
            f"The zero-shot task {task.name!r} wants {wanted} classes; the images have {len(found)} labels."
        )
    return tuple(found.values())


def _found(example: Example, where: str) -> str:
    if where in ("caption", "folder"):
        return str(getattr(example, where))
    value: Any = example.meta
    for key in where.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _lines(path: str) -> Sequence[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _text(path: str) -> str:
    (file,) = islice(outside_files(path).values(), 1)
    if file.stat().st_size > MAX_CLASSES_BYTES:
        raise UserError(f"{path} has {file.stat().st_size} bytes; a list of classes or templates is smaller than that.")
    try:
        return file.read_text()
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8.") from None
