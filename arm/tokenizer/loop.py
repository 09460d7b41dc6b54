"""The training loop of the tokenizer and the detokenizer, data-parallel on the shared engine, with exact resume.

    loop = Loop("train-detokenizer", module, config.optimizer, num_steps=config.num_steps, parts={"order": order},
                checkpoints=Checkpoints.of(output), save_every=100, log_every=10)
    loop.run(draw, compute)
    loop.finish()

`draw(step)` gives this rank's micro-batches of a step (counted from 0); `compute(micro_batch)` gives this micro-batch's
share of the step's loss and of the losses to log: the shares of all micro-batches of all ranks add up to the step's loss.
So a mean over a global batch of B images is a sum over the micro-batch's images, divided by B:

    def draw(step: int) -> list[Tensor]:
        chosen = torch.randint(len(codes), (batch_size,), generator=generator_at(seed, step))       the same on all ranks
        return list(chosen[rank_rows(batch_size)].split(micro_batch or batch_size))

    def compute(chosen: Tensor) -> Share:
        loss = per_image_loss(codes[chosen]).sum() / batch_size
        return loss, {"loss/latent": loss.detach()}

Every micro-batch must reach every trained parameter. Noise that depends on (seed, step, first row) alone, by
`generator_at`, needs no state. What a step depends on otherwise is in `parts`, the same on every rank; a killed run
goes on from its newest whole checkpoint: on as many ranks to the same bytes, on another number with the same batches.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arm.errors import UserError
from arm.progress import Progress
from arm.tokenizer.config import OptimizerConfig
from arm.tokenizer.ema import ExponentialAverage
from arm.tracking import tracker
from arm.training.checkpoint import Checkpoints
from arm.training.engine import Engine, num_ranks, rank
from arm.training.engine_config import EngineConfig

FINAL_RATE = 0.02
"""Share of the peak rate left at the last step of a linear decay. Ours."""

MicroBatch = TypeVar("MicroBatch")
Weights = Literal["float32", "bfloat16"]
Share = tuple[Tensor, dict[str, Tensor]]
"""A micro-batch's share of the loss to minimise, and of the losses to log."""


class Stateful(Protocol):
    """What goes into a checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class Loop:
    """Runs `num_steps` steps over a module, from the last checkpoint on.

    `after_step(means)` sees every step's losses, the same on all ranks; `measure()` adds numbers to the curves at the
    steps that are logged. `weights="bfloat16"` rounds the module's weights; the optimiser learns their float32 masters.
    """

    def __init__(
        self, name: str, module: nn.Module, config: OptimizerConfig, *, num_steps: int, parts: Mapping[str, Stateful],
        checkpoints: Checkpoints, save_every: int, log_every: int, ema_decay: float = 0.0, weights: Weights = "float32",
        after_step: Callable[[dict[str, float]], None] | None = None,
        measure: Callable[[], dict[str, float]] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.config, self.num_steps = name, config, num_steps
        self.save_every, self.log_every = save_every, log_every
        self.after_step, self.measure = after_step, measure
        self.engine = start_engine(module, engine_config(config, weights))
        self.average = ExponentialAverage(module, ema_decay) if ema_decay else None
        self.parts: dict[str, Stateful] = dict(parts)
        if self.average is not None:
            self.parts["average"] = self.average
        self.checkpoints = checkpoints
        self.curves: list[str] = []

    def run(self, draw: Callable[[int], Sequence[MicroBatch]], compute: Callable[[MicroBatch], Share]) -> None:
        """Train to the end."""
        first = self._resume()
        progress = Progress(self.name, self.num_steps, first)
        for step in range(first, self.num_steps):
            means = self._step(step, draw(step), compute)
            if self.after_step is not None:
                self.after_step(means)
            self._log(step + 1, means)
            progress.advance(note=f"loss {means['loss/total']:.3f}")
            if (step + 1) % self.save_every == 0 and step + 1 < self.num_steps:
                self._save(step + 1)
        progress.close()
        self.checkpoints.close()

    def finish(self) -> None:
        """Put the averaged weights into the module, where an average was kept."""
        if self.average is not None:
            self.average.apply()

    def _step(
        self, step: int, micro_batches: Sequence[MicroBatch], compute: Callable[[MicroBatch], Share]
    ) -> dict[str, float]:
        """One update; returns the step's losses over all ranks."""
        shares: list[dict[str, Tensor]] = []
        for number, micro_batch in enumerate(micro_batches, start=1):
            self.engine.mark(last=number == len(micro_batches))
            loss, logged = compute(micro_batch)
            self.engine.backward(loss)
            shares.append({**logged, "loss/total": loss.detach()})
        self.engine.step(learning_rate(step, self.num_steps, self.config))
        if self.average is not None:
            self.average.update()
        return summed_over_ranks(shares)

    def _log(self, step: int, means: dict[str, float]) -> None:
        if step % self.log_every and step != self.num_steps:
            return
        measured = self.measure() if self.measure is not None else {}
        values = {**means, **measured, "gradient_norm": self.engine.gradient_norm}
        numbers = {name: round(value, 6) for name, value in values.items()}
        self.curves.append(json.dumps({"step": step, **numbers}, sort_keys=True))
        tracker.log(numbers, step=step)

    def _save(self, step: int) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        self.checkpoints.save(step, {**state, "engine": self.engine.state_dict(), "curves": list(self.curves)})

    def _resume(self) -> int:
        """The step to go on from: that of the newest whole checkpoint, or 0."""
        saved = self.checkpoints.load_newest(alone=self.engine.reads_alone)
        if saved is None:
            return 0
        self.curves = list(saved.own["curves"])
        self.engine.load_state_dict(saved.parts("engine"))
        for name, part in self.parts.items():
            part.load_state_dict(saved.own[name])
        saved.close()
        return saved.step


