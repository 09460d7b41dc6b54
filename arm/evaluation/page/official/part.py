"""Everything that the report says of other authors' benchmarks, read once, for the page and for report.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arm.evaluation.page.markup import Markup
from arm.evaluation.page.official.bars import render_bars
from arm.evaluation.page.official.beside import CONTAMINATION, COST, read_beside, render_beside
from arm.evaluation.page.official.comparisons import Compared, render_comparisons, shown_of
from arm.evaluation.page.official.numbers import write_numbers
from arm.evaluation.page.official.reading import Measured, name_of, read_measured, subjects_of
from arm.evaluation.page.official.samples import render_official_samples
from arm.evaluation.page.official.tables import render_tables
from arm.evaluation.page.store import Step
from arm.storage import Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """What was read."""

    evaluation: Step | None
    measured: Sequence[Measured]
    unreadable: Sequence[str]
    """scores.json files that are damaged."""
    baseline: Step | None
    compared: Sequence[Compared] | None
    beside: Mapping[str, Any]
    """cost and contamination, None where nobody measured them."""

    def render_numbers(self) -> list[Markup]:
        """Tables, comparison, bars, cost and contamination."""
        return [
            render_tables(self.measured, self.unreadable),
            render_comparisons(self.compared, self.evaluation, self.baseline),
            render_bars(self.measured),
            *render_beside(self.beside),
        ]

    def render_samples(self) -> list[Markup]:
        """Images and questions with their verdicts."""
        return [render_official_samples(self.measured)]

    def headlines(self) -> list[tuple[str, str, str]]:
        """(printed, whose and what, class) of each headline of the last subject, and the regressions."""
        found = []
        last = subjects_of(list(self.measured))[-1:]
        for item in self.measured:
            if item.subject in last:
                measure = next((m for m in item.target.measures if m.metric == item.record["headline"]), None)
                value = item.estimate(measure.metric) if measure else None
                said = measure.printed(value["value"]) if measure and value else "refused"
                what = measure.title if measure else item.target.title
                found.append((said, f"{what}, {name_of(item.subject, item.step)}", "" if value else "refused"))
        if self.compared is not None and (differences := shown_of(self.compared)):
            worse = sum(one.verdict == "regression" for one in differences)
            found.append((f"{worse}", "regressions against the baseline", "bad" if worse else "good"))
        return found

    def to_json(self) -> bytes:
        """report.json."""
        return write_numbers(self.evaluation, self.measured, self.unreadable, self.baseline, self.compared, self.beside)


def read_official(evaluation: Step | None, place: Folder, baseline: Step | None) -> Official:
    """Of an evaluation, of the files beside it, and of a baseline."""
    measured, unreadable = read_measured(evaluation)
    compared = None
    if evaluation is not None and baseline is not None:
        from arm.evaluation.baseline import compare_with

        compared = compare_with(evaluation, baseline)
    beside = {
        "cost": read_beside(COST, evaluation, place), "contamination": read_beside(CONTAMINATION, evaluation, place),
    }  # fmt: skip
    return Official(
        evaluation=evaluation,
        measured=measured,
        unreadable=unreadable,
        baseline=baseline,
        compared=compared,
        beside=beside,
    )
