"""Image grids: original → reconstruction → generated → edited, with their prompts, the same columns at every stage.

A sheet of the evaluation is put into the page once, as the background of a class; a tile shows its own part of it.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arm.errors import ArmError
from arm.evaluation.page.markup import Markup, Node, details, section, tag, words
from arm.evaluation.page.scores import STAGES
from arm.evaluation.page.store import Step

MAX_SAMPLE_BYTES = 600_000
"""A larger picture is named and not shown."""
SAMPLE_JOBS = ("train-tokenizer", "train-detokenizer", "train-policy")

Sheets = Mapping[str, Mapping[str, Any]]
"""File name -> {rows, side, gap, entries}, as images/captions.json has it."""


def render_pictures(evaluation: Step | None) -> Markup:
    """The grids of the evaluation."""
    sheets = read_sheets(evaluation)
    if evaluation is None or not sheets:
        return Markup("")
    classes = {name: f"sheet{index}" for index, name in enumerate(sorted(sheets))}
    style = "".join(_rule(evaluation, name, class_) for name, class_ in classes.items())
    note = "Held-out items, not chosen: the first of each category. ✓ and ✗ are the checker's strict verdict."
    return section(
        "Pictures", note, Markup(f"<style>{style}</style>"),
        _reconstruction(sheets, classes),
        _by_stage("text_to_image", "Generated from text", sheets, classes),
        _by_stage("editing", "Edited", sheets, classes),
    )  # fmt: skip


def render_samples(steps: Sequence[Step]) -> Markup:
    """The last picture that each training job published under samples/."""
    folded = [details(step.name, *pictures) for step in steps if (pictures := list(_samples(step)))]
    return section("Samples from training", None, *folded)


def read_sheets(evaluation: Step | None) -> Sheets:
    """The pictures that the evaluation has, with their captions."""
    found = evaluation.read_json("images/captions.json") if evaluation else None
    if not isinstance(found, dict) or evaluation is None:
        return {}
    return {name: sheet for name, sheet in found.items() if evaluation.has(f"images/{name}")}


def embed(step: Step, path: str) -> str:
    """A picture as a data address; empty when the file is damaged."""
    try:
        data = step.manifest.local(path).read_bytes()
    except (ArmError, OSError):
        return ""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _rule(evaluation: Step, name: str, class_: str) -> str:
    return f".{class_}{{background-image:url({embed(evaluation, f'images/{name}')})}}"


def _reconstruction(sheets: Sheets, classes: Mapping[str, str]) -> Markup | None:
    name = "reconstruction.png"
    if name not in sheets:
        return None
    sheet = sheets[name]
    rows = [_line(label, sheet, classes[name], row, verdicts=row == 1) for row, label in enumerate(sheet["rows"])]
    return tag("div", tag("h3", "Original and reconstruction"), _grid(sheet, rows))


def _by_stage(benchmark: str, title: str, sheets: Sheets, classes: Mapping[str, str]) -> Markup | None:
    """One row a stage, its last drawn row; for edits the source stands above."""
    names = {stage: f"{stage}.{benchmark}.png" for stage in STAGES if f"{stage}.{benchmark}.png" in sheets}
    if not names:
        return None
    first = sheets[next(iter(names.values()))]
    rows = []
    if len(first["rows"]) == 2:
        rows.append(_line(first["rows"][0], first, classes[next(iter(names.values()))], 0, verdicts=False))
    for stage, name in names.items():
        rows.append(_line(words(stage), sheets[name], classes[name], len(sheets[name]["rows"]) - 1, verdicts=True))
    return tag("div", tag("h3", title), _grid(first, rows))


def _grid(sheet: Mapping[str, Any], rows: Sequence[Node]) -> Markup:
    prompts = [
        tag("td", tag("small", entry["group"].replace("_", " ")), tag("br"), entry["prompt"])
        for entry in sheet["entries"]
    ]
    lines = tag("table", *rows, tag("tr", tag("th", ""), *prompts, class_="prompts"))
    return tag("div", lines, class_="scroll pictures", style=f"--tile:{max(sheet['side'], 84)}px")


def _line(label: str, sheet: Mapping[str, Any], class_: str, row: int, *, verdicts: bool) -> Markup:
    step = sheet["side"] + sheet["gap"]
    tiles = []
    for column, entry in enumerate(sheet["entries"]):
        left, top = column * step + sheet["gap"], row * step + sheet["gap"]
        style = f"width:{sheet['side']}px;height:{sheet['side']}px;background-position:-{left}px -{top}px"
        tile = tag("i", class_=f"tile {class_}", style=style, role="img", aria_label=entry["prompt"])
        tiles.append(tag("td", tile, _mark(entry) if verdicts else None))
    return tag("tr", tag("th", label, scope="row"), *tiles)


def _mark(entry: Mapping[str, Any]) -> Markup:
    right = bool(entry["strict"])
    said = "; ".join(entry["reasons"]) or ("right" if right else "wrong")
    return tag("span", "✓" if right else "✗", class_=f"mark {'good' if right else 'bad'}", title=said)


def _samples(step: Step) -> Iterator[Markup]:
    if step.manifest.job not in SAMPLE_JOBS:
        return
    for entry in step.manifest.select("samples/", ".png")[-1:]:
        if entry.bytes > MAX_SAMPLE_BYTES:
            yield tag("p", f"{entry.path}: {entry.bytes:,} bytes, too large to show here")
        elif address := embed(step, entry.path):
            yield tag("figure", tag("img", src=address, alt=entry.path, class_="sample"), tag("figcaption", entry.path))
