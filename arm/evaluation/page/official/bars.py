"""The categories of each benchmark as bars with whiskers, one bar a subject."""

from collections.abc import Sequence

from arm.evaluation.page.charts import NUM_SERIES, Bar, bars_chart
from arm.evaluation.page.markup import Markup, section, tag, words
from arm.evaluation.page.official.reading import NUMBERS, Measured, name_of, subjects_of


def render_bars(measured: Sequence[Measured]) -> Markup:
    """The section; left out where no benchmark has categories."""
    subjects = subjects_of([item for item in measured if item.categories()])
    names = list(dict.fromkeys(item.benchmark for item in measured if item.categories()))
    if not names:
        return Markup("")
    charts = [_chart([item for item in measured if item.benchmark == name], subjects) for name in names]
    keys = [
        tag("span", tag("i", class_=f"swatch series{place % NUM_SERIES}"), name_of(subject, measured[0].step))
        for place, subject in enumerate(subjects)
    ]
    note = (
        "Whiskers are 95% intervals. Categories are of the items that were scored, also where the headline is refused."
    )
    return section("Categories", note, tag("p", *keys, class_="legend"), tag("div", *charts, class_="bars-of"))


def _chart(measured: Sequence[Measured], subjects: Sequence[str]) -> Markup:
    target = measured[0].target
    measure = target.measures[0]
    groups: dict[str, list[Bar]] = {}
    for item in measured:
        name, series = name_of(item.subject, item.step), subjects.index(item.subject)
        for category, found in item.categories().items():
            value, low, high = (found[key] * measure.factor for key in NUMBERS)
            bar = Bar(value, low, high, measure.printed(found["value"]), series=series, name=name)
            groups.setdefault(words(category), []).append(bar)
    return bars_chart(target.title, target.bars, list(groups.items()), target.top * measure.factor)
