"""The road as a table: what each job read, kept and dropped, by reason, and how long it took.

pairs read 1,200 = pairs kept 900 + dropped 300     too small 200 · no caption 100
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from arm.evaluation.page.markup import (
    Markup,
    Node,
    count,
    details,
    duration,
    join,
    number,
    section,
    size,
    table,
    tag,
    words,
)
from arm.evaluation.page.store import Step

LOSSES = ("dropped", "failed", "refused", "skipped", "rejected", "missing")
"""First parts of the counts that say what was not kept: `dropped/too_small`."""

SHOWN_ELSEWHERE = ("evaluation", "tokenizer-evaluation")
"""Kinds of artifacts whose metrics have a section of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """read = kept + what was lost for the reasons of one kind, or of all kinds."""

    read: str
    kept: str
    kind: str
    lost: int


def render_chain(steps: Sequence[Step]) -> Markup:
    """The table of all jobs in order."""
    if not steps:
        return Markup("")
    rows = [_row(step) for step in steps]
    head = ("Job", "In = kept + dropped", "Dropped by reason", "Also counted", "Time", "Files")
    note = "Every artifact of this store, in the order of the road. Where the books balance, the sum is shown."
    return section("The chain", note, table(head, rows, class_="chain"))


def balances(counts: Mapping[str, int]) -> list[Balance]:
    """Sums that hold among the counts: one for each kind of loss, else one for all kinds together.

    {read: 5, kept: 3, dropped/a: 1, failed/b: 1}        ->  read = kept + 2 lost
    {found: 5, kept: 4, dropped/a: 1,
     records: 9, pages: 7, skipped/b: 2}                 ->  found = kept + 1 dropped, records = pages + 2 skipped
    """
    by_kind: dict[str, int] = {}
    for name, value in losses(counts).items():
        kind = name.partition("/")[0]
        by_kind[kind] = by_kind.get(kind, 0) + value
    found = [item for kind, lost in by_kind.items() for item in _balance(counts, kind, lost)]
    return found or _balance(counts, "lost", sum(by_kind.values()))


def _balance(counts: Mapping[str, int], kind: str, lost: int) -> list[Balance]:
    """The sum that holds, of several the one whose names are most alike: `pairs_read` and `pairs_kept`."""
    totals = [name for name in counts if "/" not in name]
    sums = [(read, kept) for read, kept in permutations(totals, 2) if lost and counts[read] == counts[kept] + lost]
    if not sums:
        return []
    read, kept = max(sums, key=lambda names: len(set(names[0].split("_")) & set(names[1].split("_"))))
    return [Balance(read=read, kept=kept, kind=kind, lost=lost)]


def losses(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason of what was not kept, largest first, zeros left out."""
    found = {
        name: value for name, value in counts.items() if value and name.partition("/")[0] in LOSSES and "/" in name
    }
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _row(step: Step) -> list[Node]:
    counts = step.manifest.counts
    found, lost = balances(counts), losses(counts)
    shown = {name for item in found for name in (item.read, item.kept)}
    others = {name: value for name, value in counts.items() if name not in shown | set(lost)}
    return [
        tag("span", step.name, title=step.manifest.kind),
        join(_equation(counts, item) for item in found),
        _reasons(lost),
        _others(others, {} if step.manifest.kind in SHOWN_ELSEWHERE else step.manifest.metrics),
        duration(step.seconds) if step.seconds is not None else "",
        tag("span", f"{len(step.manifest.files)} · {size(step.bytes)}", title=step.manifest.digest),
    ]


def _equation(counts: Mapping[str, int], found: Balance) -> Markup:
    return tag(
        "div", tag("b", count(counts[found.read])), f" {words(found.read)} = ", tag("b", count(counts[found.kept])),
        f" {words(found.kept)} + ", tag("b", count(found.lost)), f" {found.kind}",
    )  # fmt: skip


def _reasons(lost: Mapping[str, int]) -> Node:
    if not lost:
        return None
    items = [f"{words(name.partition('/')[2])} {count(value)}" for name, value in lost.items()]
    first = tag("span", " · ".join(items[:4]))
    return first if len(items) <= 4 else tag("div", first, details(f"{len(items) - 4} more", " · ".join(items[4:])))


def _others(counts: Mapping[str, int], metrics: Mapping[str, float]) -> Node:
    items = [f"{words(name)} {count(value)}" for name, value in counts.items()]
    items += [f"{words(name)} {number(value)}" for name, value in metrics.items()]
    if len(items) <= 4:
        return " · ".join(items) or None
    return tag("div", " · ".join(items[:3]), details(f"{len(items) - 3} more", " · ".join(items[3:])))
