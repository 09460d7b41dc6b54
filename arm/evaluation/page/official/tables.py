"""A table a group of benchmarks: our subjects with intervals and counts, the published rows below them with their source."""

from collections.abc import Mapping, Sequence

from arm.evaluation.page.markup import Markup, Node, count, details, join, section, table, tag
from arm.evaluation.page.official.published import PUBLISHED, UNSTATED, Published
from arm.evaluation.page.official.reading import Measured, name_of, subjects_of
from arm.evaluation.page.official.targets import GROUPS, Group, Measure, Target, departures
from arm.evaluation.protocols import said

NOTE = (
    "Official data and official scorers. Below each number its 95% interval and how many of the expected items were scored; while "
    "items lack, no headline is given. ≠ marks a number that was not measured as the published ones were: the reasons follow."
)
Column = tuple[str, Target, Measure]
"""Benchmark, and one of its numbers."""


def render_tables(measured: Sequence[Measured], damaged: Sequence[str]) -> Markup:
    """The section; left out where nothing was measured."""
    if not measured and not damaged:
        return Markup("")
    lost = f"{len(damaged)} results cannot be read: {', '.join(damaged)}." if damaged else None
    parts = [_group(group, [item for item in measured if item.target.group == group]) for group in GROUPS]
    return section(
        "Benchmarks", NOTE, tag("p", lost, class_="refused") if lost else None, *parts,
        tag("p", UNSTATED, class_="note after"), _protocols(measured) if measured else None,
    )  # fmt: skip


def columns_of(measured: Sequence[Measured]) -> list[Column]:
    """The numbers that some subject has, or has refused, in the order of the page."""
    targets = {item.benchmark: item.target for item in measured}
    columns = [(name, target, measure) for name, target in targets.items() for measure in target.measures]
    return [column for column in columns if any(_has(item, column) for item in measured)]


def published_rows(columns: Sequence[Column]) -> list[Published]:
    """The published rows that say something about one of the columns."""
    keys = {f"{name}/{measure.metric}" for name, _, measure in columns}
    return [row for row in PUBLISHED if keys & row.values.keys()]


def _has(item: Measured, column: Column) -> bool:
    name, _, measure = column
    wanted = measure.metric == item.record["headline"] or item.estimate(measure.metric) is not None
    return item.benchmark == name and wanted


def _group(group: Group, measured: Sequence[Measured]) -> Markup | None:
    if not measured:
        return None
    columns = columns_of(measured)
    rows = published_rows(columns)
    names = subjects_of(list(measured))
    by_place = {(item.subject, item.benchmark): item for item in measured}
    head = tag("tr", tag("th"), *(tag("th", measure.title) for _, _, measure in columns), tag("th", "Source"))
    ours = [_ours(subject, columns, by_place) for subject in names]
    between = tag("tr", tag("th", "Published", colspan=len(columns) + 2), class_="head") if rows else None
    body = tag("tbody", *ours, between, *(_published(row, columns) for row in rows))
    shown = tag("div", tag("table", tag("thead", head), body, class_="beside"), class_="scroll")
    return tag("div", tag("h3", GROUPS[group]), shown, _notes(measured, columns))


def _ours(subject: str, columns: Sequence[Column], by_place: Mapping[tuple[str, str], Measured]) -> Markup:
    cells = []
    for name, _, measure in columns:
        item = by_place.get((subject, name))
        cells.append(tag("td") if item is None else _cell(item, measure))
    step = next(item.step for (own, _), item in by_place.items() if own == subject)
    return tag(
        "tr",
        tag("th", name_of(subject, step), scope="row"),
        *cells,
        tag("td", "this run", class_="source"),
        class_="ours",
    )


def _cell(item: Measured, measure: Measure) -> Markup:
    found, protocol = item.estimate(measure.metric), item.protocol
    counted = f"{count(protocol['num_scored'])} / {count(protocol['num_expected'])}"
    lost = tag("small", f"{count(protocol['num_failed'])} failed", class_="bad") if protocol["num_failed"] else None
    if found is None:
        why = str(item.record.get("refused") or "was not measured")
        refused = measure.metric == item.record["headline"] and item.record.get("refused")
        return tag("td", tag("b", "refused", class_="refused"), tag("small", why)) if refused else tag("td")
    reasons = departures(item.benchmark, protocol)
    mark = tag("span", " ≠", class_="mark", title="; ".join(reasons)) if reasons else None
    interval = f"{measure.printed(found['low'])} – {measure.printed(found['high'])}" if "low" in found else None
    return tag(
        "td", tag("b", measure.printed(found["value"]), mark), tag("small", interval) if interval else None,
        tag("small", counted), lost,
    )  # fmt: skip


def _published(row: Published, columns: Sequence[Column]) -> Markup:
    cells = []
    for name, _, measure in columns:
        said = row.values.get(f"{name}/{measure.metric}")
        mark = tag("span", " ?", class_="mark", title=measure.published) if said and measure.published else None
        cells.append(tag("td", said or "–", mark))
    return tag(
        "tr", tag("th", row.model, scope="row"), *cells, tag("td", row.source, class_="source"), class_="published"
    )


def _notes(measured: Sequence[Measured], columns: Sequence[Column]) -> Markup | None:
    """How the published numbers were measured, what makes ours others, and what is uncertain in the paper."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for item in measured:
        reasons = tuple(departures(item.benchmark, item.protocol))
        if reasons:
            alike.setdefault((item.target.title, reasons), []).append(name_of(item.subject, item.step))
    asked = {title: sum(item.target.title == title for item in measured) for title, _ in alike}
    targets = {target.title: target for _, target, _ in columns}
    lines = [
        tag(
            "li",
            tag("b", title),
            f", as published: {', judged by '.join(filter(None, (target.protocol, target.judge)))}",
        )
        for title, target in targets.items()
        if target.protocol
    ]
    lines += [
        tag(
            "li",
            "≠ ",
            tag("b", title if len(names) == asked[title] else f"{title}, {', '.join(names)}"),
            ": ",
            "; ".join(reasons),
        )
        for (title, reasons), names in alike.items()
    ]
    doubts = [measure for _, _, measure in columns if measure.published]
    lines += [tag("li", "? ", tag("b", measure.title), f": {measure.published}") for measure in doubts]
    return tag("ul", *lines, class_="notes") if lines else None


def _protocols(measured: Sequence[Measured]) -> Markup:
    """As the artifact records them."""
    head = (
        "Benchmark",
        "Asked",
        "Mode",
        "Judge",
        "Aggregation",
        "Interval",
        "Revision",
        "Flags",
        "Data files",
        "Results",
    )
    return details("Protocols of this run", table(head, map(_protocol, measured)))


def _protocol(item: Measured) -> list[Node]:
    record = item.protocol
    judge = " ".join(filter(None, (str(record.get("judge", "")), str(record.get("judge_date", ""))))) or "none"
    settings = record.get("judge_settings")
    flags = ", ".join(f"{number} × {flag}" for flag, number in dict(record.get("flags", {})).items())
    return [
        join([item.target.title, tag("small", f" {name_of(item.subject, item.step)}")]), said(record.get("model") or None),
        str(record.get("mode", "")), join([judge, tag("small", f" {said(settings)}") if settings else ""]),
        str(record.get("aggregation", "")), str(record.get("interval", "")), str(record.get("revision") or "not stated"),
        flags, *(tag("code", said(record.get(name) or None)) for name in ("data_files", "results")),
    ]  # fmt: skip
