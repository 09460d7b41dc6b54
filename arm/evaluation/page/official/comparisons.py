"""The comparison with a baseline: what differs, by how much, and what is worse."""

from collections.abc import Sequence
from dataclasses import dataclass

from arm.evaluation.page.markup import Markup, count, details, section, tag, words
from arm.evaluation.page.official.reading import name_of
from arm.evaluation.page.official.targets import TARGETS
from arm.evaluation.page.scores import TITLES
from arm.evaluation.page.store import Step

TOO_FEW = "too few items"
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
    benchmark: str
    other: str = ""
    """The baseline's subject; empty where one of the two was not asked."""
    alone: str = ""
    """Which of the two was not asked at all."""
    apart: tuple[str, ...] = ()
    """Why the two are not comparable; then there are no differences."""
    cautions: tuple[str, ...] = ()
    """What else was not the same."""
    num_common: int = 0
    num_only_here: int = 0
    num_only_there: int = 0
    differences: tuple[Difference, ...] = ()


def shown_of(compared: Sequence[Compared]) -> list[Difference]:
    """The differences that have a verdict: those of too few items have none."""
    return [one for item in compared for one in item.differences if one.verdict != TOO_FEW]


def render_comparisons(compared: Sequence[Compared] | None, evaluation: Step | None, baseline: Step | None) -> Markup:
    """The section; left out without a baseline."""
    if compared is None or evaluation is None or baseline is None:
        return Markup("")
    found = shown_of(compared)
    worse = sum(difference.verdict == "regression" for difference in found)
    note = (
        f"Against {baseline.name} ({baseline.manifest.digest[:12]}): this evaluation minus the baseline, over the items that both "
        "scored, with paired bootstrap intervals. A regression is an interval that lies below 0; each is a 95% interval of its "
        "own, so of twenty comparisons one is expected to differ by chance."
    )
    many = f"{worse} regression{'' if worse == 1 else 's'} in {len(found)} comparisons"
    said = f"▼ {many}" if worse else f"No regression in {len(found)} comparisons"
    verdict = tag("p", tag("span", said, class_=f"verdict {'bad' if worse else 'good'}")) if found else None
    why = "Nothing could be compared." if compared else "The two have no benchmark in common."
    nothing = tag("p", why, class_="refused") if not found else None
    rows = [row for item in compared for row in _rows(item, evaluation, baseline)]
    alike: dict[str, list[str]] = {}
    for title, text in ((title_of(item.benchmark), text) for item in compared for text in item.cautions):
        alike.setdefault(text, []).append(title)
    cautions = [tag("li", tag("b", ", ".join(dict.fromkeys(titles))), f": {text}") for text, titles in alike.items()]
    folded = [_categories(item, evaluation) for item in compared if len(item.differences) > 1]
    return section(
        "Baseline", note, verdict, nothing, _table(rows), tag("ul", *cautions, class_="notes") if cautions else None,
        details("Every category", *folded) if folded else None,
    )  # fmt: skip


def title_of(benchmark: str) -> str:
    """An official benchmark's own name, or the page's for one of ours."""
    return TARGETS[benchmark].title if benchmark in TARGETS else TITLES.get(benchmark, words(benchmark))


def _rows(item: Compared, evaluation: Step, baseline: Step) -> list[Markup]:
    """The headline, below it the categories that are worse; or why there is no number."""
    here, there = (name_of(name, step) for name, step in ((item.subject, evaluation), (item.other, baseline)))
    who = f" {here}" if here == there or not item.other else f" {here}, before {there}"
    title = tag("th", title_of(item.benchmark), tag("small", who), scope="row")
    if item.alone:
        return [tag("tr", title, tag("td", tag("span", item.alone, class_="plain"), colspan=6))]
    if item.apart:
        why = f"not comparable: {'; '.join(item.apart)}"
        return [tag("tr", title, tag("td", why, colspan=6, class_="refused why"))]
    first, *others = item.differences
    if which := _measure_of(item.benchmark, first.metric):
        title = tag("th", title_of(item.benchmark), tag("small", f" {which}"), tag("small", who), scope="row")
    alone = ((item.num_only_here, "only here"), (item.num_only_there, "only in the baseline"))
    lonely = [tag("small", f"{count(number)} {where}") for number, where in alone if number]
    worse = [other for other in others if other.verdict == "regression"]
    return [
        _row(title, first, item.benchmark, lonely),
        *(
            _row(tag("th", words(other.category), class_="below", scope="row"), other, item.benchmark)
            for other in worse
        ),
    ]


def _measure_of(benchmark: str, metric: str) -> str | None:
    """The headline's own title, where a benchmark has several numbers: MMBench circular."""
    measures = TARGETS[benchmark].measures if benchmark in TARGETS else ()
    return next((measure.title for measure in measures if measure.metric == metric and len(measures) > 1), None)


def _categories(item: Compared, evaluation: Step) -> Markup:
    rows = [
        _row(tag("th", words(other.category), scope="row"), other, item.benchmark) for other in item.differences[1:]
    ]
    title = tag("h3", title_of(item.benchmark), tag("small", f" {name_of(item.subject, evaluation)}"))
    return tag("div", title, _table(rows))


def _table(rows: Sequence[Markup]) -> Markup | None:
    head = tag("tr", *(tag("th", cell) for cell in ("", "", "Baseline", "Here", "Difference", "95%", "In common")))
    body = tag("table", tag("thead", head), tag("tbody", *rows), class_="scores compared")
    return tag("div", body, class_="scroll") if rows else None


def _row(name: Markup, item: Difference, benchmark: str, lonely: Sequence[Markup] = ()) -> Markup:
    said = tag("span", SIGNS.get(item.verdict, item.verdict), class_=CLASSES.get(item.verdict, "plain"))
    values: list[str | None] = [None] * 4
    if item.verdict != TOO_FEW:
        factor, digits = _print(benchmark, item.metric)
        before, after, difference, low, high = (
            round(value * factor, digits) + 0.0
            for value in (item.before, item.after, item.difference, item.low, item.high)
        )
        values = [f"{value:,.{digits}f}" for value in (before, after)]
        values += [f"{difference:+.{digits}f}", f"{low:+.{digits}f} to {high:+.{digits}f}"]
    cells = [tag("td", value) for value in values]
    counted = tag("td", count(item.num_units), *lonely)
    worse = "regression" if item.verdict == "regression" else None
    return tag("tr", name, tag("td", said, class_="verdict"), *cells, counted, class_=worse)


def _print(benchmark: str, metric: str) -> tuple[float, int]:
    """Factor and digits of a number, one digit at least, since differences are small; POPE's F1 is printed as its mean."""
    if benchmark not in TARGETS:
        return 1.0, 3
    measures = TARGETS[benchmark].measures
    measure = next((item for item in measures if item.metric == metric), measures[-1])
    return measure.factor, max(measure.digits, 1)
