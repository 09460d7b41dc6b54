"""Metrics by hand-worked numbers."""

import pytest
import torch

from arm.tokenizer.metrics import class_of, code_statistics, entropy_bits, psnr, zero_shot_accuracy


def test_psnr_of_a_tenth_is_twenty_decibels() -> None:
    found = psnr(torch.full((2, 3, 4, 4), 0.6), torch.full((2, 3, 4, 4), 0.5))
    assert found.tolist() == pytest.approx([20.0, 20.0], abs=1e-4)


def test_code_statistics_by_hand() -> None:
    found = code_statistics(torch.tensor([[0, 0], [1, 1]]), (2, 2))
    # two of four codes, evenly: one bit; dimension 0 has 1 bit, dimension 1 none
    assert found == {
        "code_usage": 0.5, "perplexity": 2.0, "perplexity_per_codebook": 0.5, "bits_per_dimension": 0.5,
    }  # fmt: skip


def test_entropy_by_hand() -> None:
    assert entropy_bits(torch.tensor([1.0, 1.0, 2.0]).numpy()) == pytest.approx(1.5)


def test_zero_shot_takes_the_nearest_class() -> None:
    images = torch.tensor([[1.0, 0.1], [0.0, 5.0], [1.0, 0.0]])
    assert zero_shot_accuracy(images, torch.eye(2), [0, 1, 1]) == pytest.approx(2 / 3)


def test_a_caption_counts_only_where_it_names_one_class() -> None:
    classes = ("red circle", "blue square")
    assert class_of("A photo of a Red circle", classes) == 0
    assert class_of("a red circle and a blue square", classes) is None
    assert class_of("a cross", classes) is None
