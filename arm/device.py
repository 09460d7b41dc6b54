"""Where torch computes, and that it computes the same again.

A module lies on its rank's device; what goes into it is moved there by the module itself, so callers hand over tensors as
they come. Random numbers are drawn on the CPU: they are the same on any device.
"""

import os
from dataclasses import fields, replace
from typing import Literal, TypeVar

import torch

Record = TypeVar("Record")
Dtype = Literal["auto", "bfloat16", "float32"]


def rank_device() -> torch.device:
    """This rank's GPU (of LOCAL_RANK), or the CPU where there is none."""
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def has_fast_bfloat16() -> bool:
    """Whether matrices of bfloat16 are multiplied in hardware here: on a GPU, or a CPU with AMX or AVX512_BF16.

    Elsewhere torch works through them number by number: 0.9 GFLOP/s against 55 in float32 on one AVX2 core (docs/log.md).
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def computing_dtype(dtype: Dtype) -> Literal["bfloat16", "float32"]:
    """'auto' is bfloat16 where that is fast, float32 elsewhere; a type that is named is taken as it is."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if has_fast_bfloat16() else "float32"


def autocast(device: torch.device, dtype: Dtype) -> torch.autocast:
    """Matrix products in this dtype over float32 weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computing_dtype(dtype) == "bfloat16")


def moved(record: Record, device: torch.device) -> Record:
    """A dataclass with its tensors there."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    tensors = {name: value.to(device) for name, value in values.items() if isinstance(value, torch.Tensor)}
    return replace(record, **tensors)  # type: ignore[type-var]


def make_deterministic(seed: int = 0, threads: int | None = None) -> None:
    """Same bytes on one machine: deterministic kernels, seeded weights, and the threads that a config asks for."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid, 5% of a step
    torch.manual_seed(seed)
