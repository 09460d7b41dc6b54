"""The comparison with a baseline: what differs, by how much, and what is worse."""

from collections.abc import Sequence
from dataclasses import dataclass

from arm.evaluation.page.markup import Markup, Node, count, details, join, section, tag, words
from arm.evaluation.page.official.reading import name_of
from arm.evaluation.page.official.targets import TARGETS
from arm.evaluation.page.scores import TITLES
from arm.evaluation.page.store import Step

CLASSES = {"regression": "bad", "better": "good"}
SIGNS = {"regression": "▼ regression", "better": "▲ better"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A number of this evaluation minus the baseline's, over the items that both scored."""

    metric: str
    category: str
    """Empty for the headline."""
    num_units: int
    """What was resampled: items, or prompts, circles, images."""
    verdict: str
    """regression, better, equal, no difference shown, too few items."""
    before: float = 0.0
    after: float = 0.0
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One benchmark of one subject beside the baseline's."""

    subject: str
    other: str
    """The baseline's subject."""
    benchmark: str
    apart: tuple[str, ...]
    """Why the two are not comparable; then there are no differences."""
    cautions: tuple[str, ...]
    """What else was not the same."""
    num_common: int
    num_only_here: int
    num_only_there: int
    differences: tuple[Difference, ...] = ()


def render_comparisons(compared: Sequence[Compared] | None, evaluation: Step | None, baseline: Step | None) -> Markup:
    """The section; left out without a baseline."""
    if compared is None or evaluation is None or baseline is None:
        return Markup("")
    found = [difference for item in compared for difference in item.differences]
    worse = sum(difference.verdict == "regression" for difference in found)
    note = (
        f"Against {baseline.name} ({baseline.manifest.digest[:12]}): this evaluation minus the baseline, over the items that both "
        "scored, with paired bootstrap intervals. A regression is an interval that lies below 0; each is a 95% interval of its "
        "own, so of twenty comparisons one is expected to differ by chance."
    )
    said = (
        f"▼ {worse} regression{'' if worse == 1 else 's'} in {len(found)} comparisons"
        if worse
        else f"No regression in {len(found)} comparisons"
    )
    verdict = tag("p", tag("span", said, class_=f"verdict {'bad' if worse else 'good'}")) if found else None
    nothing = tag("p", "The two have no benchmark in common.", class_="refused") if not compared else None
    return section("Baseline", note, verdict, nothing, *(_benchmark(item, evaluation, baseline) for item in compared))


def title_of(benchmark: str) -> str:
    """An official benchmark's own name, or the page's for one of ours."""
    return TARGETS[benchmark].title if benchmark in TARGETS else TITLES.get(benchmark, words(benchmark))


def _benchmark(item: Compared, evaluation: Step, baseline: Step) -> Markup:
    here, there = name_of(item.subject, evaluation), name_of(item.other, baseline)
    counts = [f"{count(item.num_common)} items in common"]
    counts += [
        f"{count(number)} only {where}"
        for number, where in ((item.num_only_here, "here"), (item.num_only_there, "in the baseline"))
        if number
    ]
    title = tag("h3", title_of(item.benchmark), tag("small", f" {here} against {there} · {', '.join(counts)}"))
    if item.apart:
        lines = [tag("li", reason) for reason in item.apart]
        return tag(
            "div",
            title,
            tag("p", "Not comparable: measured in another way.", class_="refused"),
            tag("ul", *lines, class_="notes"),
        )
    cautions = (
        tag("ul", *(tag("li", "Mind: ", caution) for caution in item.cautions), class_="notes")
        if item.cautions
        else None
    )
    first, *others = item.differences
    loud = [other for other in others if other.verdict == "regression"]
    quiet = [other for other in others if other.verdict != "regression"]
    folded = details(f"{len(quiet)} categories without a regression", _table(quiet, item.benchmark)) if quiet else None
    return tag("div", title, _table([first, *loud], item.benchmark), folded, cautions)


def _table(found: Sequence[Difference], benchmark: str) -> Markup:
    head = tag("tr", *(tag("th", cell) for cell in ("", "Baseline", "Here", "Difference", "95%", "Items", "")))
    body = [
        tag("tr", *_cells(item, benchmark), class_=item.verdict if item.verdict == "regression" else None)
        for item in found
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body), class_="scores"), class_="scroll")


def _cells(item: Difference, benchmark: str) -> list[Node]:
    name = words(item.category) if item.category else join([tag("b", words(item.metric)), tag("small", " overall")])
    shown = tag(
        "span", SIGNS.get(item.verdict, item.verdict), class_=f"verdict {CLASSES.get(item.verdict, '')}".strip()
    )
    factor, digits = _print(benchmark)
    values: list[str | None] = [None] * 4
    if item.verdict != "too few items":
        values = [f"{value * factor:.{digits}f}" for value in (item.before, item.after)]
        values += [
            f"{item.difference * factor:+.{digits}f}",
            f"{item.low * factor:+.{digits}f} to {item.high * factor:+.{digits}f}",
        ]
    return [
        tag("th", name, scope="row"),
        *(tag("td", value) for value in (*values, count(item.num_units))),
        tag("td", shown),
    ]


def _print(benchmark: str) -> tuple[float, int]:
    """Factor and digits of a benchmark's numbers; one digit more than in its column, since differences are small."""
    if benchmark not in TARGETS:
        return 1.0, 3
    measure = TARGETS[benchmark].measures[-1]
    return measure.factor, max(measure.digits, 1)
