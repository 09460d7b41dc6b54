"""Charts as inline SVG, drawn by pure functions; colours come from the page's style, so they follow light and dark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from arm.evaluation.page.markup import Markup, number, tag, words

WIDTH, HEIGHT = 260, 120
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 20
MAX_POINTS = 160

Point = tuple[float, float]
NUM_SERIES = 8
"""Colours of the style, chosen to be told apart by colour-blind readers as well (Okabe and Ito)."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval, and how it is printed."""

    value: float
    low: float
    high: float
    said: str
    series: int = 0
    """Which colour."""
    name: str = ""
    """Whose it is, for whoever points at it."""


def line_chart(title: str, points: Sequence[Point]) -> Markup:
    """A small line chart of (step, value) with its range on the axes and the last value beside the title."""
    shown = thin(points, MAX_POINTS)
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    first, last = shown[0][0], shown[-1][0]
    drawn = " ".join(f"{_across(x, first, last):.1f},{_down(y, low, high):.1f}" for x, y in shown)
    caption = tag("figcaption", tag("span", words(title)), tag("b", number(points[-1][1])))
    chart = tag(
        "svg",
        tag("title", f"{title}: {number(points[0][1])} to {number(points[-1][1])} over {len(points)} points"),
        *(_rule(value, low, high) for value in dict.fromkeys((low, high))),
        tag("polyline", points=drawn, class_="curve"),
        tag("text", f"{first:,.0f}", x=LEFT, y=HEIGHT - 5, class_="axis"),
        tag("text", f"{last:,.0f}", x=WIDTH - RIGHT, y=HEIGHT - 5, class_="axis end"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
    )  # fmt: skip
    return tag("figure", caption, chart, class_="chart")


def lines_chart(title: str, lines: Sequence[tuple[str, Sequence[Point]]], *, said: str = "") -> Markup:
    """Several curves on the same axes, each (class, points of (step, value)); later ones lie above earlier ones. `said`
    stands beside the title."""
    shown = [(class_, thin(points, MAX_POINTS)) for class_, points in lines]
    every = [point for _, points in shown for point in points]
    low, high = min(y for _, y in every), max(y for _, y in every)
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    drawn = [
        tag(
            "polyline", class_=f"curve {class_}",
            points=" ".join(f"{_across(x, first, last):.1f},{_down(y, low, high):.1f}" for x, y in points),
        )
        for class_, points in shown
    ]  # fmt: skip
    chart = tag(
        "svg", tag("title", title), *(_rule(value, low, high) for value in dict.fromkeys((low, high))), *drawn,
        tag("text", f"{first:,.0f}", x=LEFT, y=HEIGHT - 5, class_="axis"),
        tag("text", f"{last:,.0f}", x=WIDTH - RIGHT, y=HEIGHT - 5, class_="axis end"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
    )  # fmt: skip
    caption = tag("figcaption", tag("span", words(title)), tag("b", said)) if said else tag("figcaption", words(title))
    return tag("figure", caption, chart, class_="chart")


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` points: means of neighbours, each at the step of its last point.

    (1, 4) (2, 6) (3, 0) (4, 2), limit 2  ->  (2, 5) (4, 1)
    """
    if len(points) <= limit:
        return list(points)
    edges = [round(index * len(points) / limit) for index in range(limit + 1)]
    parts = [points[start:end] for start, end in pairwise(edges) if end > start]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def interval_bar(value: float, low: float, high: float, *, floor: float | None = None) -> Markup:
    """A bar of a share in [0, 1] with its 95% interval, and a mark at the baseline."""
    width, height = 120, 14
    parts = [
        tag("rect", x=0, y=4, width=width, height=6, rx=3, class_="track"),
        tag("rect", x=0, y=4, width=_share(value) * width, height=6, rx=3, class_="bar"),
        tag("line", x1=_share(low) * width, x2=_share(high) * width, y1=7, y2=7, class_="whisker"),
    ]
    if floor is not None:
        parts.append(tag("line", x1=_share(floor) * width, x2=_share(floor) * width, y1=0, y2=14, class_="floor"))
    return tag("svg", *parts, viewBox=f"0 0 {width} {height}", class_="interval", role="img")


def bars_chart(title: str, measure: str, groups: Sequence[tuple[str, Sequence[Bar]]], top: float) -> Markup:
    """Groups of horizontal bars with whiskers, from 0 to `top`; a group's name stands above its bars, a value behind its
    own, and what is measured below the title."""
    width, room, step = 340, 290, 13
    parts, y = [], 0
    for name, bars in groups:
        parts.append(tag("text", name, x=0, y=y + 12, class_="label"))
        y += 17
        for bar in bars:
            parts.append(_bar(bar, y, lambda value: round(_share(value / top) * room, 1), width))
            y += step
        y += 5
    rules = [tag("line", x1=x, x2=x, y1=0, y2=y, class_="rule") for x in (0, room / 2, room)]
    chart = tag("svg", tag("title", title), *rules, *parts, viewBox=f"0 0 {width} {y}", role="img")
    caption = tag("figcaption", title, tag("small", f"{measure}, 0 to {top:g}".removeprefix(", ")))
    return tag("figure", caption, chart, class_="bars")


def _bar(bar: Bar, y: float, across: Callable[[float], float], width: int) -> Markup:
    """One bar at a height; its whisker has ends, so that it is seen on a full bar too."""
    low, high, middle = across(bar.low), across(bar.high), y + 4.5
    ends = [tag("line", x1=x, x2=x, y1=y + 1.5, y2=y + 7.5, class_="whisker thin") for x in (low, high)]
    return tag(
        "g", tag("title", f"{bar.name}: {bar.said}".removeprefix(": ")),
        tag("rect", x=0, y=y, width=across(bar.value), height=9, rx=1.5, class_=f"series{bar.series % NUM_SERIES}"),
        tag("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker thin"), *ends,
        tag("text", bar.said, x=width, y=y + 8, class_="said end"),
    )  # fmt: skip


def share_bar(value: float, *, class_: str = "bar") -> Markup:
    """A plain bar of a share in [0, 1]."""
    bar = tag("rect", x=0, y=3, width=round(_share(value) * 120, 2), height=8, rx=2, class_=class_)
    return tag("svg", bar, viewBox="0 0 120 14", class_="interval", role="img")


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _rule(value: float, low: float, high: float) -> Markup:
    """A horizontal rule with its value in the margin."""
    y = _down(value, low, high)
    line = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="rule")
    return tag("g", line, tag("text", number(value), x=LEFT - 5, y=f"{y + 3:.1f}", class_="axis end"))


def _across(x: float, first: float, last: float) -> float:
    span = last - first
    return LEFT + (WIDTH - LEFT - RIGHT) * ((x - first) / span if span else 0.5)


def _down(y: float, low: float, high: float) -> float:
    span = high - low
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ((y - low) / span if span else 0.5)
