"""Metrics by hand-worked numbers, and against the values that the libraries of the field gave (evaldata/tokenizer)."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.tokenizer.codes import digit_shares, histogram
from arm.tokenizer.metrics import (
    class_of,
    class_vectors,
    entropy_bits,
    finite_mean,
    finite_means,
    frechet_distance,
    histogram_statistics,
    logistic_regression,
    psnr,
    ssim,
    zero_shot_accuracy,
)


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, Any]:
    """What scikit-image, torchmetrics and torch-fidelity say of the made images, features and indices."""
    found: dict[str, Any] = json.loads((shared / "evaldata/tokenizer/made_expected.json").read_text())
    return found


@pytest.fixture(scope="module")
def made_images(shared: Path) -> list[torch.Tensor]:
    """Six pairs of images, two of them equal."""
    arrays = np.load(shared / "evaldata/tokenizer/made_images.npz")
    return [torch.from_numpy(arrays[name]).permute(0, 3, 1, 2).double() / 255 for name in ("x", "y")]


def test_psnr_of_a_tenth_is_twenty_decibels() -> None:
    found = psnr(torch.full((2, 3, 4, 4), 0.6), torch.full((2, 3, 4, 4), 0.5))
    assert found.tolist() == pytest.approx([20.0, 20.0], abs=1e-4)


def test_equal_images_have_infinite_psnr_which_the_mean_leaves_out_and_counts() -> None:
    images = torch.zeros(3, 3, 4, 4)
    reference = torch.stack([torch.full((3, 4, 4), 0.1), torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.01)])
    found = psnr(images, reference)
    assert found[1] == math.inf
    mean, num_infinite = finite_mean(found)
    assert (mean, num_infinite) == (pytest.approx(30.0, abs=1e-4), 1)  # 20 and 40 dB
    assert math.isnan(finite_mean(torch.tensor([math.inf]))[0])
    columns = {"psnr": torch.tensor([20, math.inf, 30]), "all": torch.tensor([math.inf]), "none": torch.tensor([])}
    assert finite_means(columns) == {"psnr": 25, "psnr_infinite": 1, "all_infinite": 1}


def test_psnr_of_each_image_is_that_of_torchmetrics_and_scikit_image(
    expected: dict[str, Any], made_images: list[torch.Tensor]
) -> None:
    found = psnr(*made_images)
    for name in ("psnr_torchmetrics", "psnr_skimage"):
        values = [float(row[name]) for row in expected["per_image"]]
        assert found.tolist() == pytest.approx(values, abs=1e-4)


def test_mean_of_per_image_psnr_is_not_that_of_the_pooled_error(
    expected: dict[str, Any], made_images: list[torch.Tensor]
) -> None:
    mean, num_infinite = finite_mean(psnr(*made_images))
    assert mean == pytest.approx(expected["aggregate"]["psnr_mean_per_image"], abs=1e-4)
    assert num_infinite == 2
    assert abs(mean - expected["aggregate"]["psnr_pooled_mse_torchmetrics_default"]) > 4


def test_ssim_of_each_image_is_that_of_torchmetrics(expected: dict[str, Any], made_images: list[torch.Tensor]) -> None:
    values = [row["ssim_torchmetrics_default"] for row in expected["per_image"]]
    assert ssim(*made_images).tolist() == pytest.approx(values, abs=1e-4)


def test_ssim_does_not_depend_on_the_batch(made_images: list[torch.Tensor]) -> None:
    together, alone = ssim(*made_images), ssim(made_images[0][3:4], made_images[1][3:4])
    assert float(alone[0]) == pytest.approx(float(together[3]), abs=1e-12)


def test_code_statistics_by_hand() -> None:
    found = histogram_statistics(histogram(torch.tensor([[0, 0], [1, 1]]), 4), (2, 2))
    # two of four codes, evenly: one bit; dimension 0 has 1 bit, dimension 1 none
    expected = {"code_usage": 0.5, "perplexity": 2.0, "perplexity_per_codebook": 0.5, "bits_per_dimension": 0.5}
    assert {name: found[name] for name in expected} == expected
    assert (found["digits/balance/min"], found["digits/balance/mean"]) == (0.0, 0.5)


def test_code_statistics_are_those_of_the_official_histogram(shared: Path, expected: dict[str, Any]) -> None:
    indices, codebook = np.load(shared / "evaldata/tokenizer/made_indices.npz")["idx"], expected["codebook"]
    counts = torch.bincount(torch.from_numpy(indices), minlength=codebook["codebook_size"])
    found = histogram_statistics(counts, codebook["levels"])
    assert (counts > 0).sum() == codebook["used"]
    assert found["code_usage"] == codebook["usage"]
    assert found["perplexity"] == pytest.approx(codebook["perplexity_exact"], abs=1e-4)
    assert found["perplexity_per_codebook"] == pytest.approx(codebook["perplexity_fraction"], abs=1e-7)
    shares = digit_shares(counts, codebook["levels"])
    assert [float((share > 0).double().mean()) for share in shares] == [
        row["level_usage"] for row in codebook["per_dimension"]
    ]
    nats = [entropy_bits(share.numpy()) * math.log(2) for share in shares]
    assert nats == pytest.approx([row["entropy_nats"] for row in codebook["per_dimension"]], abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 23), min_size=1, max_size=60), st.integers(1, 59))
def test_one_histogram_over_the_set_is_the_sum_of_its_parts(codes: list[int], cut: int) -> None:
    levels = (2, 3, 4)
    parts = [torch.bincount(torch.tensor(part, dtype=torch.int64), minlength=24) for part in (codes[:cut], codes[cut:])]
    whole = histogram_statistics(histogram(torch.tensor(codes), 24), levels)
    assert histogram_statistics(parts[0] + parts[1], levels) == whole
    assert 1 <= whole["perplexity"] <= len(set(codes)) + 1e-9


def test_a_learned_codebook_has_no_digits() -> None:
    assert "bits_per_dimension" not in histogram_statistics(torch.tensor([3, 1, 0]), ())


def test_entropy_by_hand() -> None:
    assert entropy_bits(torch.tensor([1.0, 1.0, 2.0]).numpy()) == pytest.approx(1.5)


def test_zero_shot_takes_the_nearest_class() -> None:
    images = torch.tensor([[1.0, 0.1], [0.0, 5.0], [1.0, 0.0]])
    assert zero_shot_accuracy(images, torch.eye(2), [0, 1, 1]) == pytest.approx(2 / 3)


def test_a_class_is_the_normalised_mean_of_its_normalised_prompts() -> None:
    vectors = {"a cat": [10.0, 0.0], "cat!": [0.0, 1.0], "a dog": [0.0, 3.0], "dog!": [0.0, 1.0]}
    found = class_vectors(
        lambda texts: torch.tensor([vectors[text] for text in texts]), ["cat", "dog"], ["a {}", "{}!"]
    )
    # without the first normalisation the cat would be (.995, .0995)
    assert found.flatten().tolist() == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 0.0, 1.0], abs=1e-6)


def test_a_caption_counts_only_where_it_names_one_class() -> None:
    classes = ("red circle", "blue square")
    assert class_of("A photo of a Red circle", classes) == 0
    assert class_of("a red circle and a blue square", classes) is None
    assert class_of("a cross", classes) is None


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Two cats", 0), ("a cat's toy", 0), ("three crosses", 2), ("cat2", 0), ("it's a C++ book", 3), ("iPhone手机壳", 4),
        ("a caterpillar", None), ("a scat", None), ("a caterpillar and a dog", 1), ("across the street", None),
    ],
)  # fmt: skip
def test_a_class_is_named_by_a_word_not_by_a_part_of_one(caption: str, expected: int | None) -> None:
    assert class_of(caption, ("cat", "dog", "cross", "c++", "手机")) == expected


def test_frechet_distance_of_shifted_and_scaled_lines_by_hand() -> None:
    line = np.array([[-1.0], [1.0]])  # mean 0, variance 2
    assert frechet_distance(line, line + 3) == pytest.approx(9.0)
    # variances 2 and 8: 2 + 8 - 2 sqrt(16) = 2
    assert frechet_distance(line, 2 * line) == pytest.approx(2.0)


def test_frechet_distance_is_that_of_torch_fidelity(shared: Path, expected: dict[str, Any]) -> None:
    features = np.load(shared / "evaldata/tokenizer/made_features.npz")
    found = frechet_distance(features["a"], features["b"])
    assert found == pytest.approx(expected["fid_torch_fidelity_on_made_features"], abs=1e-4)
    assert frechet_distance(features["a"], features["a"]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_stands_fewer_images_than_channels() -> None:
    features = np.random.default_rng(0).standard_normal((2, 10, 40))
    forth, back = frechet_distance(features[0], features[1]), frechet_distance(features[1], features[0])
    assert forth == pytest.approx(back)
    assert forth > 0


def test_logistic_regression_is_scikit_learns() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    vectors = torch.randn(90, 4, generator=generator) + torch.eye(3, 4)[labels]
    test = torch.randn(20, 4, generator=generator)
    found = logistic_regression(vectors, labels, test, 3, penalty=0.01)
    mean, spread = vectors.double().mean(0), vectors.double().std(0)
    peer = linear_model.LogisticRegression(C=1 / (90 * 0.01), tol=1e-10, max_iter=10_000)
    peer.fit(((vectors - mean) / spread).numpy(), labels.numpy())
    probabilities = peer.predict_proba(((test - mean) / spread).numpy())
    assert np.abs(found.softmax(-1).numpy() - probabilities).max() < 1e-5


def test_logistic_regression_separates_what_a_line_separates() -> None:
    vectors = torch.tensor([[-2.0, 5.0], [-1.0, 5.0], [1.0, 5.0], [2.0, 5.0]])  # the second channel never changes
    logits = logistic_regression(
        vectors, torch.tensor([0, 0, 1, 1]), torch.tensor([[-0.5, 5.0], [0.5, 5.0]]), 2, penalty=1e-3
    )
    assert logits.argmax(-1).tolist() == [0, 1]
