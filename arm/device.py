"""Where torch computes, and that it computes the same again.

A module lies on its rank's device; what goes into it is moved there by the module itself, so callers hand over tensors as
they come. Random numbers are drawn on the CPU: they are the same on any device.
"""

import os
from dataclasses import fields, replace
from typing import TypeVar

import torch

Record = TypeVar("Record")


def rank_device() -> torch.device:
    """This rank's GPU (of LOCAL_RANK), or the CPU where there is none."""
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


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
