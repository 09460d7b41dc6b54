"""What an image costs: seconds and tokens of autoregressive decoding and of detokenization apart, memory, images a second.

    {"runs": [{"batch_size": 8, "num_calls": 10, "tokens_per_image": 1024, "images_per_second": 0.9,
               "phases": {"decode": {"seconds_per_image": 0.8, "call_p50": 6.4, "call_p95": 6.6, "tokens_per_second": 1280},
                          "detokenize": {…}, "all": {…}},
               "peak_memory_bytes": …}],
     "memory": "gpu", "machine": {…}, "model": {…}}

A call draws one batch; `call_p50` and `call_p95` are how long a user waits for it. One call of each batch size comes first
and is not counted. Times belong to the machine that is named beside them: they are in no artifact.
"""

import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from arm.device import rank_device
from arm.errors import UserError
from arm.evaluation.models.model import Drawing, Failed, Model
from arm.evaluation.subject import seed_of

PHASES = ("decode", "detokenize", "all")


@dataclass
class Stopwatch:
    """Seconds by phase of one call; on a GPU it waits until the work of a phase is done."""

    seconds: dict[str, float] = field(default_factory=dict)
    tokens: int = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time inside to a phase."""
        started = _now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + _now() - started

    def count(self, tokens: int) -> None:
        """Count tokens of images."""
        self.tokens += tokens


def measure_cost(
    model: Model, prompts: Sequence[str], batch_sizes: Sequence[int], num_calls: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Draw `num_calls` batches of every size and take the time; prompts are taken in turn."""
    if not prompts or num_calls < 1 or min(batch_sizes, default=0) < 1:
        raise UserError("Measuring needs a prompt, at least one call, and batch sizes of at least 1.")
    return {
        "model": {"name": model.name, "protocol": model.protocol(), **settings},
        "machine": machine(),
        "memory": "gpu" if torch.cuda.is_available() else "process",
        "runs": [_run(model, prompts, size, num_calls) for size in batch_sizes],
    }


def machine() -> dict[str, Any]:
    """What the times belong to."""
    device = rank_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def summarise(batch_size: int, watches: Sequence[Stopwatch]) -> dict[str, Any]:
    """The numbers of one batch size.

    two calls of 2 images, decode 1 s and 3 s, 8 tokens each  ->  1 s an image, 4 tokens a second, p50 2 s, p95 2.9 s
    """
    num_images = batch_size * len(watches)
    totals = [sum(watch.seconds.values()) for watch in watches]
    tokens = sum(watch.tokens for watch in watches)
    by_phase = {
        name: [watch.seconds[name] for watch in watches] for name in PHASES if all(name in w.seconds for w in watches)
    }
    phases = {name: _phase(seconds, num_images) for name, seconds in {**by_phase, "all": totals}.items()}
    if tokens and "decode" in phases:
        phases["decode"]["tokens_per_second"] = tokens / sum(by_phase["decode"])
    return {
        "batch_size": batch_size, "num_calls": len(watches), "tokens_per_image": tokens / num_images,
        "images_per_second": num_images / sum(totals), "phases": phases,
    }  # fmt: skip


def to_table(cost: dict[str, Any]) -> str:
    """The same as lines for a terminal."""
    lines = [
        f"{'batch':>6} {'phase':12} {'s/image':>9} {'p50':>9} {'p95':>9} {'images/s':>9} {'tokens':>7} {'peak MB':>8}"
    ]
    for run in cost["runs"]:
        for name, phase in run["phases"].items():
            tail = (
                f" {run['images_per_second']:9.3f} {run['tokens_per_image']:7.0f} {run['peak_memory_bytes'] / 1e6:8.0f}"
            )
            lines.append(
                f"{run['batch_size']:6} {name:12} {phase['seconds_per_image']:9.4f} {phase['call_p50']:9.4f} "
                f"{phase['call_p95']:9.4f}{tail if name == 'all' else ''}"
            )
    return "\n".join(lines)


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation: of 1 and 3 at .95, 2.9."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _run(model: Model, prompts: Sequence[str], batch_size: int, num_calls: int) -> dict[str, Any]:
    first = Stopwatch()
    _draw(model, prompts, batch_size, 0, first)
    if not first.seconds:
        raise UserError(f"{model.name} draws nothing itself, its images are there; measure the model that made them.")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    watches = []
    for call in range(num_calls):
        watches.append(Stopwatch())
        _draw(model, prompts, batch_size, call * batch_size, watches[-1])
    return {**summarise(batch_size, watches), "peak_memory_bytes": _peak_memory()}


def _draw(model: Model, prompts: Sequence[str], batch_size: int, first: int, watch: Stopwatch) -> None:
    drawings = [
        Drawing(uid=str(number), prompt=prompts[number % len(prompts)], seed=seed_of(str(number), 0))
        for number in range(first, first + batch_size)
    ]
    for made in model.generate_images(drawings, watch):
        if isinstance(made, Failed):
            raise UserError(f"{model.name} did not draw an image that was to be timed ({made.reason}).")


def _phase(seconds: Sequence[float], num_images: int) -> dict[str, float]:
    return {
        "seconds_per_image": sum(seconds) / num_images,
        "call_p50": quantile(seconds, 0.5),
        "call_p95": quantile(seconds, 0.95),
    }


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_memory() -> int:
    """Of the GPU since the last reset, or of this process since its start."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
