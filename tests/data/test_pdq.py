"""PDQ: the short way to the 64 smoothed samples is the long one, and a long image costs no more than its length."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from arm.data import pdq


def smoothed_in_full(length: int) -> NDArray[np.float64]:
    """Two box filters as matrices (length, length), multiplied, of which 64 rows are taken."""
    window = (length + 127) // 128
    right = (window + 2) // 2 - 1
    offset = np.arange(length)[None, :] - np.arange(length)[:, None]
    inside = (offset <= right) & (offset > right - window)
    box = inside / inside.sum(axis=1, keepdims=True)
    return np.asarray((box @ box)[((np.arange(64) + 0.5) * length / 64).astype(np.int64)])


@pytest.mark.parametrize("length", [5, 36, 64, 127, 128, 129, 288, 515, 661, 800])
def test_samples_are_those_of_the_full_matrices(length: int) -> None:
    np.testing.assert_allclose(pdq._samples(length), smoothed_in_full(length), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("height", "width"), [(5, 300), (64, 64), (144, 515), (700, 661)])
def test_hashes_are_those_of_the_full_matrices(height: int, width: int) -> None:
    grey_BHW = np.random.default_rng(0).uniform(0, 255, (4, height, width)).astype(np.float32)
    rows, columns = (np.float32(pdq._cosines() @ smoothed_in_full(length)) for length in (height, width))
    assert (pdq.hash_grey(grey_BHW) == pdq._hashes(np.asarray(rows @ grey_BHW @ columns.T, np.float32))).all()


def test_an_image_as_long_as_a_jpeg_can_be_is_hashed_in_little_memory() -> None:
    """A matrix (length, length) would take 32 GiB."""
    tracemalloc.start()
    try:
        assert pdq.hash_grey(np.random.default_rng(0).uniform(0, 255, (1, 65_535, 8)).astype(np.float32)).any()
        assert tracemalloc.get_traced_memory()[1] < 400 << 20
    finally:
        tracemalloc.stop()
