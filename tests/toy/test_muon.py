"""Muon: orthogonal updates for matrices, AdamW for the rest."""

import pytest
import torch
from torch import nn

from arm.toy.muon import Muon
from arm.training.optimizer import orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4)])
def test_singular_values_come_close_to_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 7
    values = torch.linalg.svdvals(orthogonalise(matrix[None])[0])
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_the_first_step_of_a_vector_is_adamws() -> None:
    ours, theirs = nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([1.0, -2.0]))
    for parameter, optimizer in (
        (ours, Muon([ours], learning_rate=0.1, weight_decay=0.01)),
        (theirs, torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.95), weight_decay=0.01)),
    ):
        for gradient in ([0.5, -3.0], [0.1, 2.0]):
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_matrix_moves_by_the_learning_rate() -> None:
    weight = nn.Parameter(torch.zeros(16, 16))
    weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    Muon([weight], learning_rate=0.1).step()
    # an orthogonal 16x16 matrix has root mean square 1/4; times 0.2 sqrt(16) = 0.8 and the rate 0.1: 0.02
    assert weight.square().mean().sqrt().item() == pytest.approx(0.02, rel=0.2)


def test_it_minimises_a_convolution_too() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3)
    optimizer, images, target = (
        Muon(layer.parameters(), learning_rate=0.05),
        torch.randn(4, 2, 5, 5),
        torch.randn(4, 3, 3, 3),
    )
    losses = []
    for _ in range(30):
        loss = (layer(images) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
