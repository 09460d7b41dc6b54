"""Parameters of every model from its geometry: numbers of the recipe, or the config.json of a checkpoint that is there.

Qwen2.5-7B    28 layers of 233,057,792 + two matrices of 152,064 x 3,584 + a norm   ->   7,615,616,512
with 128 shape tokens and 65,536 codes                                             ->   8,086,296,064
"""

import dataclasses
import json
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from arm.errors import UserError
from arm.recipes import Recipe
from arm.recipes.facts import DiffusionGeometry, LanguageGeometry, VisionGeometry


def language_parameters(model: LanguageGeometry) -> int:
    """All parameters; a tied matrix counts once."""
    matrices = 1 if model.tied else 2
    return model.layers * layer_parameters(model) + matrices * model.vocabulary * model.width + model.width


def layer_parameters(model: LanguageGeometry) -> int:
    """One decoder layer: queries, keys and values with biases, output, three matrices of the MLP, two norms."""
    width, kv = model.width, kv_width(model)
    attention = width * width + width + 2 * (width * kv + kv) + width * width
    return attention + 3 * width * model.mlp_width + 2 * width


def kv_width(model: LanguageGeometry) -> int:
    """Width of keys, and of values."""
    return model.width // model.heads * model.kv_heads


def with_codes(model: LanguageGeometry, num_shapes: int, num_codes: int) -> LanguageGeometry:
    """The model of the stages: shape tokens and codes appended, head and embedding untied."""
    return dataclasses.replace(model, vocabulary=model.vocabulary + num_shapes + num_codes, tied=False)


def vision_parameters(model: VisionGeometry) -> int:
    """The image tower: per layer four square matrices and two of the MLP; norms and biases left out (under 1%)."""
    return model.layers * (4 * model.width**2 + 2 * model.width * model.mlp_width) + 3 * model.patch**2 * model.width


def most_codes(model: VisionGeometry, *sides: int) -> int:
    """Codes of the largest image whose longer side is one of these, in pixels: a square."""
    return max(max(side // model.patch, 1) ** 2 for side in sides)


def block_parameters(width: int, blocks: int, *, conditioned: bool) -> int:
    """Our own transformer blocks: 12 width^2 each, and 6 more for the modulation of a DiT."""
    return blocks * (18 if conditioned else 12) * width**2


def num_codes(recipe: Recipe) -> int:
    """Size of the codebook of the recipe's tokenizer."""
    return prod(recipe.config("train-tokenizer").quantizer.levels)


def language_model(recipe: Recipe) -> LanguageGeometry:
    """What the stages start from: a checkpoint that is there, the toy's teacher, or the recipe's numbers."""
    if "train-teachers" in recipe.configs:
        teacher = recipe.config("train-teachers").language_model
        return LanguageGeometry(
            layers=teacher.num_layers, width=teacher.width, heads=teacher.num_heads, kv_heads=teacher.num_kv_heads,
            mlp_width=teacher.mlp_width, vocabulary=teacher.vocabulary_size + 32,
        )  # fmt: skip
    found = _checkpoint_config(recipe, "language_model")
    if found is None:
        return _of_recipe(recipe, "language_model", LanguageGeometry)
    return LanguageGeometry(
        layers=found["num_hidden_layers"], width=found["hidden_size"], heads=found["num_attention_heads"],
        kv_heads=found["num_key_value_heads"], mlp_width=found["intermediate_size"], vocabulary=found["vocab_size"],
        tied=found.get("tie_word_embeddings", False),
    )  # fmt: skip


def encoder(recipe: Recipe) -> VisionGeometry:
    """The image encoder, found in the same places."""
    if "train-teachers" in recipe.configs:
        teacher = recipe.config("train-teachers").siglip
        return VisionGeometry(
            layers=teacher.num_vision_layers, width=teacher.width, mlp_width=4 * teacher.width, patch=teacher.patch,
            text_parameters=teacher.num_text_layers * 12 * teacher.width**2,
        )  # fmt: skip
    found = (_checkpoint_config(recipe, "encoder") or {}).get("vision_config")
    if not found or "num_hidden_layers" not in found:
        return _of_recipe(recipe, "encoder", VisionGeometry)
    known = recipe.models.get("encoder")
    return VisionGeometry(
        layers=found["num_hidden_layers"], width=found["hidden_size"], mlp_width=found["intermediate_size"],
        patch=found["patch_size"], text_parameters=known.text_parameters if known else 0,
    )  # fmt: skip


def detokenizer(recipe: Recipe, patch: int) -> DiffusionGeometry:
    """What renders codes: the recipe's backbone, or our own DiT of the config's size."""
    config = recipe.config("train-detokenizer")
    if config.backbone != "dit":
        return _of_recipe(recipe, "backbone", DiffusionGeometry)
    flow = config.flow
    return DiffusionGeometry(
        parameters=block_parameters(flow.width, flow.num_blocks, conditioned=True), blocks=flow.num_blocks,
        width=flow.width, pixels_per_token=patch, codes_as_tokens=False, autoencoder_parameters=100_000,
    )  # fmt: skip


Geometry = TypeVar("Geometry", LanguageGeometry, VisionGeometry, DiffusionGeometry)


def _of_recipe(recipe: Recipe, role: str, kind: type[Geometry]) -> Geometry:
    if not isinstance(found := recipe.models.get(role), kind):
        raise UserError(
            f"The recipe {recipe.name} says nothing about its {role}, and there is no checkpoint at its path; "
            f"put the checkpoint there, or name its {kind.__name__} in Recipe.models."
        )
    return found


def _checkpoint_config(recipe: Recipe, role: str) -> dict[str, Any] | None:
    """The config.json of an imported checkpoint that is on this machine."""
    config = recipe.configs.get(f"import-model-{role.replace('_', '-')}")
    path = Path(config.path) / "config.json" if config else None
    if path is None or not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}); fetch the checkpoint again.") from None
    return found
