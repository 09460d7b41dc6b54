"""The running average of weights, by hand."""

import pytest
import torch
from torch import nn

from arm.tokenizer.ema import ExponentialAverage


def set_to(module: nn.Linear, value: float) -> None:
    module.weight.data.fill_(value)


def test_the_average_follows_the_rule_by_hand() -> None:
    module = nn.Linear(1, 1, bias=False)
    set_to(module, 0.0)
    average = ExponentialAverage(module, decay=0.15)
    set_to(module, 1.0)
    average.update()  # d = min(.15, 1/10) = .1: .1 * 0 + .9 * 1
    set_to(module, 2.0)
    average.update()  # d = min(.15, 2/11) = .15: .15 * .9 + .85 * 2
    average.apply()
    assert module.weight.item() == pytest.approx(0.15 * 0.9 + 0.85 * 2)


def test_a_restored_average_goes_on_as_the_one_before() -> None:
    module = nn.Linear(2, 2)
    first = ExponentialAverage(module, 0.9)
    set_to(module, 3.0)
    first.update()
    second = ExponentialAverage(module, 0.9)
    second.load_state_dict(first.state_dict())
    set_to(module, -1.0)
    first.update()
    second.update()
    assert torch.equal(first.state_dict()["average"]["weight"], second.state_dict()["average"]["weight"])


def test_frozen_weights_are_left_out() -> None:
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    assert list(ExponentialAverage(module, 0.9).state_dict()["average"]) == ["weight"]


def test_the_statistics_of_batch_normalisation_are_averaged_too() -> None:
    module = nn.BatchNorm1d(1, affine=False)
    assert module.running_mean is not None
    average = ExponentialAverage(module, decay=0.15)
    module.running_mean.fill_(1.0)
    average.update()  # d = .1: .1 * 0 + .9 * 1
    module.running_mean.fill_(5.0)
    average.apply()
    assert module.running_mean.item() == pytest.approx(0.9)
