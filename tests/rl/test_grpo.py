"""The arithmetic of GRPO against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arm.rl.grpo import (
    Objective,
    clip_shares,
    group_advantages,
    importance_weights,
    k3,
    log_ratios,
    rollout_losses,
    sampler_gap,
)

MISSING = math.nan
TOKEN = Objective(clip=0.2, kl_coefficient=0.0, ratio="token")


def test_advantages_are_rewards_standardised_in_their_group() -> None:
    found = group_advantages(torch.tensor([[1.0, 0.0, 0.5, 0.5]]), std_floor=1e-3)
    # mean .5; variance (.25 + .25 + 0 + 0) / 4 = .125; std .353553
    assert found.values_PG[0].tolist() == pytest.approx([1.414214, -1.414214, 0, 0], abs=1e-5)
    assert found.useful_P.tolist() == [True]


def test_the_floor_keeps_a_nearly_flat_group_small() -> None:
    found = group_advantages(torch.tensor([[0.51, 0.49]]), std_floor=0.1)
    # std .01 is below the floor: ±.01 / .1
    assert found.values_PG[0].tolist() == pytest.approx([0.1, -0.1], abs=1e-5)


def test_a_missing_reward_is_masked_and_does_not_count_as_zero() -> None:
    found = group_advantages(torch.tensor([[1.0, 0.0, MISSING]]), std_floor=1e-3)
    assert found.values_PG[0].tolist() == pytest.approx([1.0, -1.0, 0.0])
    assert found.learn_PG[0].tolist() == [True, True, False]


def test_groups_without_variance_or_with_one_reward_teach_nothing() -> None:
    rewards = torch.tensor([[0.3, 0.3], [0.7, MISSING], [MISSING, MISSING], [0.0, 1.0]])
    found = group_advantages(rewards, std_floor=1e-3)
    assert found.useful_P.tolist() == [False, False, False, True]
    assert not found.values_PG.isnan().any()


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8))
def test_advantages_of_a_group_sum_to_zero_whatever_the_rewards(rewards: list[float]) -> None:
    found = group_advantages(torch.tensor([rewards], dtype=torch.float64), std_floor=0.05)
    assert found.values_PG.sum().item() == pytest.approx(0, abs=1e-5)


def test_k3_of_equal_policies_is_zero_and_of_a_doubled_probability_is_known() -> None:
    policy = torch.log(torch.tensor([[0.5, 0.5, 0.25]]))
    reference = torch.log(torch.tensor([[0.5, 0.25, 0.5]]))
    # d = 0; d = ln .5: .5 + .693147 − 1; d = ln 2: 2 − .693147 − 1
    assert k3(policy, reference)[0].tolist() == pytest.approx([0, 0.193147, 0.306853], abs=1e-6)


def test_the_mean_of_k3_over_samples_of_the_policy_is_the_kl_divergence() -> None:
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.4, 0.4, 0.2])
    exact = (policy * (policy / reference).log()).sum()
    expected = (policy * k3(policy.log(), reference.log())).sum()
    assert expected.item() == pytest.approx(exact.item(), abs=1e-6)


def test_the_loss_clips_ratios_on_the_side_that_gains() -> None:
    ratios = torch.tensor([[1.5, 1.1], [0.5, 0.9]])
    losses = rollout_losses(
        ratios.log(), torch.zeros(2, 2), ratios.log(), torch.tensor([1.0, -1.0]), torch.ones(2, 2), TOKEN
    )
    # A = 1: min(1.5, 1.2) and 1.1 -> −(1.2 + 1.1)/2; A = −1: min(−.5, −.8) and −.9 -> (.8 + .9)/2
    assert losses.tolist() == pytest.approx([-1.15, 0.85], abs=1e-6)


def test_the_loss_keeps_the_gradient_of_ratios_that_went_the_wrong_way() -> None:
    logp = torch.tensor([[math.log(0.5)]], requires_grad=True)
    loss = rollout_losses(logp, torch.zeros(1, 1), logp.detach(), torch.tensor([1.0]), torch.ones(1, 1), TOKEN)
    loss.sum().backward()
    assert logp.grad is not None
    assert logp.grad.item() == pytest.approx(-0.5)


def test_the_first_gradient_is_that_of_plain_policy_gradient() -> None:
    logp = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    loss = rollout_losses(logp, logp.detach(), logp.detach(), torch.tensor([2.0]), torch.ones(1, 2), TOKEN)
    loss.sum().backward()
    assert logp.grad is not None
    assert logp.grad[0].tolist() == [-1.0, -1.0]


def test_kl_is_added_with_its_coefficient() -> None:
    objective = Objective(clip=0.2, kl_coefficient=0.5, ratio="token")
    logp, reference = torch.log(torch.tensor([[0.5]])), torch.log(torch.tensor([[0.25]]))
    loss = rollout_losses(logp, logp, reference, torch.tensor([0.0]), torch.ones(1, 1), objective)
    assert loss.item() == pytest.approx(0.5 * 0.193147, abs=1e-6)


def test_the_sequence_ratio_is_the_geometric_mean() -> None:
    found = log_ratios(torch.log(torch.tensor([[4.0, 1.0]])), torch.zeros(1, 2), "sequence").exp()
    assert found[0].tolist() == pytest.approx([2.0, 2.0])


def test_the_gap_adds_back_the_mass_that_truncation_removed() -> None:
    # learner's probability .2; the sampler kept .8 of the mass, so its truncated probability was .25
    gap = sampler_gap(
        torch.log(torch.tensor([[0.25]])), torch.log(torch.tensor([[0.8]])), torch.log(torch.tensor([[0.2]]))
    )
    assert gap.item() == pytest.approx(0, abs=1e-6)


def test_importance_weights_are_truncated_at_the_cap_and_one_when_off() -> None:
    gap = torch.log(torch.tensor([[0.25, 2.0]]))
    assert importance_weights(gap, cap=2.0)[0].tolist() == pytest.approx([2.0, 0.5])
    assert importance_weights(gap, cap=0.0)[0].tolist() == [1.0, 1.0]


def test_clip_shares_count_only_codes_that_lose_their_gradient() -> None:
    ratios = torch.tensor([[0.5, 1.5], [0.5, 1.5]])
    low, high = clip_shares(ratios.log(), torch.tensor([1.0, -1.0]), 0.2)
    assert low.tolist() == [[False, False], [True, False]]
    assert high.tolist() == [[False, True], [False, False]]
