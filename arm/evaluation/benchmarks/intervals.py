"""Estimates of the shapes that benchmarks have, each with its 95% bootstrap interval.

The value is the official one, computed as the authors compute it, to the last bit where that matters; the interval is
that of the resampled items.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.statistics import Estimate, Weighting, estimate, weighted_estimate


@dataclass(frozen=True, slots=True)
class Intervals:
    """Makes estimates with one config's resamples."""

    config: ScoreConfig

    def mean(self, values: Sequence[float], *, factor: float = 1.0, value: float | None = None) -> Estimate:
        """Mean of the values times a factor."""
        return self.groups({"all": values}, "micro", factor=factor, value=value)

    def groups(
        self, groups: Mapping[str, Sequence[float]], weighting: Weighting, *, factor: float = 1.0,
        value: float | None = None,
    ) -> Estimate:  # fmt: skip
        """Mean of the group means (macro) or over all values (micro) times a factor."""
        found = estimate(groups, weighting, num_bootstraps=self.config.num_bootstraps, seed=self.config.seed)
        return scaled(found, factor, value)

    def weighted(
        self, groups: Mapping[str, Sequence[float]], weights: Mapping[str, float], *, value: float | None = None
    ) -> Estimate:
        """Weighted sum of the group means."""
        found = weighted_estimate(groups, weights, num_bootstraps=self.config.num_bootstraps, seed=self.config.seed)
        return scaled(found, 1.0, value)

    def of_counts(
        self, counts: Sequence[Sequence[int]], function: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    ) -> Estimate:
        """A function of tables of counts, one for each group, such as F1 of a confusion matrix (TP, FP, TN, FN).

        Resampling items with replacement is drawing each table from its multinomial distribution. The function takes
        (groups, resamples, cells) and returns (resamples,).
        """
        random = np.random.Generator(np.random.PCG64(self.config.seed))
        tables = [np.asarray(table, dtype=np.int64) for table in counts]
        drawn = [random.multinomial(int(t.sum()), t / t.sum(), size=self.config.num_bootstraps) for t in tables]
        low, high = np.percentile(function(np.stack(drawn).astype(np.int64)), (2.5, 97.5))
        value = function(np.stack(tables)[:, None, :])[0]
        return Estimate(
            value=float(value), low=float(low), high=float(high), num_items=int(sum(t.sum() for t in tables))
        )


def scaled(found: Estimate, factor: float, value: float | None = None) -> Estimate:
    """The estimate times a factor, its value replaced by the official one where that is given."""
    own = found.value * factor if value is None else value
    return replace(found, value=own, low=found.low * factor, high=found.high * factor)
