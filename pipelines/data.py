"""Data: from a crawl, data sets and weights to curated image shards.

crawl ── extract ── filter ── download ─┐
data sets ── import ────────────────────┴── curate ── images
"""

from dataclasses import dataclass
from typing import Any

from components.data.curate_images import curate_images
from components.data.download_images import download_images
from components.data.extract_pairs import extract_pairs
from components.data.filter_pairs import filter_pairs
from components.data.import_model import import_model
from components.data.import_samples import import_samples
from pipelines.step import Step


@dataclass(frozen=True)
class Ready:
    """Artifacts that the model is made of."""

    images: Any
    prompts: Any
    evaluation: Any
    encoder: Any
    language_model: Any
    autoencoder: Any
    backbone: Any = None
    """What the detokenizer starts from, where the recipe names it."""


def data(step: Step, world: Any = None, teachers: Any = None) -> Ready:
    """Bring weights and data sets in, and turn a crawl into curated images: alone, or added to the `earlier` ones."""
    encoder = step("import-model-encoder", import_model, source=teachers)
    language_model = step("import-model-language-model", import_model, source=teachers)
    autoencoder = step("import-model-autoencoder", import_model, source=teachers)
    backbone = None
    if step.runs("import-model-backbone"):
        backbone = step("import-model-backbone", import_model, source=teachers)
    imported = step("import-samples-training", import_samples, source=world)
    prompts = step("import-samples-prompts", import_samples, source=world)
    evaluation = step("import-samples-evaluation", import_samples, source=world)

    earlier = step.setting("earlier")
    pairs = step("extract-pairs", extract_pairs, crawl=world)
    kept = step("filter-pairs", filter_pairs, pairs=pairs, earlier=earlier)
    crawled = step(
        "download-images", download_images, pairs=kept, site=world, earlier=earlier, attempt=step.setting("attempt")
    )
    images = step(
        "curate-images", curate_images,
        crawled=crawled, imported=imported, scorer=encoder, evaluation=evaluation, earlier=earlier,
    )  # fmt: skip
    return Ready(images, prompts, evaluation, encoder, language_model, autoencoder, backbone)
