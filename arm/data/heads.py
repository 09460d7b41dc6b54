"""Heads: a few layers on an image embedding that give one number, from weights that the user brings.

    head.safetensors   layers.0.weight (1024, 768)  layers.0.bias (1024,)  layers.2.weight …  the last one (1, n)

LAION's aesthetic predictor, NSFW and watermark heads have this form. Only safetensors are read: a pickle runs code.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arm.data.config import HeadConfig
from arm.errors import UserError
from arm.outside import outside_files

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """A head made ready."""

    config: HeadConfig
    layers: tuple[tuple[Floats, Floats], ...]
    """Weight (out, in) and bias (out,) of each layer."""

    def __call__(self, embeddings_BD: Floats) -> Floats:
        """Scores of B embeddings: array (B,)."""
        width = self.layers[0][0].shape[1]
        if embeddings_BD.shape[1] != width:
            raise UserError(
                f"The head {self.config.name!r} reads embeddings of width {width}, the scorer gives "
                f"{embeddings_BD.shape[1]}; give the weights that belong to this scorer."
            )
        values = embeddings_BD.astype(np.float32)
        if self.config.normalise:
            values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        for number, (weight, bias) in enumerate(self.layers):
            values = (_activated(values, self.config.activation) if number else values) @ weight.T + bias
        return np.asarray(1 / (1 + np.exp(-values[:, 0])) if self.config.sigmoid else values[:, 0], np.float32)


def load_head(config: HeadConfig) -> Head:
    """Read a head's weights; UserError when they do not form a chain of layers with one output."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    files = list(outside_files(config.path).values())
    if len(files) != 1:
        raise UserError(
            f"The head {config.name!r} is {len(files)} files at {config.path!r}; give one safetensors file."
        )
    try:
        tensors = load(Path(files[0]).read_bytes())
    except SafetensorError as error:
        raise UserError(f"{config.path} is no safetensors file ({error}); convert the weights first.") from None
    names = sorted((name.removesuffix(".weight") for name in tensors if name.endswith(".weight")), key=_in_order)
    layers = tuple((_floats(tensors[f"{name}.weight"]), _bias(tensors, name)) for name in names)
    widths = [weight.shape for weight, _ in layers]
    chained = all(len(shape) == 2 for shape in widths) and all(
        first[0] == second[1] for first, second in pairwise(widths)
    )
    if not layers or not chained or widths[-1][0] != 1:
        shapes = ", ".join(f"{name} {tuple(tensors[f'{name}.weight'].shape)}" for name in names) or "no weight at all"
        raise UserError(f"{config.path} is no chain of linear layers with one output; it holds {shapes}.")
    return Head(config, layers)


def _bias(tensors: dict[str, NDArray[np.generic]], name: str) -> Floats:
    rows = tensors[f"{name}.weight"].shape[0]
    return _floats(tensors.get(f"{name}.bias", np.zeros(rows)))


def _floats(values: NDArray[np.generic]) -> Floats:
    return np.asarray(values, np.float32)


def _in_order(name: str) -> list[tuple[int, str]]:
    """`layers.10` after `layers.9`."""
    return [(int(word), "") if word.isdigit() else (0, word) for word in re.split(r"(\d+)", name)]


def _activated(values: Floats, activation: str) -> Floats:
    if activation == "relu":
        return np.maximum(values, 0)
    if activation == "gelu":  # Hendrycks and Gimpel's approximation by tanh
        cubic = np.float32(0.7978845608) * (values + np.float32(0.044715) * values**3)
        return np.asarray(0.5 * values * (1 + np.tanh(cubic)), np.float32)
    return values
