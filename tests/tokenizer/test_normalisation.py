"""Batch normalisation over ranks: two gloo processes equal one with all the rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from arm.tokenizer.fsq import FSQ
from arm.tokenizer.normalisation import BatchNorm

ROWS = (5, 3)
"""Rows of each rank: not the same number."""
STEPS = 2


def rows() -> torch.Tensor:
    return torch.randn(STEPS, sum(ROWS), 4, generator=torch.Generator().manual_seed(0)) * 3 + 1


def weighted(values: torch.Tensor, start: int) -> torch.Tensor:
    """A loss that treats every row and dimension differently."""
    factors = torch.arange(values.shape[0] * 4).view(-1, 4) + 4 * start
    return (values * factors.sin()).sum() + values.square().mul(factors.cos()).sum()


def run(module: Any, inputs: torch.Tensor, start: int) -> dict[str, Any]:
    """Two steps in training: the last step's outputs and gradient, and the statistics that remain."""
    module.train()
    for step in range(STEPS):
        x = inputs[step].clone().requires_grad_()
        values = module(x)
        weighted(values, start).backward()
    return {"values": values.detach(), "gradient": x.grad, "state": module.state_dict()}


def on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(ROWS))
    start, end = sum(ROWS[:rank]), sum(ROWS[: rank + 1])
    torch.save(run(BatchNorm(4), rows()[:, start:end], start), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(on_rank, (str(folder),), nprocs=len(ROWS))  # type: ignore[no-untyped-call]
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(len(ROWS))]


def test_two_ranks_give_the_values_gradients_and_statistics_of_one_process(two_ranks: list[dict[str, Any]]) -> None:
    alone = run(torch.nn.BatchNorm1d(4, affine=False), rows(), 0)
    for name in ("values", "gradient"):
        assert torch.allclose(torch.cat([found[name] for found in two_ranks]), alone[name], atol=1e-5), name
    for name, value in alone["state"].items():
        for found in two_ranks:
            assert torch.allclose(found["state"][name], value, rtol=1e-5), name


def test_one_process_is_torchs_own_batch_normalisation_with_the_same_state() -> None:
    own, torchs = run(BatchNorm(4), rows(), 0), run(torch.nn.BatchNorm1d(4, affine=False), rows(), 0)
    assert torch.equal(own["values"], torchs["values"])
    assert own["state"].keys() == torchs["state"].keys()
    assert all(torch.equal(value, torchs["state"][name]) for name, value in own["state"].items())


def test_in_evaluation_a_row_does_not_depend_on_the_others() -> None:
    quantizer = FSQ((2, 2, 3, 8), norm="batch")
    quantizer(rows()[0])
    quantizer.eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    assert torch.equal(quantizer.encode(rows()[1])[:1], quantizer.encode(rows()[1][:1]))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
