"""Rollouts: codes drawn by the policy, rendered by the detokenizer, sent to the judge while the next batch is drawn.

    draws (prompts at their places) -> G codes each -> images -> PNG -> rewards        one Rollout per image

Each rank makes the rollouts of its own prompts; `gather` gives all to every rank. Seeds belong to (seed, prompt, visit,
sample), so that a rollout's noise does not depend on ranks, batches or order.
"""

import io
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import distributed

from arm.data.images import BadImageError, decode_image, encode_image
from arm.errors import UserError
from arm.evaluation.imaging import Grid, by_grid, fit, grid_of, sheet, square_grid
from arm.model.generation import Generator, Prompt, Sampling
from arm.rl.config import PolicyConfig
from arm.rl.prompts import Draw, RolloutPrompt, sample_seed
from arm.rl.rewards import Judgeable, Reward, Rewarder
from arm.tokenizer.config import ResolutionConfig

Codes = NDArray[np.int64]
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One image that the policy drew, with what the sampler knew and what the judge said."""

    place: int
    sample: int
    task: str
    prompt: Prompt
    """(text,) or (codes of the source, text)."""
    codes: Codes
    """(h, w)."""
    sampled: Floats
    """Log-probability of each code under the sampler's truncated distribution, (h·w,)."""
    log_kept: Floats
    """Log of the mass that truncation kept at each code, (h·w,)."""
    reward: Reward


@dataclass(frozen=True, slots=True)
class Picture:
    """A prompt with its source, if any, and its drawn images: a row of the sample sheet."""

    text: str
    images: tuple[Pixels, ...]
    rewards: tuple[float | None, ...]


