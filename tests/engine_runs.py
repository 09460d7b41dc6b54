"""Short runs of a small model under an engine, alone or as one of two ranks: `python engine_runs.py FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from tiny_lmm import tiny_lmm
from torch import Tensor, nn

from arm.model.attention import NAME as DOCUMENTS
from arm.model.documents import Document
from arm.model.sequence import sequence_group
from arm.training.config import StageConfig
from arm.training.engine import Engine, num_ranks, rank, start_process_group
from arm.training.engine_config import EngineConfig
from arm.training.loader import Batch, collate
from arm.training.loss import PackedModel
from arm.training.sequence import split

ROWS, WIDTH = 8, 12
SLOPES = ([256.0, 1.0], [1.0, 0.0])
"""Gradients of the micro-batches of two ranks: 258 together."""


class Small(nn.Module):
    """Two layers, an odd bias, a frozen scale, a norm with statistics; 12 x 7 + 7 + 7 + 7 x 5 + 5 + 1 weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.lm_head = nn.Linear(WIDTH, 7), nn.LayerNorm(7, bias=False), nn.Linear(7, 5)
        self.shift = nn.Parameter(torch.zeros(1))
        self.scale = nn.Parameter(torch.full((1,), 2.0), requires_grad=False)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, rows: Tensor, targets: Tensor) -> Tensor:
        """Sum of squared errors."""
        self.seen += 1
        rows = rows.to(self.shift.dtype)
        out = self.lm_head(torch.tanh(self.norm(self.first(rows)))) * self.scale + self.shift
        return (out.float() - targets).square().sum()


class Slope(nn.Module):
    """Four weights whose gradients are the number given."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(4))

    def forward(self, slope: float) -> Tensor:
        """A line."""
        return (self.weights * slope).sum()


def data(step: int) -> tuple[Tensor, Tensor]:
    """The rows of a step, over all ranks."""
    generator = torch.Generator().manual_seed(step)
    rows = torch.randn(ROWS, WIDTH, generator=generator)
    return rows, rows[:, :5].sin()


def engine(**changes: Any) -> Engine:
    """A fresh engine; float32 unless changed."""
    return Engine(Small(), EngineConfig(**{"dtype": "float32", "epsilon": 1e-8, "weight_decay": 0.1, **changes}))


def train(made: Engine, steps: range) -> list[float]:
    """Two micro-batches a step; returns the global losses."""
    losses = []
    for step in steps:
        rows, targets = data(step)
        mine = [part.chunk(2) for part in (rows[rank() :: num_ranks()], targets[rank() :: num_ranks()])]
        total = torch.zeros(())
        for number, (some, wanted) in enumerate(zip(*mine, strict=True), start=1):
            made.mark(last=number == 2)
            loss = made(some, wanted) / ROWS
            made.backward(loss)
            total += loss.detach()
        made.step(0.01)
        dist.all_reduce(total)
        losses.append(float(total))
    return losses


def gradient(slopes: list[float], **changes: Any) -> float:
    """The gradient that reaches the optimiser in bfloat16 from one micro-batch a slope: AdamW's first moment at beta 0."""
    made = Engine(Slope(), EngineConfig(betas=(0.0, 0.95), gradient_clip=0.0, **changes))
    for number, slope in enumerate(slopes, start=1):
        made.mark(last=number == len(slopes))
        made.backward(made(slope))
    made.step(0.0)
    return float(made.state_dict()["fragments"][0]["moments"]["exp_avg"][0])


def rows_of(step: int, vocabulary: Any) -> list[Batch]:
    """Two packed rows of a step: documents of many lengths, one of them long enough for a call of its own."""
    draw = np.random.default_rng(step)
    rows = []
    for lengths in ((5, 300, 17), (40, 3, 64, 21)):
        documents = [Document(draw.integers(7, 44, n), draw.random(n) < 0.7) for n in lengths]
        rows.append(collate(documents, vocabulary))
    return rows


def language_model(*, sequence_parallel: int = 1, steps: int = 4, **changes: Any) -> list[float]:
    """Losses of a small language model on packed rows, whose ranks share rows where asked."""
    start_process_group()
    model, _, vocabulary = tiny_lmm()
    model.train().set_attn_implementation(DOCUMENTS)
    if changes.pop("recompute", False):
        model.gradient_checkpointing_enable()
    config = StageConfig(sequence_parallel=sequence_parallel)  # type: ignore[arg-type]
    made = Engine(PackedModel(model, vocabulary, config), EngineConfig(dtype="float32", epsilon=1e-8, **changes))
    group, losses = sequence_group(sequence_parallel), []
    for step in range(steps):
        rows = rows_of(step, vocabulary)
        count = sum(len(row.code_targets_M) + len(row.text_targets_M) for row in rows)
        mine = rows[rank() // sequence_parallel :: num_ranks() // sequence_parallel]
        mine = [split(row, group) for row in mine] if group else mine
        total = torch.zeros(())
        for number, batch in enumerate(mine, start=1):
            made.mark(last=number == len(mine))
            loss = made(batch).weighted / count
            made.backward(loss)
            total += loss.detach()
        made.step(0.003)
        dist.all_reduce(total)
        losses.append(float(total))
    return losses


def main(folder: Path) -> None:
    """As one of two ranks: run what `plan.pt` lists and write what it asks for."""
    for name, changes, source, steps in torch.load(folder / "plan.pt", weights_only=True):
        if source == "language model":
            losses = language_model(**changes)
        elif source == "slopes":
            losses = [gradient(SLOPES[rank()], **changes)]
        else:
            made = engine(**changes)
            if source:
                made.load_state_dict(parts(folder, source))
            losses = train(made, range(*steps))
            torch.save(made.state_dict(), folder / f"{name}-{rank()}.pt")
        if rank() == 0:
            torch.save(losses, folder / f"{name}-losses.pt")
        dist.barrier()


def parts(folder: Path, name: str) -> list[dict[str, Any]]:
    """The parts of a saved run."""
    paths = sorted(path for path in folder.glob(f"{name}-[0-9].pt"))
    return [torch.load(path, mmap=True, weights_only=True) for path in paths]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
