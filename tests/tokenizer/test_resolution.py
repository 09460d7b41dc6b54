"""Sizes that images are brought to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm.errors import UserError
from arm.tokenizer.config import ResolutionConfig
from arm.tokenizer.resolution import target_size

PAPER = ResolutionConfig(min_short_side=256, max_long_side=512)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 1000), (256, 512)),
        ((300, 300), (304, 304)),
        ((100, 100), (256, 256)),
        ((200, 2000), (48, 512)),
        ((4000, 3000), (512, 384)),
        ((1, 5000), (16, 512)),
    ],
)
def test_hand_worked_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert target_size(*size, PAPER, 16) == expected


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 8))
def test_every_size_is_whole_patches_within_the_long_side(height: int, width: int, patches: int) -> None:
    found = target_size(height, width, PAPER, 2 * patches)
    assert all(side % (2 * patches) == 0 and 0 < side <= 512 for side in found)


def test_a_transposed_image_has_the_transposed_size() -> None:
    assert target_size(333, 777, PAPER, 16) == target_size(777, 333, PAPER, 16)[::-1]


def test_bounds_that_contradict_are_refused() -> None:
    with pytest.raises(UserError, match="min_short_side"):
        ResolutionConfig(min_short_side=600, max_long_side=512)
