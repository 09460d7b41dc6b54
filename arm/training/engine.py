"""The engine: a module that learns, on one or many ranks, under DeepSpeed or plain PyTorch.

    engine = Engine(module, EngineConfig(...))
    engine.mark(last=True);  loss = engine(batch);  engine.backward(loss);  engine.step(learning_rate)
    engine.state_dict()                 this rank's part: fragments of named parameters, plain tensors and values
    engine.load_state_dict(parts)       the parts of all ranks of a saved run, at any number of ranks, stage or engine

`state_dict`, `load_state_dict`, `use_average` and `whole_module` are collective: every rank calls them.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arm.device import rank_device
from arm.errors import UserError
from arm.training.deepspeed_engine import DeepSpeedBackend
from arm.training.engine_config import EngineConfig
from arm.training.fragments import Master, digest_of, fragments_of, owned, restore
from arm.training.optimizer import Muon, parameter_groups
from arm.training.torch_engine import TorchBackend

TIMEOUT = timedelta(minutes=30)
PATIENCE = timedelta(days=7)
"""How long ranks wait for what some of them do alone: if those fail, the launcher ends the others at once."""
FORMAT = 2
"""Of a part; 1 held one rank's flat partitions and could only be read by as many ranks."""


class Backend(Protocol):
    """What both engines offer."""

    optimizer: torch.optim.Optimizer
    masters: list[Master]
    whole: bool
    """Whether every rank holds all masters; otherwise each number lies on one rank."""
    skipped_steps: int

    @property
    def module(self) -> nn.Module: ...
    @property
    def gradient_norm(self) -> float: ...
    def __call__(self, *arguments: Any) -> Any: ...
    def mark(self, *, last: bool) -> None: ...
    def backward(self, loss: Tensor) -> None: ...
    def step(self) -> None: ...
    def publish(self) -> None: ...
    def gathered(self) -> contextlib.AbstractContextManager[nn.Module]: ...


def rank() -> int:
    """This process among the ranks."""
    return int(os.environ.get("RANK", "0"))


def num_ranks() -> int:
    """Processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start_process_group() -> None:
    """Join the other ranks, or be the only one: then without a port. DeepSpeed's shared-memory op is not compiled.

    Gradients go over NCCL where there are GPUs; counts and objects stay on the CPU and go over gloo.
    """
    import deepspeed  # type: ignore[import-untyped]

    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it
    if torch.cuda.is_available():
        torch.cuda.set_device(rank_device())
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        compatible = getattr(deepspeed.ops, "__compatible_ops__", {})
        if "deepspeed_shm_comm" in compatible:
            compatible["deepspeed_shm_comm"] = False
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = dist.HashStore()  # type: ignore[attr-defined]
        alone: dict[str, Any] = {"store": store, "rank": 0, "world_size": 1} if num_ranks() == 1 else {}
        dist.init_process_group(backend, timeout=TIMEOUT, **alone)
    deepspeed.init_distributed(verbose=False)


def patient_group() -> Any:
    """All ranks, for a barrier behind work that some do alone for hours; every rank calls this before that work."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


