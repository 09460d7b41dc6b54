"""Speed: tokens a second, model FLOP utilisation, waiting for data, and step times.

FLOPs of a step of packed rows: 6·P·T + 6·L·d·Σ len², with P the parameters outside of the embedding and T the tokens
(forward and backward; attention inside documents only).
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from arm.training.flops import step_flops as step_flops


def trained_parameters(model: Any) -> int:
    """Parameters that multiply every token: all but the input embedding. ZeRO stage 3 knows the size of what it cut."""
    sizes = {parameter: int(getattr(parameter, "ds_numel", parameter.numel())) for parameter in model.parameters()}
    return sum(sizes.values()) - sizes[model.model.embed_tokens.weight]


class StepClock:
    """Times of the last steps."""

    def __init__(self, window: int = 200) -> None:
        self._steps: deque[float] = deque(maxlen=window)
        self._waits: deque[float] = deque(maxlen=window)
        self._tokens: deque[int] = deque(maxlen=window)
        self._flops: deque[float] = deque(maxlen=window)
        self._started = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the wait for a batch."""
        before = time.perf_counter()
        yield
        self._waits.append(time.perf_counter() - before)

    def tick(self, *, tokens: int, flops: float) -> None:
        """End a step."""
        now = time.perf_counter()
        self._steps.append(now - self._started)
        self._started = now
        self._tokens.append(tokens)
        self._flops.append(flops)

    def metrics(self, peak_flops: float | None = None) -> dict[str, float]:
        """Means and quantiles over the window."""
        total = max(sum(self._steps), 1e-9)
        values = {
            "speed/tokens_per_second": sum(self._tokens) / total,
            "speed/flops_per_second": sum(self._flops) / total,
            "speed/data_wait_share": sum(self._waits) / total,
            "speed/step_seconds_p50": float(np.quantile(self._steps, 0.5)),
            "speed/step_seconds_p95": float(np.quantile(self._steps, 0.95)),
        }
        if peak_flops:
            values["speed/mfu"] = values["speed/flops_per_second"] / peak_flops
        return values
