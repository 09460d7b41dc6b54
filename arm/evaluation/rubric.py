"""Rubrics: what a judge is asked, and the shape of its answer. Files in `rubrics/`, versioned with the code.

    {"name": "editing", "version": 1, "source": "…", "images": 2, "prompt": "… {instruction} …",
     "marks": {"following": [0, 10], …}, "schema": {…}}

Those named viescore_* are VIEScore's own words (MIT). `arm.evaluation.marks` reads the marks out of a reply.
A change of wording is a change of number: raise `version`, which is part of every cached reply's key.
"""

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from arm.config import suggest
from arm.errors import UserError

Schema = Mapping[str, Any]
TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """One rubric."""

    name: str
    version: int
    source: str
    images: int
    """Pictures that the judge is shown."""
    prompt: str
    """Text with {fields}."""
    schema: Schema
    """JSON schema of the reply, an object of numbers, texts and lists; empty: the reply is text, for a parser of its own."""
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The numbers in a reply, each with its least and its greatest value; a rubric without marks can be no reward."""

    def fields(self) -> set[str]:
        """The names in the prompt's braces."""
        return {name for _, name, _, _ in string.Formatter().parse(self.prompt) if name}

    def render(self, fields: Mapping[str, str]) -> str:
        """The prompt with its fields filled in; one that lacks, or that the prompt does not name, is a UserError."""
        named = self.fields()
        if named != fields.keys():
            raise UserError(f"The rubric {self.name} has the fields {sorted(named)}, not {sorted(fields)}.")
        return self.prompt.format(**fields)


def load_rubric(name: str) -> Rubric:
    """A rubric of ours by name, or one of a user's by the path of its file."""
    if name.endswith(".json"):
        try:
            return read_rubric(Path(name).read_text(), name)
        except OSError as error:
            raise UserError(f"The rubric {name} cannot be read ({error}).") from None
    folder = resources.files("arm.evaluation") / "rubrics"
    known = sorted(path.name.removesuffix(".json") for path in folder.iterdir() if path.name.endswith(".json"))
    if name not in known:
        raise UserError(f"There is no rubric {name!r}; {suggest(name, known)}")
    return read_rubric((folder / f"{name}.json").read_text(), name)


def read_rubric(text: str, name: str) -> Rubric:
    """A rubric from its JSON."""
    try:
        values = json.loads(text)
        marks = {mark: (float(low), float(high)) for mark, (low, high) in values.pop("marks", {}).items()}
        return Rubric(**values, marks=marks)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"The rubric {name} is not an object of name, version, source, images, prompt, schema and marks ({error})."
        ) from None


def read_reply(text: str, schema: Schema) -> dict[str, Any] | str:
    """The judge's answer, or in words why it is none: text that is not JSON, a field that lacks or is out of range."""
    if not schema:
        return {"text": text}
    start, end = text.find("{"), text.rfind("}") + 1
    try:
        value = json.loads(text[start:end])
    except ValueError:
        return f"no JSON in {text[:60]!r}"
    for name in schema["required"]:
        if name not in value:
            return f"the reply lacks {name}"
    for name, wanted in schema["properties"].items():
        if name in value and (fault := _fault(value[name], wanted)):
            return f"{name} {fault}"
    return dict(value)


def _fault(value: Any, wanted: Schema) -> str | None:
    if not isinstance(value, TYPES[wanted["type"]]) or (isinstance(value, bool) and wanted["type"] != "boolean"):
        return f"is {value!r}, no {wanted['type']}"
    if "enum" in wanted and value not in wanted["enum"]:
        return f"is {value!r}, none of {wanted['enum']}"
    if isinstance(value, list):
        return next((fault for part in value if (fault := _fault(part, wanted["items"]))), None)
    if isinstance(value, int | float) and not wanted.get("minimum", value) <= value <= wanted.get("maximum", value):
        return f"is {value}, outside {wanted.get('minimum')} to {wanted.get('maximum')}"
    return None
