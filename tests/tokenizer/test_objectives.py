"""The losses by hand-worked numbers."""

import math

import pytest
import torch

from arm.tokenizer.objectives import Weighting, commitment_loss, feature_loss, sigmoid_loss


def test_sigmoid_loss_of_two_pairs_by_hand() -> None:
    images, texts = torch.eye(2), torch.eye(2)
    same = torch.eye(2, dtype=torch.bool)
    scale, bias = torch.tensor(math.log(4.0)), torch.tensor(-1.0)
    # positives: logit 4 - 1 = 3; negatives: logit -1, sign -1: +1. Two of each, divided by two images.
    expected = math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-1))
    assert sigmoid_loss(images, texts, same, scale, bias).item() == pytest.approx(expected, abs=1e-6)


def test_the_same_caption_of_two_images_is_no_negative() -> None:
    images = texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    scale, bias = torch.tensor(math.log(10.0)), torch.tensor(0.0)
    shared = sigmoid_loss(images, texts, torch.ones(2, 2, dtype=torch.bool), scale, bias)
    apart = sigmoid_loss(images, texts, torch.eye(2, dtype=torch.bool), scale, bias)
    assert shared.item() < 0.001
    assert apart.item() > 9


def test_feature_loss_is_one_minus_cosine() -> None:
    z = torch.tensor([[[1.0, 0.0], [3.0, 4.0]]])
    target = torch.tensor([[[2.0, 0.0], [4.0, 3.0]]])
    assert feature_loss(z, target).item() == pytest.approx((0 + (1 - 24 / 25)) / 2, abs=1e-6)


def test_commitment_loss_pulls_values_to_their_codes() -> None:
    bounded = torch.tensor([[[0.5, -1.0]]], requires_grad=True)
    loss = commitment_loss(bounded, torch.tensor([[[1.0, -1.0]]]))
    loss.backward()
    assert loss.item() == pytest.approx(0.125)
    assert bounded.grad is not None
    assert bounded.grad.tolist() == [[[-0.5, 0.0]]]


def test_without_normalisation_losses_add_by_their_weights() -> None:
    total = Weighting({"pixel": 5.0, "feature": 1.0}, "none")(
        {"pixel": torch.tensor(0.2), "feature": torch.tensor(0.3)}
    )
    assert total.item() == pytest.approx(1.3)


def test_running_normalisation_makes_a_steady_loss_count_as_its_weight() -> None:
    weighting = Weighting({"pixel": 5.0, "sigmoid": 2.0}, "running")
    for _ in range(3):
        total = weighting({"pixel": torch.tensor(0.01), "sigmoid": torch.tensor(40.0)})
        assert total.item() == pytest.approx(7.0, rel=1e-4)
    halved = weighting({"pixel": torch.tensor(0.01), "sigmoid": torch.tensor(20.0)})
    assert halved.item() < 6.6
