"""Short runs of a small model under an engine, alone or as one of two ranks: `python engine_runs.py FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arm.training.engine import Engine, num_ranks, rank
from arm.training.engine_config import EngineConfig

ROWS, WIDTH = 8, 12


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


def main(folder: Path) -> None:
    """As one of two ranks: run what `plan.pt` lists and write what it asks for."""
    for name, changes, source, steps, seen in torch.load(folder / "plan.pt", weights_only=True):
        made = engine(**changes)
        if source:
            made.load_state_dict(parts(folder, source))
        losses = train(made, range(*steps))
        torch.save(made.state_dict(), folder / f"{name}-{rank()}.pt")
        if seen and rank() == 0:
            torch.save(losses, folder / f"{name}-losses.pt")
        dist.barrier()


def parts(folder: Path, name: str) -> list[dict[str, Any]]:
    """The parts of a saved run."""
    paths = sorted(path for path in folder.glob(f"{name}-[0-9].pt"))
    return [torch.load(path, mmap=True, weights_only=True) for path in paths]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
