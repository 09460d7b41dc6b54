"""Speed by hand, with a clock of its own."""

import itertools

import pytest
import torch
from tiny_lmm import tiny_lmm

from arm.training.flops import step_flops
from arm.training.throughput import StepClock, layer_parameters, peak_flops, straggler_metrics


def test_flops_count_documents_not_rows_and_the_head_where_it_is_applied() -> None:
    """6·10·4 + 6·1·2·(9 + 1) = 360, and 2 targets over 5 rows of width 2 add 6·2·10."""
    layers = {"num_parameters": 10, "num_layers": 1, "width": 2, "lengths": (3, 1)}
    assert step_flops(**layers) == 360  # type: ignore[arg-type]
    assert step_flops(**layers, head_logits=2 * 5) == 480  # type: ignore[arg-type]


def test_parameters_of_the_layers_leave_out_embedding_and_head() -> None:
    """Two layers of width 32, MLP 48, 4 heads of 8 with 2 of keys; a last norm of 32."""
    attention = 32 * 32 + 32 + 2 * (32 * 16 + 16) + 32 * 32
    layer = attention + 3 * 32 * 48 + 2 * 32
    assert layer_parameters(tiny_lmm()[0]) == 2 * layer + 32


@pytest.mark.parametrize(
    ("name", "dtype", "peak"),
    [
        ("NVIDIA B200", "bfloat16", 2_250e12), ("NVIDIA H100 80GB HBM3", "bfloat16", 989.5e12), ("NVIDIA H100 PCIe", "bfloat16", 756.5e12),
        ("NVIDIA H100 NVL", "bfloat16", 835.5e12), ("NVIDIA H200", "bfloat16", 989.5e12),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312e12), ("NVIDIA A100-SXM4-80GB", "float32", None), ("CPU", "bfloat16", None),
    ],
)  # fmt: skip
def test_the_peak_of_a_device_is_its_data_sheets(name: str, dtype: str, peak: float | None) -> None:
    assert peak_flops(name, dtype) == peak


def test_a_step_is_its_wait_and_its_work_and_nothing_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock takes a second: a step is wait 1, forward 1, and 4 in all; a save between them 1."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    clock = StepClock(clock=map(float, itertools.count()).__next__)
    for _ in range(2):
        with clock.waiting():
            pass
        with clock.computing():
            pass
        clock.tick(tokens=10, flops=100.0)
        with clock.saving():
            pass
    assert clock.metrics(peak=80.0) == {
        "speed/tokens_per_second": 20 / 8, "speed/flops_per_second": 25.0, "speed/data_wait_share": 0.25,
        "speed/step_seconds_p50": 4.0, "speed/step_seconds_p95": 4.0, "speed/mfu": 25 / 80, "speed/checkpoint_seconds": 1.0,
    }  # fmt: skip
    assert clock.own_seconds() == 2.0
    assert clock.own_seconds() == 0.0
    assert "speed/checkpoint_seconds" not in clock.metrics()  # none since


def test_the_slowest_rank_is_named() -> None:
    assert straggler_metrics([1.0, 1.5, 1.1]) == {
        "speed/rank_seconds_min": 1.0, "speed/rank_seconds_median": 1.1, "speed/rank_seconds_max": 1.5, "speed/slowest_rank": 1.0,
    }  # fmt: skip
