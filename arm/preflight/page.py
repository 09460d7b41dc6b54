"""The plan as a table for a terminal, and as one page with no script and no network."""

from collections.abc import Sequence
from itertools import accumulate

from arm.evaluation.page.charts import lines_chart, share_bar
from arm.evaluation.page.markup import Markup, Node, details, join, section, table, tag
from arm.evaluation.page.style import POLICY, STYLE
from arm.preflight import hardware, memory
from arm.preflight.outline import StepPlan, days, gigabytes, human
from arm.preflight.plan import Plan

HEAD = ("step", "on", "work", "memory a rank", "time", "GPU-hours", "cost", "disk")


def text_table(plan: Plan) -> str:
    """The plan in columns."""
    rows = [HEAD, *(_cells(plan, step) for step in plan.steps), _totals(plan)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def render_page(plan: Plan) -> str:
    """The whole page as HTML."""
    recipe = plan.setting.recipe
    parts = [
        _verdict(plan), _tiles(plan), _steps(plan), _shares(plan), _memory(plan), _numbers(plan), _datasets(plan),
        _assumptions(plan),
    ]  # fmt: skip
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY), tag("title", f"ARM · plan of {recipe.name}"),
        Markup(f"<style>{STYLE}</style>"),
    )  # fmt: skip
    line = f"{recipe.purpose} Estimates, before anything has run."
    header = tag("header", tag("h1", f"Plan of {recipe.name}"), tag("p", line))
    body = tag("body", tag("main", header, *(part for part in parts if part)))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _cells(plan: Plan, step: StepPlan) -> tuple[str, ...]:
    cost = step.gpu_hours * plan.setting.price_per_gpu_hour + step.extra_cost
    return (
        ("! " if step.refusals else "") + step.step,
        step.where,
        step.work,
        gigabytes(memory.total(step.memory)) if step.memory else "",
        days(step.seconds),
        f"{step.gpu_hours:,.0f}" if step.gpus else "",
        f"${cost:,.0f}" if cost >= 0.5 else "",
        gigabytes(step.disk) if step.disk else "",
    )


def _totals(plan: Plan) -> tuple[str, ...]:
    total = (f"{plan.gpu_hours:,.0f}", f"${plan.cost:,.0f}") if plan.gpu_hours else ("", "")
    name = "on GPUs, one after the other" if plan.gpu_hours else "one after the other"
    return (name, "", "", "", days(plan.seconds), *total, gigabytes(plan.disk))


def _verdict(plan: Plan) -> Markup:
    if not plan.refusals:
        return section("Nothing stands against it", None, tag("p", "Every step fits, divides, and has data."))
    listed = tag("ul", *(tag("li", sentence) for sentence in plan.refusals))
    refused = sum(bool(step.refusals) for step in plan.steps)
    said = f"{refused} of the plan's {len(plan.steps)} steps {'is' if refused == 1 else 'are'} refused."
    return section("What cannot run", said, listed)


def _tiles(plan: Plan) -> Markup:
    longest = max(plan.steps, key=lambda step: step.seconds)
    shown = [(days(plan.seconds), _totals(plan)[0]), (days(longest.seconds), f"the longest: {longest.step}")]
    if plan.gpu_hours:
        shown += [
            (f"{plan.gpu_hours:,.0f}", f"GPU-hours on {plan.setting.gpu.name}"),
            (f"${plan.cost:,.0f}", _price(plan)),
        ]
    if plan.core_hours >= 1:
        shown.append((human(plan.core_hours), "core-hours of the data jobs"))
    shown.append((gigabytes(plan.disk), "on disk, everything kept"))
    return tag("div", *(tag("div", tag("b", value), tag("span", label)) for value, label in shown), class_="tiles")


def _price(plan: Plan) -> str:
    return f"at ${plan.setting.price_per_gpu_hour:g} a GPU-hour, and the judge"


