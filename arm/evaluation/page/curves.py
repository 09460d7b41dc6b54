"""Loss and reward curves: a small chart for each number in an artifact's curves.jsonl, and its speed.

A number that belongs beside another lies in its chart, dashed: the held-out loss beside the loss of a kind, the share
that the mixture asks for beside the share that was read, the 95th percentile of a step's seconds beside the median.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arm.evaluation.page.charts import Point, line_chart, lines_chart
from arm.evaluation.page.markup import Markup, count, details, number, section, tag, words
from arm.evaluation.page.store import Step, read_lines

GROUPS = (
    ("", ("reward", "loss", "validation", "held_out")),
    ("Share of tokens read since the first step; dashed, what the mixture asks for", ("share",)),
    ("Speed, as it was on the machine that ran it", ("speed",)),
)
"""What is shown at once, by the first parts of the names; the others are folded away."""
BESIDE = {"loss": "held_out", "share": "share_target", "speed/step_seconds_p50": "speed/step_seconds_p95"}
"""First parts of a name -> those of the name that lies in its chart."""
MAX_SHOWN = 13
FILE, SPEED_FILE = "curves.jsonl", "view/speed.jsonl"

Curves = dict[str, list[Point]]


def render_curves(steps: Sequence[Step]) -> Markup:
    """The charts of every artifact that has curves."""
    return section("Curves", "The last value stands beside each name.", *(_artifact(step) for step in steps))


def read_curves(step: Step) -> Curves:
    """Name -> (step, value) points with a finite value, names that never change left out."""
    return _changing(_points(read_lines(step, FILE) if step.has(FILE) else []))


def read_speeds(step: Step) -> Curves:
    """The same of view/speed.jsonl, which no digest covers; empty without it."""
    try:
        rows = [json.loads(line) for line in step.manifest.folder.read(SPEED_FILE).splitlines()]
    except (OSError, ValueError):
        return {}
    return _points(row for row in rows if isinstance(row, dict))


def companion(name: str) -> str:
    """The name that lies in the chart of another; empty when there is none.

    loss/edit/codes  ->  held_out/edit/codes        learning_rate  ->  ''
    """
    for first, other in BESIDE.items():
        if name == first or name.startswith(first + "/"):
            return other + name[len(first) :]
    return ""


def _points(rows: Iterable[Mapping[str, Any]]) -> Curves:
    curves: Curves = {}
    for index, row in enumerate(rows):
        place = row.get("step", index)
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(name, []).append((float(place), float(value)))
    return curves


def _changing(curves: Curves) -> Curves:
    return {name: points for name, points in curves.items() if len({value for _, value in points}) > 1}


def _artifact(step: Step) -> Markup | None:
    speeds = read_speeds(step)
    every = _points(read_lines(step, FILE) if step.has(FILE) else []) | speeds
    beside = {companion(name) for name in every}
    own = {name: points for name, points in _changing(every).items() if name not in beside}
    if not own:
        return None
    shown = [
        (title, sorted((n for n in own if n.partition("/")[0] in firsts), key=_rank)[:MAX_SHOWN])
        for title, firsts in GROUPS
    ]
    if not any(names for _, names in shown):
        shown = [("", sorted(own)[:MAX_SHOWN])]
    folded = sorted(set(own) - {name for _, names in shown for name in names})
    steps = max(points[-1][0] for points in own.values())
    return tag(
        "div",
        tag("h3", step.name, tag("small", f" {count(steps)} steps")),
        *(_group(title, names, every) for title, names in shown if names),
        _stragglers(speeds),
        details(
            f"{len(folded)} more: {', '.join(words(name) for name in folded[:6])}{' …' if len(folded) > 6 else ''}",
            tag("div", *(_chart(name, every) for name in folded), class_="charts"),
        )
        if folded
        else None,
    )


def _group(title: str, names: Sequence[str], every: Curves) -> Markup:
    charts = tag("div", *(_chart(name, every) for name in names), class_="charts")
    return tag("div", tag("p", title, class_="note group") if title else None, charts)


def _chart(name: str, every: Curves) -> Markup:
    points, other = every[name], every.get(companion(name))
    if not other:
        return line_chart(name, points)
    last = f"{number(points[-1][1])} ({words(companion(name).partition('/')[0])} {number(other[-1][1])})"
    if name.startswith("speed/"):
        last = f"{number(points[-1][1])} (95th percentile {number(other[-1][1])})"
    return lines_chart(name, (("beside", other), ("", points)), said=last)


def _stragglers(speeds: Curves) -> Markup | None:
    """Which rank held up the others most often; None of a single rank."""
    slowest, most, median = (speeds.get(f"speed/{name}", []) for name in ("slowest_rank", "rank_seconds_max", "rank_seconds_median"))  # fmt: skip
    if not slowest or all(high == middle for (_, high), (_, middle) in zip(most, median, strict=True)):
        return None
    rank, times = Counter(int(value) for _, value in slowest).most_common(1)[0]
    excess = sum(high for _, high in most) / max(sum(middle for _, middle in median), 1e-9)
    said = f"Slowest most often: rank {rank}, in {times} of {len(slowest)} entries. The slowest rank's own work took {excess:.2f} times the median's."
    return tag("p", said, class_="note")


def _rank(name: str) -> tuple[int, int, str]:
    """Rewards before losses; the whole before its parts."""
    firsts = [first for _, group in GROUPS for first in group]
    return firsts.index(name.partition("/")[0]), name.count("/"), name
