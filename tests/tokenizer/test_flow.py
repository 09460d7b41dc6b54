"""Rectified flow: the path, both predictions, both samplings of time, and Euler."""

import dataclasses

import pytest
import torch

from arm.errors import UserError
from arm.tokenizer import flow
from arm.tokenizer.blocks import patchify, unpatchify
from arm.tokenizer.config import FlowConfig
from arm.tokenizer.dit import ConditionedDiT

SMALL = FlowConfig(width=16, num_blocks=1, num_heads=2, patch=2)
X = dataclasses.replace(SMALL, prediction="x")


def test_the_path_leads_from_noise_to_data() -> None:
    data, noise = torch.full((1, 1), 10.0), torch.full((1, 1), 2.0)
    assert flow.interpolate(data, noise, torch.tensor([0.25])).item() == pytest.approx(4.0)


@pytest.mark.parametrize("config", [SMALL, X])
def test_a_perfect_prediction_has_no_loss(config: FlowConfig) -> None:
    data = torch.randn(8, 3)

    def perfect(mixed: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        noise = (mixed - times[:, None] * data) / (1 - times[:, None])
        return data if config.prediction == "x" else data - noise

    loss = flow.flow_loss(perfect, data, config, torch.Generator().manual_seed(0))
    assert loss.item() < 1e-6


def test_velocity_from_a_predicted_x_by_hand() -> None:
    # x_t = 1 at t = 0.5, predicted x_1 = 3: velocity (3 - 1) / 0.5 = 4
    assert flow.as_velocity(torch.tensor([[3.0]]), torch.tensor([[1.0]]), torch.tensor([0.5]), X).item() == 4.0


@pytest.mark.parametrize("config", [SMALL, X])
def test_euler_with_a_perfect_network_arrives(config: FlowConfig) -> None:
    data, noise = torch.randn(4, 3), torch.randn(4, 3)

    def perfect(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return data if config.prediction == "x" else data - noise

    assert torch.allclose(flow.integrate(perfect, noise, 4, config), data, atol=1e-5)


def test_logit_normal_times_lean_to_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = flow.sample_times(4000, SMALL, generator)
    skewed = flow.sample_times(4000, dataclasses.replace(SMALL, time_sampling="logit_normal"), generator)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.02)
    assert skewed.mean().item() == pytest.approx(0.33, abs=0.03)


def test_patches_come_back_in_place() -> None:
    images = torch.randn(2, 3, 4, 6)
    assert torch.equal(unpatchify(patchify(images, 2), (2, 3), 2), images)


def test_a_code_conditions_its_own_area() -> None:
    torch.manual_seed(0)
    dit = ConditionedDiT(dataclasses.replace(X, skip=True), channels=3, area=4, width_condition=8)
    x, times, features = torch.randn(1, 3, 8, 8), torch.zeros(1), torch.randn(1, 4, 8)
    changed = features.clone()
    changed[0, 3] += 1
    difference = (dit(x, times, changed) - dit(x, times, features)).abs().sum((0, 1))
    # at the start only the skip path speaks: the fourth code covers the lower right quarter
    assert difference[4:, 4:].min() > 0
    assert difference[:4].max() == 0


def test_a_patch_that_does_not_divide_the_codes_area_is_refused() -> None:
    with pytest.raises(UserError, match="must divide the 9"):
        ConditionedDiT(SMALL, channels=3, area=9, width_condition=8)


def test_skip_needs_x_prediction() -> None:
    with pytest.raises(UserError, match="prediction"):
        FlowConfig(skip=True)