def _steps(plan: Plan) -> Markup:
    ends = accumulate(step.seconds for step in plan.steps)
    rows = [[*_cells(plan, step), days(end)] for step, end in zip(plan.steps, ends, strict=True)]
    note = "In the order of the road, one after the other; ! marks what cannot run."
    return section("Steps", note, table((*HEAD, "ends after"), [*rows, [*_totals(plan), ""]]))


def _shares(plan: Plan) -> Markup:
    charts = [
        lines_chart(f"{kind} {_range(points)}", [("", points)])
        for kind, points in plan.curves.items()
        if any(share for _, share in points)
    ]
    note = "Share of tokens of each kind of document over the tokens of the three stages (Table 1)."
    return section("Mixture", note, tag("div", *charts, class_="charts"))


def _range(points: Sequence[tuple[float, float]]) -> str:
    """The share at the stages' ends: '.70 → .55 → .50'."""
    shown = list(dict.fromkeys(f"{share:.3f}".strip("0").rstrip(".") or "0" for _, share in points))
    return " → ".join(shown if len(shown) <= 4 else (shown[0], shown[-1]))


def _memory(plan: Plan) -> Markup:
    blocks: list[Node] = []
    for step in plan.steps:
        if not step.gpus or not step.memory:
            continue
        limit = step.memory_limit or 1.0
        rows: list[list[Node]] = [
            [part.name, gigabytes(part.size), share_bar(part.size / limit), part.how]
            for part in sorted(step.memory, key=lambda part: -part.size)
        ]
        needed = memory.total(step.memory)
        state = f"{step.step}: {gigabytes(needed)} of {gigabytes(limit)}"
        blocks.append(details(state, table(("Part", "Bytes", "Of the limit", "How"), rows)))
    note = f"Of one rank at its fullest; a plan may fill {hardware.USABLE_MEMORY:.0%} of a GPU."
    return section("Memory of a rank", note, *blocks)


def _numbers(plan: Plan) -> Markup:
    blocks = [
        details(
            step.step, table(("", "", "How"), [(fact.name, fact.value, fact.how) for fact in step.facts]), _notes(step)
        )
        for step in plan.steps
        if step.facts or step.notes
    ]
    return section("Numbers of each step", "What the table is worked out from.", *blocks)


def _notes(step: StepPlan) -> Markup | None:
    return join(tag("p", note, class_="note") for note in step.notes) if step.notes else None


def _datasets(plan: Plan) -> Markup:
    found = plan.setting.recipe.datasets
    rows = [
        (
            name, item.id or "your own", item.licence, human(item.num_samples) if item.num_samples else "not stated",
            f"{item.gigabytes:,.0f} GB" if item.gigabytes else "not stated", item.note,
        )
        for name, item in found.items()
    ]  # fmt: skip
    note = "As published; read each licence before you train on it."
    return (
        section("Data sets", note, table(("Source", "Data set", "Licence", "Samples", "Download", "First"), rows))
        if rows
        else Markup("")
    )


def _assumptions(plan: Plan) -> Markup:
    rows: list[tuple[str, str]] = [
        (
            "GPU",
            f"{plan.setting.gpu.peak_flops / 1e12:,.0f} TFLOPs dense bfloat16, {gigabytes(plan.setting.gpu.memory)}",
        ),
        ("MFU of training", f"{hardware.TRAIN_MFU:.0%}, {hardware.SMALL_TRAIN_MFU:.0%} below 1B parameters (ours)"),
        ("MFU of encoding and rendering", f"{hardware.FORWARD_MFU:.0%} (ours)"),
        ("Bandwidth in sampling", f"{hardware.BANDWIDTH_SHARE:.0%} of the maker's (ours)"),
        ("Judge", f"${plan.setting.cost_per_judgement:g} an image, {plan.setting.judge_seconds:g} s at the median"),
        *((f"Published: {who}", f"{speed:,} tokens/s a GPU, {mfu:.1%} MFU") for who, speed, mfu in hardware.PUBLISHED),
    ]
    return section("Assumptions", "Every figure above is an estimate from these.", table(("", ""), rows))
