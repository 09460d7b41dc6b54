"""The training loop: weights in bfloat16 learn by their float32 masters, and what is frozen keeps its own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from arm.tokenizer.config import OptimizerConfig
from arm.tokenizer.loop import Loop, Weights
from arm.training.checkpoint import Checkpoints

RATE = 0.001


class Pair(nn.Module):
    """A weight of 1 that learns beside a frozen part whose weight bfloat16 cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = nn.Linear(1, 1, bias=False)
        self.frozen = nn.Linear(1, 1, bias=False).requires_grad_(False)
        self.learned.weight.data.fill_(1.0)
        self.frozen.weight.data.fill_(1.001)


def trained(folder: Path, steps: int, *, weights: Weights, ema_decay: float = 0.0) -> Pair:
    """The weight after steps of Adam on a gradient of 1: each lowers it by the rate, 0.001."""
    module = Pair()
    loop = Loop(
        "test", module, OptimizerConfig(learning_rate=RATE, warmup_steps=0), num_steps=steps, parts={},
        checkpoints=Checkpoints(folder), save_every=4, log_every=steps, ema_decay=ema_decay, weights=weights,
    )  # fmt: skip

    def compute(_: int) -> tuple[Tensor, dict[str, Tensor]]:
        return module.learned.weight.sum(), {}

    loop.run(lambda step: [step], compute)
    loop.finish()
    return module


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-5), ("bfloat16", 2**-9)])
def test_steps_smaller_than_the_weights_dtype_resolves_are_not_lost(
    weights: Weights, tolerance: float, tmp_path: Path
) -> None:
    """Below 1 bfloat16 has steps of 2^-8 = 0.0039: 1 - 0.001 rounds back to 1, eight times over; the master is at 0.992."""
    module = trained(tmp_path, 8, weights=weights)
    assert module.learned.weight.dtype == getattr(torch, weights)
    assert module.learned.weight.item() == pytest.approx(1 - 8 * RATE, abs=tolerance)


def test_frozen_parts_keep_float32_beside_bfloat16_weights(tmp_path: Path) -> None:
    module = trained(tmp_path, 1, weights="bfloat16")
    assert module.frozen.weight.dtype == torch.float32
    assert module.frozen.weight.item() == pytest.approx(1.001, abs=1e-7)  # in bfloat16 it would be 1


def test_the_average_of_bfloat16_weights_is_kept_in_float32(tmp_path: Path) -> None:
    module = trained(tmp_path, 40, weights="bfloat16", ema_decay=0.9)
    # after 40 steps at .96; the average of the last ten or so lies above it, and is rounded once
    assert 0.96 < module.learned.weight.item() < 0.98
