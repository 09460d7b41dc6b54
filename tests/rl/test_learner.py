"""The learner keeps the logits contract: the same numbers as a plain forward pass, and a first ratio of exactly 1."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_policy import VOCABULARY, Letters, build_rig, tiny_config, tiny_model, tiny_policy  # type: ignore[import-not-found]

from arm.model.generation import Generator, Sampling
from arm.rl.learner import GapTooWide
from arm.rl.policy import micro_batches
from arm.rl.prompts import noise_seed
from arm.rl.rewards import Reward
from arm.rl.rollout import Rollout

GRID = (2, 2)
SOURCE = np.array([[1, 2], [3, 4]])


def rollouts_of(generator: Generator, prompts: list[Any], sampling: Sampling) -> list[Rollout]:
    made = generator.generate_images(prompts, GRID, sampling, [noise_seed(i) for i in range(len(prompts))])
    return [
        Rollout(
            place=i, sample=0, task="text_to_image", prompt=prompt, codes=made.codes_BHW[i].numpy(),
            sampled=made.logp_BN[i].numpy(), log_kept=made.log_kept_BN[i].numpy(), reward=Reward(value=0.5),
        )
        for i, prompt in enumerate(prompts)
    ]  # fmt: skip


@pytest.fixture
def generator() -> Generator:
    return Generator(tiny_model(), VOCABULARY, Letters())


PROMPTS: list[Any] = [("ab",), ("a longer one",), (SOURCE, "edit it")]


@pytest.mark.parametrize("chunk", [1, 5, 1024])
def test_log_probs_are_those_of_a_plain_forward_pass(generator: Generator, chunk: int) -> None:
    rollouts = rollouts_of(generator, PROMPTS, Sampling(temperature=0.7))
    (batch,) = micro_batches(rollouts, [0.0] * 3, generator.prompt_ids, VOCABULARY.first_code, 8)
    found, entropy = tiny_policy(generator.model, temperature=0.7, chunk=chunk)(batch)
    plain = tiny_model().eval()
    for row, rollout in enumerate(rollouts):
        ids = generator.prompt_ids(rollout.prompt, GRID) + (rollout.codes.reshape(-1) + VOCABULARY.first_code).tolist()
        logits = plain(torch.tensor([ids])).logits.detach()[0, -5:-1, VOCABULARY.code_rows] / 0.7
        expected = logits.log_softmax(-1)
        assert found[row].tolist() == pytest.approx(
            [float(expected[n, code]) for n, code in enumerate(rollout.codes.reshape(-1))], abs=1e-5
        )
        assert entropy[row].tolist() == pytest.approx((-(expected.exp() * expected).sum(-1)).tolist(), abs=1e-5)


def test_chunked_logits_give_the_same_gradient(generator: Generator) -> None:
    rollouts = rollouts_of(generator, PROMPTS, Sampling(temperature=1.0))
    (batch,) = micro_batches(rollouts, [0.0] * 3, generator.prompt_ids, VOCABULARY.first_code, 8)
    gradients = []
    for chunk in (5, 1024):
        generator.model.zero_grad()
        tiny_policy(generator.model, chunk=chunk)(batch)[0].sum().backward()
        gradients.append(generator.model.model.embed_tokens.weight.grad.clone())
    assert torch.allclose(*gradients, atol=1e-5)


def test_truncated_sampling_leaves_no_gap(generator: Generator) -> None:
    rollouts = rollouts_of(generator, PROMPTS, Sampling(temperature=0.7, top_k=3, top_p=0.8))
    assert min(rollout.log_kept.min() for rollout in rollouts) < -0.05
    (batch,) = micro_batches(rollouts, [0.0] * 3, generator.prompt_ids, VOCABULARY.first_code, 8)
    learner, _ = tiny_policy(generator.model, temperature=0.7)(batch)
    assert torch.allclose(batch.sampled_BN + batch.log_kept_BN, learner, atol=1e-4)


def test_the_first_ratio_is_exactly_one_and_later_ones_are_not() -> None:
    def one_step(updates: int) -> dict[str, float]:
        rig = build_rig(lambda item: Reward(value=0.0), tiny_config(updates_per_step=updates))
        rollouts = rollouts_of(Generator(rig.model, VOCABULARY, Letters()), PROMPTS, Sampling())
        return rig.learner.update(rollouts, [1.0, -1.0, 0.5])

    first, second = one_step(1), one_step(2)
    assert (first["ratio/p01"], first["ratio/p50"], first["ratio/p99"]) == (1.0, 1.0, 1.0)
    assert (first["clip/low"], first["clip/high"], first["kl"]) == (0.0, 0.0, 0.0)
    assert second["ratio/p99"] > 1.0
    assert second["kl"] > 0.0


def test_micro_batches_of_any_size_give_the_same_update() -> None:
    weights = []
    for size in (1, 2, 8):
        rig = build_rig(lambda item: Reward(value=0.0), tiny_config(learn_batch=size))
        rollouts = rollouts_of(Generator(tiny_model(), VOCABULARY, Letters()), PROMPTS, Sampling())
        rig.learner.update(rollouts, [1.0, -1.0, 0.5])
        weights.append(rig.model.lm_head.weight.detach().clone())
    assert torch.allclose(weights[0], weights[1], atol=2e-4)
    assert torch.allclose(weights[0], weights[2], atol=2e-4)
    assert not torch.equal(weights[0], tiny_model().lm_head.weight)


def test_text_is_never_a_target(generator: Generator) -> None:
    rollouts = rollouts_of(generator, PROMPTS, Sampling())
    (batch,) = micro_batches(rollouts, [0.0] * 3, generator.prompt_ids, VOCABULARY.first_code, 8)
    tiny_policy(generator.model)(batch)[0].sum().backward()
    gradient = generator.model.lm_head.weight.grad
    assert gradient[: VOCABULARY.first_code].abs().max() == 0
    assert gradient[VOCABULARY.code_rows].abs().max() > 0


def test_a_sampler_at_another_temperature_stops_the_run_before_the_update() -> None:
    rig = build_rig(lambda item: Reward(value=0.0), tiny_config(max_gap=0.05))
    before = rig.model.lm_head.weight.detach().clone()
    rollouts = rollouts_of(Generator(rig.model, VOCABULARY, Letters()), PROMPTS, Sampling(temperature=0.3))
    with pytest.raises(GapTooWide, match="nats a code"):
        rig.learner.update(rollouts, [1.0, -1.0, 0.5])
    assert torch.equal(rig.model.lm_head.weight, before)


def test_a_model_whose_probabilities_are_no_numbers_stops_the_run_before_the_update() -> None:
    rig = build_rig(lambda item: Reward(value=0.0), tiny_config())
    rollouts = rollouts_of(Generator(rig.model, VOCABULARY, Letters()), PROMPTS, Sampling())
    rig.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(GapTooWide, match="differ by nan nats a code"):
        rig.learner.update(rollouts, [1.0, -1.0, 0.5])
    assert rig.engine.skipped_steps == 0


def test_the_importance_weight_changes_the_update_only_where_there_is_a_gap() -> None:
    def weight_after(cap: float, temperature: float) -> torch.Tensor:
        rig = build_rig(lambda item: Reward(value=0.0), tiny_config(importance_cap=cap, max_gap=9.0))
        rollouts = rollouts_of(
            Generator(tiny_model(), VOCABULARY, Letters()), PROMPTS, Sampling(temperature=temperature)
        )
        rig.learner.update(rollouts, [1.0, -1.0, 0.5])
        return rig.model.lm_head.weight.detach().clone()

    assert torch.allclose(weight_after(0.0, 1.0), weight_after(2.0, 1.0), atol=1e-4)
    assert not torch.allclose(weight_after(0.0, 0.4), weight_after(2.0, 0.4), atol=1e-4)
