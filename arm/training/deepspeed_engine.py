"""The DeepSpeed backend: ZeRO 0 to 3 on GPUs, and on the CPU over gloo, with everything about it said explicitly.

    stage 0     every rank holds everything
    stage 1     float32 masters and moments are cut among the ranks
    stage 2     gradients, too
    stage 3     and the weights, which are gathered layer by layer

2026 releases of DeepSpeed changed defaults, so clipping, overflow checks and accumulation are all set. Nothing is
compiled: torch's AdamW, and DeepSpeed's shared-memory op (one inference op uses it) is declared unavailable.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arm.training.engine_config import EngineConfig, MakeOptimizer
from arm.training.fragments import Master, Piece

BUCKET_ELEMENTS = 500_000_000
PERSISTENT_ELEMENTS = 100_000
"""Parameters up to this size are kept whole on every rank at stage 3 (DeepSpeed's default, said here)."""


class DeepSpeedBackend:
    """A module under DeepSpeed."""

    def __init__(
        self, module: nn.Module, groups: list[dict[str, Any]], make_optimizer: MakeOptimizer, config: EngineConfig
    ) -> None:
        import deepspeed  # type: ignore[import-untyped]

        # DeepSpeed calls collectives by the names that torch 2.13 deprecates, and every call would say so.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
        self._stage = config.zero_stage
        self._plain = config.zero_stage == 0 and config.dtype == "float32"
        """DeepSpeed then hands the parameters to the optimiser as they are, and checks nothing."""
        self._bf16_optimizer = config.zero_stage == 1 and config.sum_dtype != config.dtype
        """DeepSpeed then takes its BF16_Optimizer, which names the same things differently. It takes the norm over what has a
        gradient on this rank: every parameter must have one on all ranks, if only of 0 (`PackedModel`'s have)."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
        self.optimizer: torch.optim.Optimizer = make_optimizer(groups)
        settings = deepspeed_config(config, sum(parameter.numel() for parameter in names))
        with contextlib.redirect_stdout(io.StringIO()):  # BF16_Optimizer prints what memory is left, unasked
            self._engine, *_ = deepspeed.initialize(
                model=module, optimizer=self.optimizer, config=settings, dist_init_required=False
            )
        self.optimizer.state.clear()  # stage 0 in bfloat16 starts with a step on gradients of 0, which Adam would count
        self.whole = self._stage == 0
        self._norm = 0.0
        self.masters = list(self._masters(names))

    @property
    def module(self) -> nn.Module:
        """The wrapped module, in the training dtype."""
        module: nn.Module = self._engine.module
        return module

    @property
    def skipped_steps(self) -> int:
        """Steps left out because a gradient was not finite."""
        return int(self._engine.skipped_steps)

    @skipped_steps.setter
    def skipped_steps(self, number: int) -> None:
        self._engine.skipped_steps = number

    @property
    def gradient_norm(self) -> float:
        """Norm of the last step's gradient before clipping, over all ranks."""
        return self._norm if self._plain else float(self._engine.get_global_grad_norm() or 0.0)

    def __call__(self, *arguments: Any) -> Any:
        return self._engine(*arguments)

    def mark(self, *, last: bool) -> None:
        """Gradients are reduced in the backward pass of the last forward of a step."""
        self._engine.set_gradient_accumulation_boundary(last)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this rank's share of the loss; DeepSpeed takes the mean over the ranks."""
        self._engine.backward(loss * dist.get_world_size())

    def step(self) -> None:
        """Clip and update."""
        if self._plain and not self._is_finite():
            self._engine.zero_grad()
            self._engine.skipped_steps += 1
            return
        self._engine.step()

    def _is_finite(self) -> bool:
        """Whether the step's gradient is: with stage 0 in float32 DeepSpeed neither checks nor reports it."""
        gradients = [master.weights.grad for master in self.masters if master.weights.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        self._norm = float(norm)
        return bool(torch.isfinite(norm))

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the module."""
        zero = self._engine.optimizer
        if self._stage == 3:
            zero._partition_all_parameters()
            for index in range(len(zero.fp16_groups)):
                zero._reassign_or_swap_out_partitioned_parameters(index)
            if zero.persistent_parameters:
                zero.persistent_parameters[0].all_gather(zero.persistent_parameters)
        elif self._stage:
            zero.update_lp_params()
            for index in range(0 if self._bf16_optimizer else len(zero.bit16_groups)):
                zero._update_model_bit16_weights(index)
        elif not self._plain:
            for weights, masters in zip(zero.fp16_groups, zero.fp32_groups, strict=True):
                for weight, master in zip(weights, masters, strict=True):
                    weight.copy_(master)

    @contextlib.contextmanager
    def gathered(self) -> Iterator[nn.Module]:
        """The module with whole weights; every rank enters."""
        import deepspeed

        parameters = list(self.module.parameters()) if self._stage == 3 else []
        with deepspeed.zero.GatheredParameters(parameters, enabled=self._stage == 3):
            yield self.module

    def _masters(self, names: dict[Tensor, str]) -> Iterator[Master]:
        zero = self._engine.optimizer
        if self._stage == 3:
            for weights, flat in zip(zero.fp16_groups, zero.fp32_partitioned_groups_flat, strict=True):
                yield Master(flat, tuple(_stage3_pieces(weights, names)))
        elif self._stage:
            if self._bf16_optimizer:
                groups, flats = zero.bf16_groups, zero.fp32_groups_flat_partition
            else:
                groups, flats = zero.round_robin_bit16_groups, zero.single_partition_of_fp32_groups
            for weights, flat in zip(groups, flats, strict=True):
                yield Master(flat, tuple(_partition_pieces(weights, names, flat.numel())))
        else:
            groups = [group["params"] for group in self.optimizer.param_groups]
            weights_of = groups if self._plain else zero.fp16_groups
            for weights, masters in zip(weights_of, groups, strict=True):
                for weight, master in zip(weights, masters, strict=True):
                    yield Master(master, (Piece(names[weight], tuple(weight.shape), 0, 0, weight.numel()),))


def _partition_pieces(weights: list[Tensor], names: dict[Tensor, str], size: int) -> Iterator[Piece]:
    """This rank's slice of the parameters of a group, one after another."""
    start, offset = dist.get_rank() * size, 0
    for weight in weights:
        first, last = max(offset, start), min(offset + weight.numel(), start + size)
        if last > first:
            yield Piece(names[weight], tuple(weight.shape), first - offset, first - start, last - first)
        offset += weight.numel()


def _stage3_pieces(weights: list[Any], names: dict[Tensor, str]) -> Iterator[Piece]:
    """This rank's slice of every parameter."""
    offset = 0
    for weight in weights:
        size = weight.partition_numel()
        start = dist.get_rank() * size
        numel = min(size, weight.ds_numel - start)
        if numel > 0:
            yield Piece(names[weight], tuple(weight.ds_shape), start, offset, numel)
        offset += size


def deepspeed_config(config: EngineConfig, num_elements: int) -> dict[str, Any]:
    """DeepSpeed's settings for an EngineConfig."""
    gradients = {"bfloat16": "bf16", "float32": "fp32"}[config.sum_dtype]
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": 1,  # `mark` says which pass is the last of a step
        "gradient_clipping": config.gradient_clip,
        "bf16": {
            "enabled": config.dtype == "bfloat16",
            "check_grad_overflow": True,
            "immediate_grad_update": True,  # a gradient in bfloat16 goes as soon as it is added to the float32 sum
        },
        "data_types": {"grad_accum_dtype": gradients},
        "communication_data_type": gradients,
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": False,
            "contiguous_gradients": config.zero_stage == 3,
            "reduce_scatter": config.zero_stage == 3,
            "reduce_bucket_size": min(BUCKET_ELEMENTS, num_elements),
            "allgather_bucket_size": BUCKET_ELEMENTS,
            "stage3_param_persistence_threshold": PERSISTENT_ELEMENTS,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
