"""Statistics of codes, by numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.tokenizer import codes as statistics
from arm.tokenizer.fsq import digits_to_index

PAIR = torch.tensor([0, 1, 1, 3])
"""Digits (0,0) (1,0) (1,0) (1,1)."""
COUNTS = statistics.histogram(PAIR, 4)


def test_a_histogram_counts_every_code_and_adds_up_over_batches() -> None:
    assert COUNTS.tolist() == [1, 2, 0, 1]
    halves = statistics.histogram(PAIR[:1], 4) + statistics.histogram(PAIR[1:].view(3, 1), 4)
    assert torch.equal(halves, COUNTS)


def test_shares_are_of_each_level_of_each_dimension() -> None:
    assert [share.tolist() for share in statistics.digit_shares(COUNTS, (2, 2))] == [[0.25, 0.75], [0.75, 0.25]]


def test_balance_is_one_when_even_and_zero_when_a_level_never_occurs() -> None:
    assert statistics.digit_balance(COUNTS, (2, 2)).tolist() == [0.5, 0.5]
    # codes 0, 2, 4 of levels (2, 3): the first digit is always 0, the second takes 0, 1, 2
    counts = statistics.histogram(torch.tensor([0, 2, 4]), 6)
    assert statistics.digit_balance(counts, (2, 3)).tolist() == pytest.approx([0, 1])


def test_usage_is_the_share_of_levels_that_occur() -> None:
    counts = statistics.histogram(torch.tensor([0, 2, 2]), 6)  # digits (0,0) (0,1) (0,1)
    assert statistics.digit_usage(counts, (2, 3)).tolist() == pytest.approx([1 / 2, 2 / 3])


def test_perplexity_of_a_dimension_is_two_to_the_entropy_by_its_levels() -> None:
    entropy = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert statistics.digit_perplexity(COUNTS, (2, 2)).tolist() == pytest.approx([2**entropy / 2] * 2)
    constant = statistics.histogram(torch.tensor([5, 5]), 6)
    assert statistics.digit_perplexity(constant, (2, 3)).tolist() == pytest.approx([1 / 2, 1 / 3])


def test_correlation_of_two_digits_by_hand() -> None:
    # means 3/4, 1/4; covariance 1/4 - 3/16 = 1/16; variances 3/16 each: 1/3
    assert statistics.digit_correlation(COUNTS, (2, 2))[0, 1].item() == pytest.approx(1 / 3)


def test_digits_that_repeat_each_other_correlate_fully_and_a_constant_one_not_at_all() -> None:
    same = statistics.histogram(torch.tensor([0, 3]), 4)
    assert statistics.digit_correlation(same, (2, 2)).tolist() == [[1, 1], [1, 1]]
    opposite = statistics.histogram(torch.tensor([1, 2]), 4)
    assert statistics.digit_correlation(opposite, (2, 2))[0, 1] == -1
    constant = statistics.histogram(torch.tensor([0, 1]), 4)
    assert statistics.digit_correlation(constant, (2, 2)).tolist() == [[1, 0], [0, 0]]


@settings(deadline=None)
@given(st.lists(st.tuples(*(st.integers(0, size - 1) for size in (2, 3, 5))), min_size=2, max_size=30))
def test_correlation_is_numpys_over_the_list_of_digits(rows: list[tuple[int, int, int]]) -> None:
    digits = torch.tensor(rows)
    counts = statistics.histogram(digits_to_index(digits, (2, 3, 5)), 30)
    varied = digits.double().std(dim=0) > 0
    found = statistics.digit_correlation(counts, (2, 3, 5))[varied][:, varied]
    expected = torch.corrcoef(digits[:, varied].double().T).reshape(found.shape)
    assert torch.allclose(found, expected, atol=1e-9)


def test_flip_rate_is_the_share_of_digits_that_differ() -> None:
    assert statistics.flip_rate(torch.tensor([0, 3]), torch.tensor([1, 3]), (2, 2)).tolist() == [0.5, 0]
    maps = torch.tensor([[[0, 1], [2, 3]]])
    assert statistics.flip_rate(maps, 3 - maps, (2, 2)).tolist() == [1, 1]
    assert statistics.flip_rate(maps, maps, (2, 2)).sum() == 0


def test_a_perturbed_image_differs_by_two_grey_levels_and_stays_in_range() -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    noisy = statistics.perturb(images, torch.Generator().manual_seed(1))
    assert (noisy - images).std().item() * 255 == pytest.approx(2, abs=0.05)
    assert torch.equal(noisy, statistics.perturb(images, torch.Generator().manual_seed(1)))
    black = statistics.perturb(torch.zeros(1, 3, 8, 8), torch.Generator().manual_seed(1))
    assert black.min() == 0


def test_what_is_logged_names_the_worst_and_the_mean_dimension() -> None:
    found = statistics.digit_statistics(statistics.histogram(torch.tensor([0, 1, 2, 3, 4, 4]), 8), (2, 2, 2))
    # digits 000 100 010 110 001 001: shares of 1 are 2/6, 2/6, 2/6
    assert found["digits/balance/min"] == pytest.approx(2 / 3)
    assert found["digits/usage/mean"] == 1
    # dimensions 0 and 1: 1/6 - 1/9 over 2/9 = .25; with dimension 2: 0 - 1/9 over 2/9 = -.5
    assert found["digits/correlation/max"] == pytest.approx(0.5)
    assert found["digits/correlation/mean"] == pytest.approx((0.25 + 0.5 + 0.5) / 3)


def test_one_dimension_has_no_pair_and_a_learned_codebook_no_digit() -> None:
    assert statistics.digit_statistics(torch.tensor([1, 1]), (2,))["digits/correlation/max"] == 0
    assert statistics.digit_statistics(torch.tensor([1, 1]), ()) == {}
