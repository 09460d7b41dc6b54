"""Parameters from geometry: published totals, and the vocabulary with codes."""

import json
from pathlib import Path

import pytest

from arm import recipes
from arm.data.config import ImportModelConfig
from arm.errors import UserError
from arm.preflight import models
from arm.recipes.facts import QWEN_05B, QWEN_7B, SIGLIP2_SO400M


def test_the_parameters_of_qwen_are_those_of_their_cards() -> None:
    assert models.language_parameters(QWEN_7B) == 7_615_616_512
    assert models.language_parameters(QWEN_05B) == 494_032_768  # head and embedding are one matrix


def test_a_layer_of_qwen_7b_is_worked_out_by_hand() -> None:
    attention = 2 * 3_584 * 3_584 + 3_584 + 2 * (3_584 * 512 + 512)
    assert models.layer_parameters(QWEN_7B) == attention + 3 * 3_584 * 18_944 + 2 * 3_584 == 233_057_792


def test_codes_and_shapes_make_qwen_7b_a_model_of_8_09_billion() -> None:
    model = models.with_codes(QWEN_7B, 128, 65_536)
    assert model.vocabulary == 217_728
    assert models.language_parameters(model) == 7_615_616_512 + 2 * 65_664 * 3_584 == 8_086_296_064


def test_codes_untie_the_small_model() -> None:
    model = models.with_codes(QWEN_05B, 128, 65_536)
    rows = 151_936 + 65_664
    assert models.language_parameters(model) == 494_032_768 - 151_936 * 896 + 2 * rows * 896


def test_the_most_codes_are_those_of_a_square_of_the_longest_side() -> None:
    assert models.most_codes(SIGLIP2_SO400M, 976) == 61 * 61
    assert models.most_codes(SIGLIP2_SO400M, 512, 1_024) == 64 * 64
    assert models.most_codes(SIGLIP2_SO400M, 8) == 1


def test_the_image_tower_is_near_its_published_size() -> None:
    assert models.vision_parameters(SIGLIP2_SO400M) == pytest.approx(428e6, rel=0.05)


def test_a_checkpoint_that_is_there_comes_before_the_recipes_numbers(tmp_path: Path) -> None:
    config = {
        "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 16, "vocab_size": 10, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    here = ImportModelConfig(path=str(tmp_path), role="language_model")
    recipe = recipes.find("small").derive("x", "y", configs={"import-model-language-model": here})
    found = models.language_model(recipe)
    assert (found.layers, found.width, found.vocabulary, found.tied) == (2, 8, 10, True)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is no JSON .*fetch the checkpoint again"):
        models.language_model(recipe)


def test_without_numbers_and_without_a_checkpoint_the_plan_says_what_it_lacks() -> None:
    recipe = recipes.find("small").derive("x", "y", models={})
    with pytest.raises(UserError, match=r"says nothing about its language_model.*LanguageGeometry"):
        models.language_model(recipe)


def test_the_toys_models_are_those_of_its_teachers() -> None:
    recipe = recipes.find("toy")
    assert (models.language_model(recipe).width, models.encoder(recipe).patch) == (192, 12)
    assert models.num_codes(recipe) == 512
