"""The losses by hand-worked numbers."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from arm.tokenizer.config import FlowConfig
from arm.tokenizer.flow import flow_loss
from arm.tokenizer.training.objectives import (
    CaptionObjective,
    Weighting,
    caption_loss,
    commitment_loss,
    feature_loss,
    real_tokens,
    sigmoid_loss,
    sigmoid_share,
)


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
    steady = {"pixel": 0.01, "sigmoid": 40.0}
    assert weighting.needs_measure
    weighting.update(steady)
    assert not weighting.needs_measure
    for _ in range(3):
        total = weighting({name: torch.tensor(value) for name, value in steady.items()})
        assert total.item() == pytest.approx(7.0, rel=1e-4)
        weighting.update(steady)
    halved = weighting({"pixel": torch.tensor(0.01), "sigmoid": torch.tensor(20.0)})
    assert halved.item() == pytest.approx(6.0, rel=1e-4)


def test_the_running_mean_is_corrected_for_its_start() -> None:
    weighting = Weighting({"pixel": 1.0}, "running", momentum=0.5)
    weighting.update({"pixel": 2.0})
    weighting.update({"pixel": 5.0})
    # 0.5 * (0.5 * 2) + 0.5 * 5 = 3, divided by 1 - 0.25: 4
    assert weighting({"pixel": torch.tensor(8.0)}).item() == pytest.approx(2.0)


@pytest.mark.parametrize("overflow", [math.nan, math.inf])
def test_a_step_that_overflowed_leaves_the_running_means_as_they_were(overflow: float) -> None:
    weighting = Weighting({"pixel": 1.0, "sigmoid": 1.0}, "running")
    weighting.update({"pixel": overflow, "sigmoid": 1.0})
    assert weighting.needs_measure
    assert weighting({"pixel": torch.tensor(3.0)}).item() == 3.0
    weighting.update({"pixel": 2.0, "sigmoid": 4.0})
    weighting.update({"pixel": overflow, "sigmoid": 1.0})
    assert weighting({"pixel": torch.tensor(2.0), "sigmoid": torch.tensor(4.0)}).item() == pytest.approx(2.0)


def test_shares_of_micro_batches_add_up_under_normalisation() -> None:
    weighting = Weighting({"pixel": 3.0}, "running")
    weighting.update({"pixel": 0.5})
    parts = [weighting({"pixel": torch.tensor(value)}) for value in (0.1, 0.4)]
    assert sum(parts).item() == pytest.approx(3.0)  # type: ignore[union-attr]


@pytest.mark.parametrize("chunk", [1, 2, 3, 4096])
def test_shares_of_rows_over_chunks_of_texts_add_up_to_the_whole_loss(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(6, 4, generator=generator) for _ in range(2))
    images.requires_grad_()
    numbers = torch.tensor([0, 1, 0, 3, 4, 5])
    scale, bias = torch.tensor([1.0], requires_grad=True), torch.tensor([-1.0], requires_grad=True)
    whole = sigmoid_loss(images, texts, numbers[:, None] == numbers, scale, bias)
    parts = [
        sigmoid_share(images[rows], texts, numbers[rows], numbers, scale, bias, chunk)
        for rows in (slice(0, 2), slice(2, 6))
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)  # type: ignore[union-attr]
    wanted = torch.autograd.grad(whole, (images, scale, bias))
    for found, gradient in zip(torch.autograd.grad(sum(parts), (images, scale, bias)), wanted, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(found, gradient)


def test_rectified_flow_by_hand() -> None:
    """x_1 = 2, x_0 = n, x_t = t 2 + (1 - t) n; a network that answers x_t misses the velocity 2 - n by x_t - 2 + n."""
    data = torch.full((3, 1), 2.0)
    drawn = torch.Generator().manual_seed(5)
    t, n = torch.rand(3, generator=drawn), torch.randn(3, 1, generator=drawn)
    errors = [
        (time * 2 + (1 - time) * noise) - (2 - noise) for time, noise in zip(t.tolist(), n[:, 0].tolist(), strict=True)
    ]
    config = FlowConfig(width=16, num_blocks=1, num_heads=2, patch=4)
    loss = flow_loss(lambda x, _: x, data, config, torch.Generator().manual_seed(5))
    assert loss.item() == pytest.approx(sum(error**2 for error in errors) / 3, rel=1e-5)


def test_caption_loss_sums_over_tokens_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    # token 1 has probability 3/4, token 0 of the second has 1/2
    assert caption_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(math.log(4 / 3) + math.log(2))


def test_padding_is_no_caption_token() -> None:
    assert real_tokens(torch.zeros(2, 3), torch.tensor([1, 3])).tolist() == [[True, False, False], [True, True, True]]


class Echo(nn.Module):
    """A language model of three words whose hidden state is its input and whose head is the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(torch.eye(3))
        self.lm_head = nn.Linear(3, 3, bias=False)
        self.lm_head.weight.data = torch.eye(3)
        self.config = SimpleNamespace(hidden_size=3)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def model(self, inputs_embeds: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=inputs_embeds)


def test_the_last_soft_token_predicts_the_first_word_and_each_word_the_next() -> None:
    objective = CaptionObjective(Echo(), 3)
    objective.adapter = nn.Identity()  # type: ignore[assignment]
    soft = torch.tensor([[[5.0, 5.0, 5.0], [0.0, 0.0, math.log(2.0)]]])
    loss = objective(soft, torch.tensor([[2, 0, 1]]), torch.tensor([2]))
    # soft token 2 gives word 2 probability 2/4; word 2 (one-hot) gives word 0 probability 1/(2+e); word 1 is padding
    assert loss.item() == pytest.approx(math.log(2) + math.log(2 + math.e), rel=1e-5)


def test_only_the_adapter_of_the_caption_objective_learns() -> None:
    objective = CaptionObjective(Echo(), 4).train()
    assert {name.split(".")[0] for name, p in objective.named_parameters() if p.requires_grad} == {"adapter"}
    assert not objective.language_model.training
