"""Rectified flow (Eq. 2): the path, its times, its loss and an Euler sampler, for pixels and for latents alike.

x_t = t x_1 + (1 - t) x_0     velocity = x_1 - x_0     t = 0 noise, t = 1 data
"""

from collections.abc import Callable

import torch
from torch import Tensor

from arm.tokenizer.config import FlowConfig

LOGIT_MEAN, LOGIT_STD = -0.8, 0.8
"""JiT (arXiv 2511.13720), table 9."""
MIN_REMAINING = 0.05
"""Smallest 1 - t that divides: bounds the velocity made of a predicted x_1 (JiT uses the same)."""

Network = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, ...), t (B,)) to its prediction: the velocity or x_1."""


def sample_times(count: int, config: FlowConfig, generator: torch.Generator) -> Tensor:
    """Times (count,) in [0, 1)."""
    if config.time_sampling == "uniform":
        return torch.rand(count, generator=generator)
    return torch.sigmoid(torch.randn(count, generator=generator) * LOGIT_STD + LOGIT_MEAN)


def flow_loss(network: Network, data: Tensor, config: FlowConfig, generator: torch.Generator) -> Tensor:
    """Mean squared error of the velocity at random times and noises; `data` (B, ...) is x_1."""
    times = sample_times(len(data), config, generator).to(data.device)
    noise = torch.randn(data.shape, generator=generator).to(data.device)
    mixed = interpolate(data, noise, times)
    velocity = as_velocity(network(mixed, times), mixed, times, config)
    return (velocity - _target(data, noise, mixed, times, config)).square().mean()


def interpolate(data: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """x_t = t x_1 + (1 - t) x_0."""
    t = _expand(times, data)
    return t * data + (1 - t) * noise


def as_velocity(prediction: Tensor, mixed: Tensor, times: Tensor, config: FlowConfig) -> Tensor:
    """The velocity that a prediction means: itself, or (x_1 - x_t) / (1 - t)."""
    if config.prediction == "velocity":
        return prediction.float()
    return (prediction.float() - mixed) / (1 - _expand(times, mixed)).clamp(min=MIN_REMAINING)


@torch.no_grad()
def integrate(network: Network, noise: Tensor, steps: int, config: FlowConfig) -> Tensor:
    """Euler from noise to data in equal steps of t."""
    x = noise
    for step in range(steps):
        times = torch.full((len(x),), step / steps, device=x.device)
        x = x + as_velocity(network(x, times), x, times, config) / steps
    return x


def _target(data: Tensor, noise: Tensor, mixed: Tensor, times: Tensor, config: FlowConfig) -> Tensor:
    """x_1 - x_0; near t = 1 clamped as the prediction is, so that a perfect x_1 has no loss."""
    return data - noise if config.prediction == "velocity" else as_velocity(data, mixed, times, config)


def _expand(times: Tensor, like: Tensor) -> Tensor:
    return times.view(-1, *([1] * (like.ndim - 1)))
