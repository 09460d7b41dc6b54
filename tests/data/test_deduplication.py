"""Fingerprints, and which images are a picture of the evaluation sets."""

import numpy as np
import PIL.Image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import picture

from arm.data.deduplication import Fingerprints, contaminated, fingerprint_images, stack


def prints_of(*pictures: NDArray[np.uint8]) -> Fingerprints:
    """Fingerprints of pictures of any size."""
    parts = [fingerprint_images(pixels[None]) for pixels in pictures]
    return stack([(p.exact[0].tobytes(), int(p.phash[0]), p.thumbnail[0].tobytes()) for p in parts])


def resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(PIL.Image.fromarray(pixels).resize((side, side), PIL.Image.Resampling.BICUBIC))


def test_a_resized_and_a_noisy_copy_contaminate_and_others_do_not() -> None:
    original = picture(0, 288, 288)
    noisy = np.clip(original + np.random.default_rng(0).normal(0, 3, original.shape), 0, 255).astype(np.uint8)
    prints = prints_of(original, resized(original, 96), noisy, *(picture(seed, 96, 96) for seed in range(1, 20)))
    assert contaminated(prints, prints_of(original), 4, 24.0).tolist() == [True] * 3 + [False] * 19
    assert len(np.unique(prints.exact)) == 22


def test_the_same_hash_is_not_enough_the_thumbnail_decides() -> None:
    grey = picture(3)
    tinted = (grey * np.array([1.0, 0.9, 0.4])).astype(np.uint8)
    assert contaminated(prints_of(tinted), prints_of(grey), 7, 255.0).tolist() == [True]
    assert contaminated(prints_of(tinted), prints_of(grey), 7, 24.0).tolist() == [False]


@given(st.integers(0, 7), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_no_pair_within_the_distance_is_missed(distance: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**63, 40, dtype=np.uint64)
    flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (40, 5)).astype(np.uint64), axis=1)
    hashes = np.concatenate([base, base ^ flips])
    blank, exact = np.zeros(432, np.uint8).tobytes(), np.frombuffer(rng.bytes(16 * 80), "V16")
    first, second = (
        stack([(exact[i].tobytes(), int(hashes[i]), blank) for i in half]) for half in (range(40), range(40, 80))
    )
    apart = np.bitwise_count(hashes[:40, None] ^ hashes[None, 40:])
    assert contaminated(second, first, distance, 0.0).tolist() == (apart <= distance).any(axis=0).tolist()
