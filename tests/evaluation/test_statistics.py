"""Means and intervals against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.evaluation.statistics import Estimate, estimate, is_not_lower, paired_difference

SETTINGS = {"num_bootstraps": 1000, "seed": 0}
scores = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=30), min_size=1
)


def test_macro_is_the_mean_of_group_means_and_micro_the_mean_of_items() -> None:
    groups = {"colors": [1.0, 0.0, 1.0], "counting": [0.0, 0.0, 1.0, 1.0]}
    assert estimate(groups, "macro", **SETTINGS).value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert estimate(groups, "micro", **SETTINGS).value == pytest.approx(4 / 7)


def test_interval_of_a_proportion_agrees_with_the_normal_approximation() -> None:
    """400 items, p = .5: standard error sqrt(.25 / 400) = .025, so the interval is .5 ± .049."""
    found = estimate({"all": [0.0, 1.0] * 200}, "micro", num_bootstraps=4000, seed=1)
    assert found.low == pytest.approx(0.451, abs=0.006)
    assert found.high == pytest.approx(0.549, abs=0.006)


def test_macro_interval_is_as_wide_as_its_groups_say() -> None:
    """Two groups of 100 at p = .5: the mean's standard error is sqrt(.0025 + .0025) / 2 = .0354, half the width .069."""
    found = estimate({"a": [0.0, 1.0] * 50, "b": [0.0, 1.0] * 50}, "macro", num_bootstraps=4000, seed=1)
    assert (found.high - found.low) / 2 == pytest.approx(0.0693, abs=0.006)


def test_resampling_stays_inside_groups() -> None:
    """Each group is constant, so no resample can differ, however unlike the groups are."""
    found = estimate({"a": [1.0] * 5, "b": [0.0] * 50}, "macro", **SETTINGS)
    assert found == Estimate(value=0.5, low=0.5, high=0.5, num_items=55)


def test_large_groups_are_resampled_in_parts_with_the_same_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arm.evaluation.statistics.MAX_RESAMPLED", 1000)
    found = estimate({"all": [0.0, 1.0] * 200}, "micro", num_bootstraps=2000, seed=1)
    assert found.high - found.low == pytest.approx(0.098, abs=0.01)


@given(scores)
@settings(max_examples=30, deadline=None)
def test_the_interval_holds_within_the_range_of_the_scores_and_repeats(groups: dict[str, list[float]]) -> None:
    found = estimate(groups, "macro", num_bootstraps=200, seed=3)
    assert 0 <= found.low <= found.high <= 1
    assert found == estimate(groups, "macro", num_bootstraps=200, seed=3)


def test_a_paired_difference_counts_only_items_that_both_have() -> None:
    before = {"a": 0.0, "b": 1.0, "c": 1.0, "old": 1.0}
    after = {"a": 1.0, "b": 1.0, "c": 1.0, "new": 0.0}
    groups = dict.fromkeys("abc", "x") | {"old": "x", "new": "x"}
    found = paired_difference(before, after, groups, "micro", **SETTINGS)
    assert found.value == pytest.approx(1 / 3)
    assert found.num_items == 3


def test_pairing_is_tighter_than_two_separate_intervals() -> None:
    """The same half of 200 items is right at both stages but for 4 gained: the difference .02 is surely above 0."""
    before = {f"{i:03d}": float(i % 2) for i in range(200)}
    after = before | {f"{i:03d}": 1.0 for i in (0, 2, 4, 6)}
    found = paired_difference(before, after, dict.fromkeys(before, "all"), "micro", **SETTINGS)
    apart = estimate({"all": list(after.values())}, "micro", **SETTINGS)
    assert found.value == pytest.approx(0.02)
    assert found.high - found.low < (apart.high - apart.low) / 2


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.05, 0.01, True), (0.01, 0.03, True), (-0.05, -0.01, False), (-0.05, 0.0, False), (0.0, 0.0, True)],
)
def test_not_lower_means_that_the_interval_reaches_above_zero(low: float, high: float, expected: bool) -> None:
    assert is_not_lower(Estimate(value=(low + high) / 2, low=low, high=high, num_items=10)) is expected


def test_a_clear_loss_is_lower() -> None:
    before = {f"{i:03d}": 1.0 for i in range(100)}
    after = before | {f"{i:03d}": 0.0 for i in range(10)}
    found = paired_difference(before, after, dict.fromkeys(before, "all"), "micro", **SETTINGS)
    assert found.value == pytest.approx(-0.1)
    assert not is_not_lower(found)


def test_no_scores_is_an_error_not_a_zero() -> None:
    with pytest.raises(ValueError, match="no scores"):
        estimate({"a": []}, "micro", **SETTINGS)


def test_seeds_change_the_resamples_and_not_the_value() -> None:
    groups = {"all": list(np.linspace(0, 1, 50))}
    first, second = (estimate(groups, "micro", num_bootstraps=200, seed=seed) for seed in (0, 1))
    assert first.value == second.value
    assert first.low != second.low
