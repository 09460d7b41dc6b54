"""What the three teachers share: their scenes, their report and their optimiser's schedule."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from arm.progress import Progress
from arm.tokenizer.config import OptimizerConfig
from arm.tokenizer.loop import learning_rate
from arm.toy.config import TeacherConfig
from arm.toy.language import describe, named
from arm.toy.muon import Muon
from arm.toy.rendering import render
from arm.toy.scene import CATEGORIES, COLORS, SHAPES, SIZES, Object, Scene, draw_scene

NOTHING = "nothing"
CONTENTS = (
    NOTHING,
    *(named(Object(shape=s, color=c, size=z, x=0, y=0), size=True) for s in SHAPES for c in COLORS for z in SIZES),
)
"""What a cell can hold: nothing, 'a small red circle', …"""
WARMUP_STEPS = 20
LOG_EVERY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Metrics of a teacher and its curve."""

    metrics: dict[str, float]
    curve: list[dict[str, float]]


@dataclass(slots=True)
class Training:
    """Learning by Muon with linear decay, and the curve that comes of it."""

    name: str
    parameters: list[nn.Parameter]
    num_steps: int
    learning_rate: float
    curve: list[dict[str, float]] = field(default_factory=list)

    def run(self, compute: Callable[[int], Tensor]) -> None:
        """Minimise what `compute(step)` returns."""
        config = OptimizerConfig(
            name="muon",
            learning_rate=self.learning_rate,
            weight_decay=0.01,
            warmup_steps=WARMUP_STEPS,
            decay="linear",
        )
        optimizer = Muon(
            self.parameters, learning_rate=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )
        progress = Progress(f"train-teachers {self.name}", self.num_steps)
        for step in range(self.num_steps):
            loss = compute(step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.parameters, config.gradient_clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, self.num_steps, config)
            optimizer.step()
            if (step + 1) % LOG_EVERY == 0 or step + 1 == self.num_steps:
                self.curve.append({"step": step + 1, "loss/total": round(loss.item(), 6)})
            progress.advance(note=f"loss {loss.item():.3f}")
        progress.close()


def draw_scenes(config: TeacherConfig, purpose: str, count: int, **options: Any) -> list[tuple[Scene, str]]:
    """Scenes with captions: of the six categories (half) and full descriptions; `options` go to `draw_scene`."""
    rng = random.Random(f"{config.seed}/{purpose}")
    found = []
    for _ in range(count):
        category = rng.choice((*CATEGORIES, "colors")) if rng.random() < 0.5 and "category" not in options else None
        scene = draw_scene(rng, config.scene, **({"category": category} | options))
        kind = options.get("category") or category or ("full" if rng.random() < 2 / 3 else "places")
        if kind == "colors" and rng.random() < 0.25:
            kind = "full"
        found.append((scene, describe(scene, kind, rng)[0]))
    return found


def draw_images(scenes: Iterable[Scene]) -> Tensor:
    """The scenes as (N, 3, 36, 36) float32 in [-1, 1]."""
    listed = list(scenes)
    pixels = torch.from_numpy(render(listed, range(len(listed))))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def contents_of(scenes: Iterable[Scene]) -> Tensor:
    """Index into CONTENTS of each of the nine cells: (N, 9) int64."""
    numbers = {content: index for index, content in enumerate(CONTENTS)}
    rows = []
    for scene in scenes:
        row = [0] * 9
        for item in scene.objects:
            row[item.cell] = numbers[named(item, size=True)]
        rows.append(row)
    return torch.tensor(rows)
