"""Memory of one rank: states by ZeRO stage, activations with and without checkpointing, logits of a chunk.

P parameters on N ranks, bfloat16 (ZeRO, arXiv 1910.02054, section 3; K = 12 bytes):

    stage          0       1          2          3
    parameters     2P      2P         2P         2P/N
    gradients      2P      2P         2P/N       2P/N
    masters        4P      4P/N       4P/N       4P/N
    moments        8P      8P/N       8P/N       8P/N

Gradients that are added up in float32 take 4P and 4P/N; at stage 1 one in bfloat16 goes as soon as it is added.

Activations of a decoder layer per token, by what its backward pass needs (counted as in arXiv 2205.05198, for grouped
keys and a gated MLP): 9 widths, 4 key widths, 4 MLP widths; in bfloat16 11 widths, because norms keep float32 copies.
The dtype `auto` counts as bfloat16.
"""

from dataclasses import dataclass

from arm.preflight.models import kv_width, language_parameters
from arm.recipes.facts import LanguageGeometry

BUCKET_ELEMENTS = 500_000_000
"""The engine's buckets of gradients and of gathered weights."""


@dataclass(frozen=True, slots=True)
class Part:
    """So many bytes of a rank's memory, and how they come about."""

    name: str
    size: float
    how: str


def zero_states(
    parameters: float,
    *,
    stage: int,
    ranks: int,
    dtype: str = "bfloat16",
    gradient_dtype: str = "model",
    muon: bool = False,
    ema: bool = False,
) -> list[Part]:
    """Parameters, gradients, masters and moments of a rank."""
    width = 4 if dtype == "float32" else 2
    gradient_width = 4 if gradient_dtype == "float32" else width
    moments = 4 if muon else 8
    held = [
        ("parameters", width, 3),
        ("gradients", gradient_width, 2),
        ("float32 masters", 4, 1),
        ("moments", moments, 1),
        *([("running average", 4, 1)] if ema else []),
    ]
    parts = [
        Part(name, parameters * each / (ranks if stage >= shared_from else 1), _how(each, stage >= shared_from, ranks))
        for name, each, shared_from in held
    ]
    buckets = min(parameters, BUCKET_ELEMENTS) * (gradient_width + width)
    return [*parts, Part("buckets", buckets, "2 of at most 500M elements: gradients, and weights that are gathered")]


def language_activations(
    model: LanguageGeometry, tokens: float, *, checkpointing: bool, dtype: str = "bfloat16"
) -> list[Part]:
    """What a forward pass over so many tokens keeps for its backward pass, and the layer at work."""
    width = 4 if dtype == "float32" else 2
    layer = tokens * width * _elements(model, dtype)
    gradients = tokens * width * (2 * model.width + 3 * model.mlp_width)
    working = Part("gradients of a layer's activations", gradients, "2 widths and 3 MLP widths a token")
    if not checkpointing:
        return [Part("activations", model.layers * layer, f"{model.layers} layers x {layer / 1e9:.2f} GB"), working]
    kept = model.layers * tokens * model.width * width
    return [
        Part("activations kept", kept, f"the inputs of {model.layers} layers; the rest is computed twice"),
        Part("activations of a layer", layer, "11 widths (float32: 9), 4 key widths and 4 MLP widths a token"),
        working,
    ]


def _elements(model: LanguageGeometry, dtype: str) -> int:
    widths = 9 if dtype == "float32" else 11
    return widths * model.width + 4 * kv_width(model) + 4 * model.mlp_width


def logits(positions: float, rows: int) -> Part:
    """Logits of a chunk: bfloat16 once, float32 with their gradient."""
    return Part("logits", positions * rows * 10, f"{positions:,.0f} positions x {rows:,} rows x (2 + 4 + 4) bytes")


def frozen_language(model: LanguageGeometry, name: str, width: int = 2) -> Part:
    """A model that does not learn."""
    size = language_parameters(model)
    return Part(name, size * width, f"{size / 1e9:.2f}B parameters x {width} bytes, frozen")


def cache(model: LanguageGeometry, images: float, tokens: float) -> Part:
    """Keys and values of a batch that is being sampled."""
    each = 2 * model.layers * kv_width(model) * 2
    return Part(
        "key-value cache", images * tokens * each, f"{images:,.0f} images x {tokens:,.0f} tokens x {each:,} bytes"
    )


def block_activations(tokens: float, width: int, blocks: int) -> float:
    """Bytes that transformer blocks keep for the backward pass: 34 a token and width (arXiv 2205.05198, flash attention)."""
    return 34.0 * tokens * width * blocks


def total(parts: list[Part]) -> float:
    """Their sum in bytes."""
    return sum(part.size for part in parts)


def _how(each: int, shared: bool, ranks: int) -> str:
    return f"{each} bytes a parameter" + (f" over {ranks} ranks" if shared and ranks > 1 else "")
