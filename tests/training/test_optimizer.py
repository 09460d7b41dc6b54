"""Muon on flat partitions: one rank or two, the same update."""

import pytest
import torch
from torch import nn

from arm.toy.muon import Muon as PlainMuon
from arm.training import optimizer
from arm.training.optimizer import Muon, orthogonalise, parameter_groups


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.4


def test_only_matrices_of_layers_go_to_muon() -> None:
    module = nn.ModuleDict({"embed_tokens": nn.Embedding(4, 3), "layer": nn.Linear(3, 2), "lm_head": nn.Linear(3, 4)})
    groups = parameter_groups(module, muon=True, muon_factor=10.0, rows_factor=2.0)
    assert [(group["factor"], len(group["params"])) for group in groups] == [(10.0, 1), (2.0, 3), (1.0, 1)]
    assert groups[0]["shapes"] == [(2, 3)]


def test_a_partition_that_cuts_a_matrix_gets_its_part_of_the_whole_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of 12 and 8 numbers cut at 10: both halves together are the update of one rank."""
    gradient = torch.randn(20, generator=torch.Generator().manual_seed(0))
    shapes = [(3, 4), (4, 2)]

    def updated(start: int, end: int) -> torch.Tensor:
        flat = nn.Parameter(torch.zeros(end - start))
        flat.grad = gradient[start:end].clone()
        # The look-ahead momentum of a first step, as every rank would send it.
        whole = (
            gradient * (1 - optimizer.MOMENTUM) * optimizer.MOMENTUM + gradient * (1 - optimizer.MOMENTUM)
        ).bfloat16()
        monkeypatch.setattr(optimizer, "_gathered", lambda partition: (whole, start))
        group = {"params": [flat], "shapes": shapes, "lr": 0.1}
        Muon([group], betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.0).step()
        return flat.detach()

    torch.testing.assert_close(torch.cat([updated(0, 10), updated(10, 20)]), updated(0, 20))


def test_frozen_weights_are_in_no_group_and_kernels_are_matrices() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 5), nn.Linear(4, 1), nn.Linear(4, 4))
    module[2].requires_grad_(False)
    groups = parameter_groups(module, muon=True, muon_factor=1.0, rows_factor=1.0)
    assert [group["shapes"] for group in groups] == [[(3, 50)], None]
    assert len(groups[1]["params"]) == 3  # a matrix of one row has no directions to make orthogonal


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8)])
def test_updates_at_the_scale_of_adamw_have_its_root_mean_square(shape: tuple[int, int]) -> None:
    flat = nn.Parameter(torch.zeros(shape[0] * shape[1]))
    flat.grad = torch.randn(flat.numel(), generator=torch.Generator().manual_seed(0))
    group = {"params": [flat], "shapes": [shape], "lr": 0.1}
    Muon([group], betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.0, scaling="adamw").step()
    # min(shape) singular values of about 1 have the root mean square 1 / sqrt(max side); times 0.2 sqrt(max side) * 0.1
    assert flat.square().mean().sqrt().item() == pytest.approx(0.02, rel=0.2)


def test_it_updates_as_the_optimizer_of_plain_parameters_does() -> None:
    """Up to the bfloat16 in which partitions are gathered."""
    start = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    flat, plain = nn.Parameter(start.flatten().clone()), nn.Parameter(start.clone())
    shared = Muon(
        [{"params": [flat], "shapes": [(6, 10)], "lr": 0.1}], betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.1,
        scaling="adamw",
    )  # fmt: skip
    apart = PlainMuon([plain], learning_rate=0.1, weight_decay=0.1)
    for seed in (1, 2, 3):
        plain.grad = torch.randn(6, 10, generator=torch.Generator().manual_seed(seed))
        flat.grad = plain.grad.flatten()
        shared.step()
        apart.step()
    torch.testing.assert_close(flat.detach().view(6, 10), plain.detach(), atol=5e-3, rtol=0)


def test_groups_without_shapes_are_stepped_as_adamw_does() -> None:
    start, gradients = torch.randn(7), [torch.randn(7) for _ in range(3)]
    ours, torchs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    a = Muon([{"params": [ours], "shapes": None, "lr": 0.01}], betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.1)
    b = torch.optim.AdamW([torchs], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for gradient in gradients:
        ours.grad, torchs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, torchs)
