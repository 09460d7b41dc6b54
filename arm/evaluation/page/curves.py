"""Loss and reward curves: a small chart for each number in an artifact's curves.jsonl."""

import math
from collections.abc import Sequence

from arm.evaluation.page.charts import Point, line_chart
from arm.evaluation.page.markup import Markup, count, details, section, tag, words
from arm.evaluation.page.store import Step, read_lines

FIRST = ("reward", "loss", "validation", "held_out")
"""First parts of the names that are shown at once; the others are folded away."""
MAX_SHOWN = 8
FILE = "curves.jsonl"


def render_curves(steps: Sequence[Step]) -> Markup:
    """The charts of every artifact that has curves."""
    return section("Curves", "The last value stands beside each name.", *(_artifact(step) for step in steps))


def read_curves(step: Step) -> dict[str, list[Point]]:
    """Name -> (step, value) points with a finite value, names that never change left out."""
    curves: dict[str, list[Point]] = {}
    rows = read_lines(step, FILE) if step.has(FILE) else []
    for index, row in enumerate(rows):
        place = row.get("step", index)
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(name, []).append((float(place), float(value)))
    return {name: points for name, points in curves.items() if len({value for _, value in points}) > 1}


def _artifact(step: Step) -> Markup | None:
    curves = read_curves(step)
    if not curves:
        return None
    ordered = sorted(curves, key=_rank)
    shown = [name for name in ordered if _rank(name)[0] < len(FIRST)][:MAX_SHOWN] or ordered[:MAX_SHOWN]
    folded = [name for name in ordered if name not in shown]
    steps = max(points[-1][0] for points in curves.values())
    return tag(
        "div",
        tag("h3", step.name, tag("small", f" {count(steps)} steps")),
        tag("div", *(line_chart(name, curves[name]) for name in shown), class_="charts"),
        details(
            f"{len(folded)} more: {', '.join(words(name) for name in folded[:6])}{' …' if len(folded) > 6 else ''}",
            tag("div", *(line_chart(name, curves[name]) for name in folded), class_="charts"),
        )
        if folded
        else None,
    )


def _rank(name: str) -> tuple[int, str]:
    first = name.partition("/")[0]
    return (FIRST.index(first) if first in FIRST else len(FIRST)), name
