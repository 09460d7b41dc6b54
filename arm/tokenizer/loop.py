"""The training loop of the tokenizer and the detokenizer: one process, exact resume, curves.

A step computes losses; the loop takes the gradient, clips, sets the learning rate, updates, logs and saves. Everything
that a step depends on is in the checkpoint, so a killed run goes on to the same bytes.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from arm.progress import Progress
from arm.tokenizer.config import OptimizerConfig
from arm.tokenizer.muon import Muon
from arm.tracking import tracker
from arm.training.checkpoint import Checkpoints

FINAL_RATE = 0.02
"""Share of the peak rate left at the last step of a linear decay. Ours."""


class Stateful(Protocol):
    """What goes into a checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class Trained:
    """The parameters that learn and the buffers of a module, as a checkpoint part; frozen weights stay out."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def state_dict(self) -> dict[str, Any]:
        """Copies by name."""
        learning = {name: value.detach() for name, value in self.module.named_parameters() if value.requires_grad}
        return learning | dict(self.module.named_buffers())

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Put them back."""
        self.module.load_state_dict(state, strict=False)


class Noise:
    """A torch generator, as a checkpoint part."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Put it back."""
        self.generator.set_state(state["state"])


class Loop:
    """Runs `num_steps` steps over a module, from the last checkpoint on."""

    def __init__(
        self, name: str, module: nn.Module, config: OptimizerConfig, *,
        num_steps: int, parts: Mapping[str, Stateful], checkpoints: Path, save_every: int, log_every: int,
    ) -> None:  # fmt: skip
        self.name, self.config, self.num_steps = name, config, num_steps
        self.save_every, self.log_every = save_every, log_every
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.parameters, config)
        self.parts: dict[str, Stateful] = {**parts, "module": Trained(module), "optimizer": self.optimizer}
        self.checkpoints = Checkpoints(checkpoints)
        self.curves: list[str] = []

    def run(self, compute: Callable[[], tuple[Tensor, dict[str, Tensor]]]) -> None:
        """Train to the end; `compute` returns the loss to minimise and the losses to log."""
        first = self._resume()
        progress = Progress(self.name, self.num_steps, first)
        for step in range(first, self.num_steps):
            loss, logged = compute()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
            self._set_rate(learning_rate(step, self.num_steps, self.config))
            self.optimizer.step()
            self._log(step + 1, {**logged, "loss/total": loss, "gradient_norm": norm})
            progress.advance(note=f"loss {loss.item():.3f}")
            if (step + 1) % self.save_every == 0 and step + 1 < self.num_steps:
                self._save(step + 1)
        progress.close()

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _log(self, step: int, values: dict[str, Tensor]) -> None:
        if step % self.log_every and step != self.num_steps:
            return
        numbers = {name: round(float(value.detach()), 6) for name, value in values.items()}
        self.curves.append(json.dumps({"step": step, **numbers}, sort_keys=True))
        tracker.log(numbers, step=step)

    def _save(self, step: int) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        self.checkpoints.save(step, {**state, "curves": list(self.curves)})

    def _resume(self) -> int:
        found = self.checkpoints.load_latest()
        if found is None:
            return 0
        step, state = found
        self.curves = list(state["curves"])
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return step


def make_optimizer(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW or Muon."""
    if config.name == "muon":
        return Muon(
            parameters, learning_rate=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)


def learning_rate(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """Rate of a step counted from 0: linear warm-up, then constant or linear decay to FINAL_RATE of the peak."""
    warmup = min((step + 1) / max(config.warmup_steps, 1), 1.0)
    if config.decay == "constant":
        return config.learning_rate * warmup
    return config.learning_rate * warmup * (FINAL_RATE + (1 - FINAL_RATE) * (1 - step / num_steps))
