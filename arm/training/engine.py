"""The engine: DeepSpeed ZeRO on GPUs, and on the CPU over gloo, with everything about it said explicitly.

    engine = Engine(module, EngineConfig(...))
    loss = engine(batch);  engine.backward(loss);  engine.step(learning_rate)
    engine.state_dict() / engine.load_state_dict(state)       this rank's part, plain tensors

2026 releases of DeepSpeed changed defaults, so clipping, overflow checks and accumulation are all set. Nothing is
compiled: torch's AdamW, and DeepSpeed's shared-memory op (one inference op uses it) is declared unavailable.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arm.device import rank_device
from arm.training.optimizer import Muon, Scaling, parameter_groups

TIMEOUT = timedelta(minutes=30)
BUCKET_ELEMENTS = 500_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What the optimiser and the collectives need to know."""

    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-15
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    micro_batch: int = 1
    zero_stage: Literal[1, 2] = 1
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    new_rows_factor: float = 1.0
    """Factor on the learning rate of embedding and head."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_factor: float = 1.0
    """Muon's learning rate over AdamW's."""
    muon_scaling: Scaling = "spectral"
    """Size of Muon's updates."""


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


class Engine:
    """A module under DeepSpeed."""

    def __init__(self, module: nn.Module, config: EngineConfig) -> None:
        import deepspeed

        start_process_group()
        self.config = config
        groups = parameter_groups(
            module,
            muon=config.optimizer == "muon",
            muon_factor=config.muon_factor,
            rows_factor=config.new_rows_factor,
        )
        self._factors = [group["factor"] for group in groups]
        self._engine, *_ = deepspeed.initialize(
            model=module, optimizer=_optimizer(groups, config), config=_deepspeed_config(config)
        )

    @property
    def module(self) -> nn.Module:
        """The wrapped module, in the training dtype."""
        module: nn.Module = self._engine.module
        return module

    @property
    def skipped_steps(self) -> int:
        """Steps left out because a gradient was not finite."""
        return int(self._engine.skipped_steps)

    def __call__(self, *arguments: Any) -> Any:
        return self._engine(*arguments)

    def mark(self, *, last: bool) -> None:
        """Say before a forward pass whether its backward is the last of this step: then gradients are reduced."""
        self._engine.set_gradient_accumulation_boundary(last)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this rank's share of the step's mean loss (see `Trainer`)."""
        self._engine.backward(loss * num_ranks())

    def step(self, learning_rate: float) -> None:
        """After the last backward of a step: reduce, clip, update."""
        for group, factor in zip(self._engine.optimizer.param_groups, self._factors, strict=True):
            group["lr"] = learning_rate * factor
        self._engine.step()

    @property
    def gradient_norm(self) -> float:
        """Norm of the last step's gradient before clipping, over all ranks."""
        return float(self._engine.get_global_grad_norm() or 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Master weights and optimiser state of this rank, and the module's own weights but the frozen."""
        masters, inner = self._masters()
        frozen = self._frozen()
        weights = self.module.state_dict().items()
        return {
            "module": {name: value.detach().clone() for name, value in weights if name not in frozen},
            "masters": [master.detach().clone() for master in masters],
            "optimizer": [dict(inner.state[master]) for master in masters],
            "skipped_steps": self.skipped_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict` of the same rank in the same number of ranks."""
        masters, inner = self._masters()
        frozen = self._frozen()
        kept = {name: value for name, value in self.module.state_dict().items() if name in frozen}
        self.module.load_state_dict(kept | state["module"])
        for master, saved, moments in zip(masters, state["masters"], state["optimizer"], strict=True):
            master.data.copy_(saved)
            inner.state[master] = {
                name: value.to(master.device) if isinstance(value, Tensor) else value for name, value in moments.items()
            }
        self._engine.skipped_steps = state["skipped_steps"]

    def _frozen(self) -> set[str]:
        """Names of the parameters that do not learn."""
        named = self.module.named_parameters(remove_duplicate=False)
        return {name for name, parameter in named if not parameter.requires_grad}

    def _masters(self) -> tuple[list[Tensor], torch.optim.Optimizer]:
        """This rank's float32 partitions, and the optimiser that holds their state."""
        zero = self._engine.optimizer
        return list(zero.single_partition_of_fp32_groups), zero.optimizer


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


def _deepspeed_config(config: EngineConfig) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": 1,  # `mark` says which pass is the last of a step
        "gradient_clipping": config.gradient_clip,
        "bf16": {"enabled": config.dtype == "bfloat16", "check_grad_overflow": True},
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": False,
            "contiguous_gradients": False,
            "reduce_scatter": False,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "allgather_bucket_size": BUCKET_ELEMENTS,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
