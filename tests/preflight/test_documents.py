"""Lengths of documents, shares, and what the sources must give."""

import dataclasses
from typing import Any

import pytest

from arm import recipes
from arm.preflight import documents
from arm.preflight.documents import Kind, kinds_of, shares_at
from arm.preflight.needs import samples_planned
from arm.recipes import Recipe
from arm.recipes.facts import DataSet
from arm.tokenizer.config import ResolutionConfig
from arm.training.config import StageConfig

SQUARE = ((512, 512, 1.0),)


def stage(recipe: Recipe, **changes: Any) -> StageConfig:
    config: StageConfig = recipe.config("train-model-pretrain")
    return dataclasses.replace(config, **changes)


def kind(recipe: Recipe, config: StageConfig, name: str) -> Kind:
    return next(item for item in kinds_of(recipe, config, 16) if item.name == name)


def test_an_image_of_512_pixels_has_1024_codes() -> None:
    resolution = ResolutionConfig(min_short_side=256, max_long_side=512)
    assert list(documents.grids_of(DataSet(sizes=SQUARE), resolution, 16)) == [(32, 32, 1.0)]


def test_shares_of_kinds_follow_from_those_of_sources() -> None:
    found = shares_at(recipes.find("arm_7b").config("train-model-pretrain"), 0.5)
    assert found["caption"] == pytest.approx(0.03)
    assert found["question"] == pytest.approx(0.07)
    assert found["edit"] == pytest.approx(0.04)
    assert found["text_to_image"] == 0.70
    assert sum(found.values()) == pytest.approx(1)


def test_a_text_to_image_document_has_its_text_in_nine_of_ten() -> None:
    recipe = recipes.find("small")
    only = {"captions": DataSet(num_samples=10, text_tokens=100, sizes=SQUARE)}
    recipe = recipe.derive("x", "y", datasets={**recipe.datasets, **only}, crawl=None)
    found = kind(recipe, stage(recipe), "text_to_image")
    own = [(length, share) for length, share in found.lengths if length in (1_129, 1_029)]
    assert own[0][1] / own[1][1] == pytest.approx(9)  # drop_text is .1


def test_attention_costs_the_mean_square_over_the_mean() -> None:
    two = Kind("edit", 1.0, (), ((100.0, 0.5), (300.0, 0.5)))
    assert (two.mean, two.squares) == (200, (100**2 + 300**2) / 2 / 200)


def test_a_falling_share_counts_with_its_mean() -> None:
    recipe = recipes.find("small")
    mixture = dataclasses.replace(
        stage(recipe).mixture, text_to_image=((0.0, 0.7), (1.0, 0.5)), text_only=((0.0, 0.05), (1.0, 0.25))
    )
    assert kind(recipe, stage(recipe, mixture=mixture), "text_to_image").share == pytest.approx(0.6)


def test_a_limit_of_the_import_comes_before_the_size_of_the_set() -> None:
    captions = next(source for source in documents.sources_of(recipes.find("small")) if source.name == "captions")
    assert captions.facts.num_samples == 20_000_000  # of 27.2M


def test_a_source_that_does_not_say_its_size_gives_what_is_lacking() -> None:
    recipe = recipes.find("arm_7b")
    config: StageConfig = recipe.config("train-model-pretrain")
    drawn = kind(recipe, config, "text_to_image")
    tokens = 0.70 * config.steps * config.rows_per_step * config.sequence_length
    planned = samples_planned(recipe)
    assert planned["captions"] + planned["crawl"] == pytest.approx(tokens / drawn.mean)
    assert planned["crawl"] == round(90_000 * 40_000 * 0.2 * 0.6 * 0.3)


def test_variants_that_nobody_makes_or_that_share_a_task_are_refused() -> None:
    recipe = recipes.find("arm_7b")
    config = stage(recipe, variants=("understanding", "images-512", "images-1024", "edits"))
    first, second = documents.variant_refusals(recipe, "train-model-pretrain", config)
    assert "'edits', but tokenize-images makes understanding, images-512" in first
    assert "the task text_to_image from images-512 and images-1024" in second