def engine_config(config: OptimizerConfig, weights: Weights) -> EngineConfig:
    """Weights under the optimiser of a config; products of matrices are autocast where they are made."""
    return EngineConfig(
        betas=config.betas, epsilon=1e-8, weight_decay=config.weight_decay, gradient_clip=config.gradient_clip,
        dtype=weights, optimizer=config.name, muon_scaling="adamw",
    )  # fmt: skip


def start_engine(module: nn.Module, config: EngineConfig) -> Engine:
    """The engine over a module, whose parts that do not learn keep float32 beside bfloat16 weights."""
    if config.dtype == "float32":
        return Engine(module, config)
    frozen = [part for part in module.children() if not any(value.requires_grad for value in part.parameters())]
    kept = [copy.deepcopy(part.state_dict()) for part in frozen]
    engine = Engine(module, config)
    for part, state in zip(frozen, kept, strict=True):
        part.float().load_state_dict(state)
    return engine


def summed_over_ranks(shares: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """The sum over micro-batches and ranks by name; every rank gives the same names."""
    names = sorted({name for share in shares for name in share})
    totals = torch.tensor([sum(float(share.get(name, 0.0)) for share in shares) for name in names], dtype=torch.float64)
    if num_ranks() > 1:
        dist.all_reduce(totals)
    return dict(zip(names, totals.tolist(), strict=True))


def rank_rows(batch_size: int) -> slice:
    """This rank's rows of a global batch: equal, contiguous shares; a batch that does not divide is a UserError.

    batch 8, rank 1 of 2  ->  rows 4 to 7
    """
    if batch_size % num_ranks():
        raise UserError(f"batch_size {batch_size} does not divide among {num_ranks()} ranks; make it a multiple.")
    share = batch_size // num_ranks()
    return slice(rank() * share, (rank() + 1) * share)


def generator_at(*place: int) -> torch.Generator:
    """A CPU generator that depends on the given integers alone, as (seed, step, first row)."""
    digest = hashlib.sha256("/".join(str(value) for value in place).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


def learning_rate(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """Rate of a step counted from 0: linear warm-up, then constant or linear decay to FINAL_RATE of the peak."""
    warmup = min((step + 1) / max(config.warmup_steps, 1), 1.0)
    if config.decay == "constant":
        return config.learning_rate * warmup
    return config.learning_rate * warmup * (FINAL_RATE + (1 - FINAL_RATE) * (1 - step / num_steps))