class Engine:
    """A module under a backend, and its state in a form that depends on neither backend nor number of ranks."""

    def __init__(self, module: nn.Module, config: EngineConfig) -> None:
        if config.optimizer == "muon" and config.engine == "deepspeed" and config.zero_stage == 3:
            raise UserError("Muon needs whole matrices and ZeRO stage 3 cuts each of them; use zero_stage 2, or adamw.")
        start_process_group()
        self.config = config
        groups = parameter_groups(
            module,
            muon=config.optimizer == "muon",
            muon_factor=config.muon_factor,
            rows_factor=config.new_rows_factor,
        )
        self._factors = [group["factor"] for group in groups]
        kind: type[TorchBackend] | type[DeepSpeedBackend]
        kind = TorchBackend if config.engine == "torch" else DeepSpeedBackend
        self._backend: Backend = kind(module, groups, lambda given: _optimizer(given, config), config)
        self._average_updates = 0
        if config.ema_decay:
            for master in self._backend.masters:
                master.average = master.weights.detach().clone()

    @property
    def module(self) -> nn.Module:
        """The wrapped module, in the training dtype."""
        return self._backend.module

    @property
    def skipped_steps(self) -> int:
        """Steps left out because a gradient was not finite."""
        return self._backend.skipped_steps

    @property
    def gradient_norm(self) -> float:
        """Norm of the last step's gradient before clipping, over all ranks."""
        return self._backend.gradient_norm

    @property
    def reads_alone(self) -> bool:
        """Whether in as many ranks as saved each needs no other part than its own."""
        return not self._backend.whole

    def __call__(self, *arguments: Any) -> Any:
        return self._backend(*arguments)

    def mark(self, *, last: bool) -> None:
        """Say before a forward pass whether its backward is the last of this step: then gradients are reduced."""
        self._backend.mark(last=last)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this rank's share of the step's mean loss (see `Trainer`)."""
        self._backend.backward(loss)

    def step(self, learning_rate: float) -> None:
        """After the last backward of a step: reduce, clip, update."""
        for group, factor in zip(self._backend.optimizer.param_groups, self._factors, strict=True):
            group["lr"] = learning_rate * factor
        skipped = self._backend.skipped_steps
        self._backend.step()
        if self.config.ema_decay and skipped == self._backend.skipped_steps:
            self._update_average()

    @torch.no_grad()
    def _update_average(self) -> None:
        """average <- d * average + (1 - d) * weights, with d growing to ema_decay as (1 + n) / (10 + n)."""
        decay = min(self.config.ema_decay, (1 + self._average_updates) / (10 + self._average_updates))
        self._average_updates += 1
        for master in self._backend.masters:
            assert master.average is not None
            master.average.lerp_(master.weights.detach(), 1 - decay)

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the averaged weights into the module, for good: at the end of a run."""
        for master in self._backend.masters:
            assert master.average is not None, "no ema_decay, no average"
            master.weights.detach().copy_(master.average)
        self._backend.publish()

    def whole_module(self) -> contextlib.AbstractContextManager[nn.Module]:
        """The module with all its weights on every rank, as long as the context lasts."""
        return self._backend.gathered()

    def state_dict(self) -> dict[str, Any]:
        """This rank's part: its fragments of weights, moments and average, and the module's buffers."""
        masters = self._owned()
        return {
            "format": FORMAT,
            "rank": rank(),
            "num_ranks": num_ranks(),
            "dtype": self.config.dtype,
            "fragments": fragments_of(masters, self._backend.optimizer),
            "buffers": {name: value.detach().clone() for name, value in self._buffers().items()},
            "skipped_steps": self.skipped_steps,
            "average_updates": self._average_updates,
            "digest": digest_of(masters, self._backend.optimizer),
        }

    @torch.no_grad()
    def load_state_dict(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the parts of all ranks of a saved run; what was read is proved by its digest.

        A rank's own part is enough where ranks, stage and engine are those of the saved run and ZeRO cuts the masters.
        """
        first = parts[0]
        self._check(parts)
        restore(self._backend.masters, self._backend.optimizer, parts)
        self._backend.publish()
        buffers = self._buffers()
        own = next((part for part in parts if (part["rank"], part["num_ranks"]) == (rank(), num_ranks())), first)
        for name, value in own["buffers"].items():
            buffers[name].copy_(value)
        self._backend.skipped_steps = first["skipped_steps"]
        self._average_updates = first["average_updates"]
        found = digest_of(self._owned(), self._backend.optimizer)
        if found != first["digest"]:
            raise UserError(
                f"The weights and moments read back have the digest {found}, the checkpoint's is {first['digest']}: "
                "it is damaged or of several runs; go back to an older one."
            )

    def _check(self, parts: Sequence[Mapping[str, Any]]) -> None:
        if any(part.get("format") != FORMAT for part in parts):
            raise UserError(f"The checkpoint is not of format {FORMAT} but of an older version: start this stage anew.")
        if len({(part["digest"], part["num_ranks"]) for part in parts}) != 1:
            raise UserError("The parts of the checkpoint have several digests: they are not of one run and step.")
        dtype = parts[0]["dtype"]
        if dtype != self.config.dtype:
            raise UserError(f"The checkpoint is of a run in {dtype}, this one computes in {self.config.dtype}.")

    def _owned(self) -> list[Master]:
        """Every number once over all ranks."""
        masters = self._backend.masters
        return owned(masters, rank(), num_ranks()) if self._backend.whole else masters

    def _buffers(self) -> dict[str, Tensor]:
        """The module's persistent buffers."""
        parameters = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        return {name: value for name, value in self.module.state_dict().items() if name not in parameters}


def _optimizer(groups: list[dict[str, Any]], config: EngineConfig) -> torch.optim.Optimizer:
    if config.optimizer == "muon":
        return Muon(
            groups,
            betas=config.betas,
            epsilon=config.epsilon,
            weight_decay=config.weight_decay,
            scaling=config.muon_scaling,
        )
    return torch.optim.AdamW(
        groups, lr=0.0, betas=config.betas, eps=config.epsilon, weight_decay=config.weight_decay, fused=True
    )