class Renderer(Protocol):
    """What a rollout needs of the visual side."""

    stride: int

    def encode(self, images: Sequence[Pixels]) -> Codes:
        """Images of one size -> codes (B, h, w)."""
        ...

    def render(self, codes_BHW: torch.Tensor, seeds: Sequence[int]) -> list[Pixels]:
        """Codes -> images."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """One image to draw."""

    draw: Draw
    sample: int
    prompt: Prompt
    grid: Grid
    seed: int


class RolloutMaker:
    """Makes groups of rollouts with the current policy."""

    def __init__(self, generator: Generator, renderer: Renderer, judge: Rewarder, config: PolicyConfig) -> None:
        self._generator, self._renderer, self._judge, self._config = generator, renderer, judge, config
        self._sampling = Sampling(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
        self.seconds = {"generate": 0.0, "render": 0.0, "judge": 0.0}
        """Time spent since it was last reset, by part."""

    def make(self, draws: Sequence[Draw], num_pictures: int = 0) -> tuple[list[Rollout], list[Picture]]:
        """Draw, render and judge a group for each prompt; also the pictures of the first `num_pictures` prompts."""
        orders = self._orders(draws)
        kept: dict[int, tuple[Codes, Floats, Floats, Pixels, Future[Reward]]] = {}
        for grid, chosen in by_grid([order.grid for order in orders], self._config.rollout_batch):
            kept.update(zip(chosen, self._draw([orders[index] for index in chosen], grid), strict=True))
        started = time.monotonic()
        rollouts = [_rollout(order, *kept[index][:3], kept[index][4].result()) for index, order in enumerate(orders)]
        self.seconds["judge"] += time.monotonic() - started
        images = [kept[index][3] for index in range(len(orders))]
        return rollouts, list(self._pictures(draws[:num_pictures], images, rollouts))

    def _draw(
        self, orders: Sequence[_Order], grid: Grid
    ) -> Iterator[tuple[Codes, Floats, Floats, Pixels, "Future[Reward]"]]:
        """Codes, sampler's log-probabilities, log kept mass, image and pending reward of each, for one grid."""
        seeds = [order.seed for order in orders]
        started = time.monotonic()
        made = self._generator.generate_images([order.prompt for order in orders], grid, self._sampling, seeds)
        drawn = time.monotonic()
        images = self._renderer.render(made.codes_BHW, seeds)
        self.seconds["generate"] += drawn - started
        self.seconds["render"] += time.monotonic() - drawn
        codes, sampled, kept = (
            x.cpu().numpy() for x in (made.codes_BHW, made.logp_BN.float(), made.log_kept_BN.float())
        )
        for index, (order, image) in enumerate(zip(orders, images, strict=True)):
            yield codes[index], sampled[index], kept[index], image, self._judge.submit(_judgeable(order.draw, image))

    def _orders(self, draws: Sequence[Draw]) -> list[_Order]:
        prompts = self._prompts(draws)
        square = square_grid(self._config.image_size, self._renderer.stride)
        return [
            _Order(
                draw=draw,
                sample=sample,
                prompt=prompt,
                grid=square if len(prompt) == 1 else prompt[0].shape,  # type: ignore[union-attr]
                seed=sample_seed(self._config.seed, draw, sample),
            )
            for draw, prompt in zip(draws, prompts, strict=True)
            for sample in range(self._config.group_size)
        ]

    def _prompts(self, draws: Sequence[Draw]) -> list[Prompt]:
        """What the policy reads for each draw; sources are encoded in batches of one size."""
        prompts: list[Prompt] = [(draw.prompt.text,) for draw in draws]
        sources = {i: decode_image(draw.prompt.source) for i, draw in enumerate(draws) if draw.prompt.source}
        indexes = list(sources)
        stride = self._renderer.stride
        sizes = [sources[i].shape for i in indexes]
        grids = [grid_of(height, width, self._config.editing, stride) for height, width, _ in sizes]
        for grid, chosen in by_grid(grids, self._config.rollout_batch):
            codes = self._renderer.encode([fit(sources[indexes[c]], grid, stride) for c in chosen])
            for c, code in zip(chosen, codes, strict=True):
                prompts[indexes[c]] = (code, draws[indexes[c]].prompt.text)
        return prompts

    def _pictures(
        self, draws: Sequence[Draw], images: Sequence[Pixels], rollouts: Sequence[Rollout]
    ) -> Iterator[Picture]:
        size = self._config.group_size
        for index, draw in enumerate(draws):
            source = (decode_image(draw.prompt.source),) if draw.prompt.source else ()
            group = slice(index * size, (index + 1) * size)
            values = tuple(rollout.reward.value for rollout in rollouts[group])
            yield Picture(draw.prompt.text, (*source, *images[group]), values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRule:
    """Which sources of edits a rollout can start from."""

    resolution: ResolutionConfig
    stride: int
    num_shapes: int
    """Longest side of a grid in codes that has a token."""

    def reason_against(self, prompt: RolloutPrompt) -> str | None:
        """`bad_image` where it cannot be decoded, `shape` where its grid has no shape token."""
        if prompt.source is None:
            return None
        try:
            height, width = decode_image(prompt.source).shape[:2]
        except BadImageError:
            return "bad_image"
        return "shape" if max(grid_of(height, width, self.resolution, self.stride)) > self.num_shapes else None


def drop_bad_sources(
    prompts: Mapping[str, list[RolloutPrompt]], rule: SourceRule, rank: int = 0, num_ranks: int = 1
) -> tuple[dict[str, list[RolloutPrompt]], Counter[str]]:
    """The prompts without those whose source the rule is against, and how many by reason; UserError when a task has none left.

    Before the first step, as later one rank would fail while the others wait for it. Each looks at its share, all know all.
    """
    kept, dropped = dict[str, list[RolloutPrompt]](), Counter[str]()
    for task, found in prompts.items():
        mine = {index: rule.reason_against(found[index]) for index in range(rank, len(found), num_ranks)}
        against = {index: reason for part in all_ranks(mine) for index, reason in part.items() if reason}
        kept[task] = [prompt for index, prompt in enumerate(found) if index not in against]
        dropped.update(against.values())
        if not kept[task]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items()))
            raise UserError(
                f"No source of the {len(found)} prompts of task {task!r} can be used ({reasons}); import others."
            )
    return kept, dropped


def gather(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts of all ranks, by place and sample: the same list on every rank."""
    found = [rollout for part in all_ranks(list(rollouts)) for rollout in part]
    return sorted(found, key=lambda rollout: (rollout.place, rollout.sample))


def all_ranks(value: Any) -> list[Any]:
    """A plain value of every rank, in order of rank."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def draw_sheet(pictures: Sequence[Picture]) -> bytes:
    """A PNG with one row a prompt: the source of an edit, then its rollouts."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(sheet([picture.images for picture in pictures], side=72)).save(buffer, "png")
    return buffer.getvalue()


def _rollout(order: _Order, codes: Codes, sampled: Floats, log_kept: Floats, reward: Reward) -> Rollout:
    return Rollout(
        place=order.draw.place, sample=order.sample, task=order.draw.prompt.task, prompt=order.prompt,
        codes=codes, sampled=sampled, log_kept=log_kept, reward=reward,
    )  # fmt: skip


def _judgeable(draw: Draw, image: Pixels) -> Judgeable:
    prompt = draw.prompt
    source = encode_image(decode_image(prompt.source)).data if prompt.source else None
    png = encode_image(image).data
    return Judgeable(task=prompt.task, prompt=prompt.text, meta=prompt.meta, image=png, source=source)
