"""Two models on the same items: the difference of a metric, paired by uid, with its 95% bootstrap interval.

A row is a verdict of `items/…verdicts.jsonl` or an item of `benchmarks/…/items.jsonl`. Rows can be paired on a metric only
where the metric is a mean over them. That is tried, not assumed: of the means below the first that gives back the recorded
value of *both* models is paired. POPE's F1 or MME's acc+ are no such means, and give None.

    strict, score         of the items that were scored
    micro, macro          over all items, or the mean of the group means
    1, 100                as a share, or in percent
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arm.evaluation.statistics import Estimate, Weighting, paired_difference

Rows = Sequence[Mapping[str, Any]]
RESAMPLES, SEED = 1000, 0
NEAR = 1e-5
"""The evaluation rounds what it records to six decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """One way to make a number of items."""

    field: str
    weighting: Weighting
    factor: float


WEIGHTINGS: tuple[Weighting, ...] = ("micro", "macro")
MEANS = tuple(
    Mean(field=field, weighting=weighting, factor=factor)
    for factor in (1.0, 100.0)
    for field in ("strict", "score")
    for weighting in WEIGHTINGS
)
ITEM_SCORES = Mean(field="score", weighting="micro", factor=1.0)


def paired_on(metric: str, before: Rows, after: Rows, old: float, new: float) -> Estimate | None:
    """New minus old of a metric over the items that both scored; None where the metric is no mean of items.

    A metric that is the name of a group (`counting`) is the mean of that group's items.
    """
    if any(row["group"] == metric for row in after):
        before, after = ([row for row in rows if row["group"] == metric] for rows in (before, after))
    fields = after[0].keys() if after else ()
    for mean in (mean for mean in MEANS if mean.field in fields):
        if is_mean(before, mean, old) and is_mean(after, mean, new):
            return paired(before, after, mean)
    return None


def paired(
    before: Rows, after: Rows, mean: Mean = ITEM_SCORES, *, num_bootstraps: int = RESAMPLES, seed: int = SEED
) -> Estimate | None:
    """After minus before over the items that both scored; None where they share none."""
    values, others = _values(before, mean.field), _values(after, mean.field)
    if not values.keys() & others.keys():
        return None
    groups = {str(row["uid"]): str(row["group"]) for row in after}
    found = paired_difference(values, others, groups, mean.weighting, num_bootstraps=num_bootstraps, seed=seed)
    return replace(found, value=found.value * mean.factor, low=found.low * mean.factor, high=found.high * mean.factor)


def is_mean(rows: Rows, mean: Mean, value: float) -> bool:
    """Whether the rows' mean is the value.

    strict 1, 0, 1, 1 and 75.0  ->  micro, factor 100
    """
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row["outcome"] == "ok":
            groups.setdefault(row["group"], []).append(float(row[mean.field]))
    if not groups:
        return False
    sums = [(sum(values), len(values)) for values in groups.values()]
    micro = sum(total for total, _ in sums) / sum(number for _, number in sums)
    macro = sum(total / number for total, number in sums) / len(sums)
    own = mean.factor * (micro if mean.weighting == "micro" else macro)
    return abs(own - value) <= NEAR * mean.factor


def _values(rows: Rows, field: str) -> dict[str, float]:
    return {str(row["uid"]): float(row[field]) for row in rows if row["outcome"] == "ok"}
