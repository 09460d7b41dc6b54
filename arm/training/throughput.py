"""Speed: tokens a second, model FLOP utilisation, waiting for data, step times, checkpoints, and which rank is slow.

FLOPs of a step of packed rows: 6·P·T + 6·L·d·Σ len² + 6·d·Σ targets·rows, with P the parameters of the layers, T the
tokens, and the head counted where it is applied: at targets, over the rows of their modality (forward and backward;
attention inside documents only; nothing for recomputed activations).
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

Record = dict[str, float]

PEAK_FLOPS = (
    ("B200", 2_250e12),
    ("H100 PCIe", 756.5e12),
    ("H100 NVL", 835.5e12),
    ("H200 NVL", 835.5e12),
    ("H100", 989.5e12),
    ("H200", 989.5e12),
    ("A100", 312e12),
)
"""bfloat16 FLOP/s without sparsity by part of the device's name, first match: NVIDIA's data sheets, which state twice as
much with sparsity (B200 4,500, H100 and H200 SXM 1,979, NVL 1,671, PCIe 1,513, A100 624 teraFLOPS)."""


def peak_flops(device_name: str, dtype: str) -> float | None:
    """What a device does at most; None where no data sheet says: on CPUs and in float32.

    'NVIDIA H100 80GB HBM3', bfloat16  ->  989.5e12
    """
    return next((peak for name, peak in PEAK_FLOPS if name in device_name and dtype == "bfloat16"), None)


def layer_parameters(model: Any) -> int:
    """Parameters that multiply every token: all but the input embedding and the head. ZeRO stage 3 knows what it cut."""
    sizes = {parameter: int(getattr(parameter, "ds_numel", parameter.numel())) for parameter in model.parameters()}
    return sum(sizes.values()) - sizes[model.model.embed_tokens.weight] - sizes[model.lm_head.weight]


class StepClock:
    """Times of the last steps. What lies between two steps (held-out losses, checkpoints) is no part of them."""

    def __init__(self, window: int = 200, clock: Callable[[], float] = time.perf_counter) -> None:
        self._now = clock
        self._steps: deque[float] = deque(maxlen=window)
        self._waits: deque[float] = deque(maxlen=window)
        self._tokens: deque[int] = deque(maxlen=window)
        self._flops: deque[float] = deque(maxlen=window)
        self._saves: list[float] = []
        self._own: list[float] = []
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._started = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Start a step and measure its wait for a batch."""
        self._started = self._now()
        yield
        self._waits.append(self._now() - self._started)
        self._own.append(self._waits[-1])

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Measure a forward pass: what this rank does without waiting for others. On a GPU by events, without a sync."""
        if torch.cuda.is_available():
            start, end = _event(), _event()
            start.record()
            yield
            end.record()
            self._spans.append((start, end))
        else:
            before = self._now()
            yield
            self._own[-1] += self._now() - before

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure a checkpoint."""
        before = self._now()
        yield
        self._saves.append(self._now() - before)

    def tick(self, *, tokens: int, flops: float) -> None:
        """End a step of so many tokens and FLOPs, over all ranks."""
        self._steps.append(self._now() - self._started)
        self._tokens.append(tokens)
        self._flops.append(flops)

    def metrics(self, peak: float | None = None) -> Record:
        """Means and quantiles over the last steps; checkpoints since the last call. `peak`: FLOP/s of all devices."""
        total = max(sum(self._steps), 1e-9)
        values = {
            "speed/tokens_per_second": sum(self._tokens) / total,
            "speed/flops_per_second": sum(self._flops) / total,
            "speed/data_wait_share": sum(self._waits) / total,
            "speed/step_seconds_p50": float(np.quantile(self._steps, 0.5)),
            "speed/step_seconds_p95": float(np.quantile(self._steps, 0.95)),
        }
        if peak:
            values["speed/mfu"] = values["speed/flops_per_second"] / peak
        if self._saves:
            values["speed/checkpoint_seconds"] = sum(self._saves) / len(self._saves)
            self._saves.clear()
        return values

    def own_seconds(self) -> float:
        """Seconds a step, since the last call, that this rank spent on its own: its data and its forward passes."""
        steps, seconds = max(len(self._own), 1), sum(self._own)
        if self._spans:
            torch.cuda.synchronize()
            seconds += sum(start.elapsed_time(end) for start, end in self._spans) / 1000
        self._own.clear()
        self._spans.clear()
        return seconds / steps


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def gathered(value: float) -> list[float]:
    """The value of each rank; every rank calls this."""
    mine = torch.tensor([value], dtype=torch.float64)
    values = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(values, mine)
    return [float(each) for each in values]


def straggler_metrics(own_seconds: Sequence[float]) -> Record:
    """Who holds up the others, from each rank's own seconds a step.

    1.0, 1.5, 1.1  ->  min 1.0, median 1.1, max 1.5, slowest_rank 1
    """
    return {
        "speed/rank_seconds_min": min(own_seconds),
        "speed/rank_seconds_median": float(np.median(own_seconds)),
        "speed/rank_seconds_max": max(own_seconds),
        "speed/slowest_rank": float(np.argmax(own_seconds)),
    }
