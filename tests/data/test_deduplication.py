"""Fingerprints, and which images are the same picture."""

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import picture

from arm.data.deduplication import (
    Fingerprints,
    components,
    contaminated,
    fingerprint_images,
    near_pairs,
    stack,
    superfluous,
)


def prints_of(*pictures: NDArray[np.uint8]) -> Fingerprints:
    """Fingerprints of pictures of any size."""
    parts = [fingerprint_images(pixels[None]) for pixels in pictures]
    return stack([(p.exact[0].tobytes(), int(p.phash[0]), p.thumbnail[0].tobytes()) for p in parts])


def resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(PIL.Image.fromarray(pixels).resize((side, side), PIL.Image.Resampling.BICUBIC))


def test_a_resized_and_a_noisy_copy_are_near_and_others_are_not() -> None:
    original = picture(0, 288, 288)
    noisy = np.clip(original + np.random.default_rng(0).normal(0, 3, original.shape), 0, 255).astype(np.uint8)
    prints = prints_of(original, resized(original, 96), noisy, *(picture(seed, 96, 96) for seed in range(1, 20)))
    assert near_pairs(prints, 4, 24.0).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert len(np.unique(prints.exact)) == 22


def test_the_same_hash_is_not_enough_the_thumbnail_decides() -> None:
    grey = picture(3)
    tinted = (grey * np.array([1.0, 0.9, 0.4])).astype(np.uint8)
    prints = prints_of(grey, tinted)
    assert len(near_pairs(prints, 7, 255.0)) == 1
    assert len(near_pairs(prints, 7, 24.0)) == 0


@given(st.integers(0, 7), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_no_pair_within_the_distance_is_missed(distance: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**63, 40, dtype=np.uint64)
    flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (40, 5)).astype(np.uint64), axis=1)
    hashes = np.concatenate([base, base ^ flips])
    blank = np.zeros((80, 432), np.uint8)
    prints = Fingerprints(exact=np.frombuffer(rng.bytes(16 * 80), "V16"), phash=hashes, thumbnail=blank)
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    expected = np.argwhere(np.triu(apart <= distance, 1)).tolist()
    assert near_pairs(prints, distance, 0.0).tolist() == expected
    half = stack([(prints.exact[i].tobytes(), int(hashes[i]), blank[i].tobytes()) for i in range(40, 80)])
    first = stack([(prints.exact[i].tobytes(), int(hashes[i]), blank[i].tobytes()) for i in range(40)])
    assert contaminated(half, first, distance, 0.0).tolist() == (apart[:40, 40:] <= distance).any(axis=0).tolist()


def test_components_carry_their_smallest_index() -> None:
    pairs = np.array([[5, 4], [4, 3], [0, 2]])
    assert components(6, pairs).tolist() == [0, 1, 0, 3, 3, 3]


def test_the_best_of_a_component_stays_and_strangers_in_a_chain_stay_too() -> None:
    hashes = np.array([0b0000, 0b0011, 0b1111], np.uint64)
    prints = Fingerprints(exact=np.zeros(3, "V16"), phash=hashes, thumbnail=np.zeros((3, 432), np.uint8))
    assert superfluous(prints, np.array([0, 1, 2]), 2, 0.0) == {1: 0}
    assert superfluous(prints, np.array([1, 0, 2]), 2, 0.0) == {0: 1, 2: 1}


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_what_is_dropped_does_not_depend_on_the_order(order: list[int]) -> None:
    pictures = [
        picture(0, 96, 96),
        picture(1, 96, 96),
        resized(picture(0, 96, 96), 48),
        resized(picture(1, 96, 96), 64),
    ]
    ranks = np.array([2, 0, 1, 3])
    prints = prints_of(*(pictures[i] for i in order))
    dropped = superfluous(prints, ranks[order], 4, 24.0)
    assert {order[i]: order[j] for i, j in dropped.items()} == {0: 2, 3: 1}
