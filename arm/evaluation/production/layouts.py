"""Where the images of a benchmark lie: the folders that each benchmark's own program reads.

geneval   00000/metadata.jsonl  00000/samples/0000.png …     number of the row; 4 seeds
dpg       <item_id>.png                                      4 seeds as a 2 × 2 grid
wise      <prompt_id>.png                                    1 seed
gedit     fullset/<task_type>/<language>/<key>.png           edits
imgedit   <key>.png                                          edits
plain     <uid>_<seed>.png                                   anything with a prompt
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from arm.config import suggest
from arm.errors import UserError
from arm.evaluation.production.rows import Row, first_of
from arm.evaluation.subject import seed_of

PROMPTS = ("prompt", "Prompt", "text", "instruction", "caption")
"""Fields that hold what is asked, in order of preference."""
UIDS = ("item_id", "prompt_id", "key", "uid", "id", "index")
SEEDS = "leave --seeds out (of evaluate-model: --official.seeds)"
"""What mends a number of images that a layout has no place for."""
SOURCES = ("input_image", "source", "image", "id")
"""Fields that hold the image to edit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One image to draw; its source is looked up when it is drawn."""

    uid: str
    number: int
    prompt: str
    seed: int
    source: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One file of a layout: one drawn image, or several as a grid of two columns."""

    path: str
    requests: tuple[Request, ...]
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """Small files that belong to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One benchmark's folders."""

    pictures: Callable[[Sequence[Row], int], Iterator[Picture]]
    """(rows, number of seeds) -> files."""
    num_seeds: int
    """What the benchmark asks for."""


def find_layout(name: str, *, edits: bool) -> Layout:
    """The layout of that name; UserError lists those for drawing, or those for editing."""
    known = EDIT_LAYOUTS if edits else LAYOUTS
    if name not in known:
        raise UserError(
            f"There is no layout {name!r} of {'edits' if edits else 'images'}; {suggest(name, list(known))}"
        )
    return known[name]


def lay_out(rows: Sequence[Row], layout: Layout, num_seeds: int) -> list[Picture]:
    """Every file to make; UserError when two rows want the same one."""
    pictures, taken = list(layout.pictures(rows, num_seeds)), set[str]()
    for picture in pictures:
        if picture.path in taken:
            raise UserError(f"Two rows are to be drawn as {picture.path}; their names must differ.")
        taken.add(picture.path)
    return pictures


def _geneval(rows: Sequence[Row], num_seeds: int) -> Iterator[Picture]:
    for index, row in enumerate(rows):
        if "include" not in row or "tag" not in row:
            raise UserError(f"Row {index + 1} has no `tag` and `include`; the layout geneval wants GenEval's metadata.")
        meta = {f"{index:05d}/metadata.jsonl": json.dumps(row, ensure_ascii=False).encode()}
        for request in _requests(f"{index:05d}", row, num_seeds):
            path = f"{index:05d}/samples/{request.number:04d}.png"
            yield Picture(path=path, requests=(request,), beside=meta)


def _dpg(rows: Sequence[Row], num_seeds: int) -> Iterator[Picture]:
    if num_seeds not in (1, 4):
        raise UserError(f"The layout dpg lays 4 images out as a square (or takes 1), not {num_seeds}; {SEEDS}.")
    for row in rows:
        uid = _uid(row)
        yield Picture(path=f"{uid}.png", requests=tuple(_requests(uid, row, num_seeds)))


def _one_a_row(rows: Sequence[Row], num_seeds: int) -> Iterator[Picture]:
    _refuse_seeds(num_seeds)
    for row in rows:
        uid = _uid(row)
        yield Picture(path=f"{uid}.png", requests=tuple(_requests(uid, row, 1)))


def _edit_a_row(rows: Sequence[Row], num_seeds: int) -> Iterator[Picture]:
    _refuse_seeds(num_seeds)
    for row in rows:
        uid = _uid(row, ("key", *UIDS))
        yield Picture(path=f"{uid}.png", requests=tuple(_requests(uid, row, 1, edits=True)))


def _gedit(rows: Sequence[Row], num_seeds: int) -> Iterator[Picture]:
    _refuse_seeds(num_seeds)
    for row in rows:
        uid = _uid(row, ("key", *UIDS))
        group = _safe(first_of(row, ("task_type", "group")), "task_type")
        language = _safe(first_of(row, ("instruction_language", "language")) or "en", "instruction_language")
        (request,) = _requests(uid, row, 1, edits=True)
        yield Picture(path=f"fullset/{group}/{language}/{uid}.png", requests=(request,))


def _plain(rows: Sequence[Row], num_seeds: int, *, edits: bool = False) -> Iterator[Picture]:
    for index, row in enumerate(rows):
        uid = _safe(first_of(row, UIDS) if first_of(row, UIDS) is not None else f"{index:05d}", "uid")
        for request in _requests(uid, row, num_seeds, edits=edits):
            yield Picture(path=f"{uid}_{request.number}.png", requests=(request,))


def _requests(uid: str, row: Row, num_seeds: int, *, edits: bool = False) -> list[Request]:
    prompt = first_of(row, ("instruction", *PROMPTS) if edits else PROMPTS)
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"The row of {uid} has no prompt; it must be in one of {', '.join(PROMPTS)}.")
    source = source_of(row) if edits else None
    if edits and source is None:
        raise UserError(f"The row of {uid} has no image to edit; it must be in one of {', '.join(SOURCES)}.")
    return [
        Request(uid=uid, number=number, prompt=prompt, seed=seed_of(uid, number), source=source)
        for number in range(num_seeds)
    ]


def source_of(row: Row) -> Any:
    """The image to edit, as the row names or holds it, or None."""
    return first_of(row, SOURCES)


def _uid(row: Row, names: tuple[str, ...] = UIDS) -> str:
    return _safe(first_of(row, names), " or ".join(dict.fromkeys(names)))


def _safe(value: Any, name: str) -> str:
    """A part of a path: data files come from elsewhere."""
    text = str(value) if isinstance(value, str | int) else ""
    if not text or text.startswith(".") or any(mark in text for mark in "/\\\0") or len(text) > 200:
        raise UserError(f"A row's {name} is {str(value)[:60]!r}, which cannot name a file.")
    return text


def _refuse_seeds(num_seeds: int) -> None:
    if num_seeds != 1:
        raise UserError(f"This layout has one image a row, not {num_seeds}; {SEEDS}.")


LAYOUTS: dict[str, Layout] = {
    "geneval": Layout(pictures=_geneval, num_seeds=4),
    "dpg": Layout(pictures=_dpg, num_seeds=4),
    "wise": Layout(pictures=_one_a_row, num_seeds=1),
    "plain": Layout(pictures=_plain, num_seeds=1),
}
"""Name -> layout of images drawn from text."""
EDIT_LAYOUTS: dict[str, Layout] = {
    "gedit": Layout(pictures=_gedit, num_seeds=1),
    "imgedit": Layout(pictures=_edit_a_row, num_seeds=1),
    "plain": Layout(pictures=partial(_plain, edits=True), num_seeds=1),
}
"""Name -> layout of edited images."""
