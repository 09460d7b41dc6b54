"""Documents that a stage reads: how long they are, how many a source must give, and what share it has.

Lengths follow from the images' sizes, the stage's resolutions and the patch, as in training:

    512 x 512, patch 16   ->   32 x 32 = 1,024 codes   ->   1,029 tokens with the frame of an image
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from arm.recipes import Recipe
from arm.recipes.facts import DataSet
from arm.tokenizer.config import ResolutionConfig, VariantConfig
from arm.tokenizer.resolution import target_size
from arm.training.config import MixtureConfig, StageConfig, share_at

IMAGE_FRAME = 5
"""Tokens of an image beside its codes: start, height, width, pad, end."""
TASKS_OF_KIND = {
    "text": ("text",),
    "caption": ("caption", "text_to_image"),
    "question": ("question",),
    "text_to_image": ("text_to_image", "caption"),
    "interleaved_video": ("interleaved_video",),
    "edit": ("edit",),
    "interleaved_web": ("interleaved_web",),
}
"""Which samples a kind of document is made of; a captioned image serves in both directions."""
ALT_TOKENS = 30.0
"""Of an alt text (ours)."""
QUANTILES = tuple(-math.log(1 - (index + 0.5) / 8) for index in range(8))
"""Lengths of texts are spread like this about their mean (an exponential distribution; ours)."""
Lengths = tuple[tuple[float, float], ...]
"""(tokens, share of the documents)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A data set of the recipe, or its crawl."""

    name: str
    task: str
    facts: DataSet


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of document of a stage."""

    name: str
    share: float
    """Mean share of the stage's tokens."""
    sources: tuple[Source, ...]
    lengths: Lengths
    targets: tuple[float, float] = (0.0, 0.0)
    """Codes and text tokens that a document is learned from, on average."""

    @property
    def mean(self) -> float:
        """Mean length."""
        return sum(length * share for length, share in self.lengths)

    @property
    def squares(self) -> float:
        """Mean squared length over mean length: what attention costs a token."""
        return sum(length**2 * share for length, share in self.lengths) / max(self.mean, 1e-9)

    @property
    def num_samples(self) -> int | None:
        """Samples there are; None when a source does not say."""
        counts = [source.facts.num_samples for source in self.sources]
        return None if None in counts else sum(count or 0 for count in counts)


def sources_of(recipe: Recipe) -> list[Source]:
    """The imported data sets, and what the crawl gives."""
    imported = recipe.config("import-samples-training").sources
    found = [Source(item.name, item.task, _limited(recipe, item.name, item.num_samples)) for item in imported]
    download = recipe.configs.get("download-images")
    if download is not None:
        known = recipe.datasets.get(download.source, DataSet(text_tokens=ALT_TOKENS))
        there = crawled_images(recipe) if known.num_samples is None else known.num_samples
        found.append(Source(download.source, download.task, dataclasses.replace(known, num_samples=there)))
    return found


def crawled_images(recipe: Recipe) -> int | None:
    """Images that a crawl leaves after filter, download and curation."""
    if (crawl := recipe.crawl) is None:
        return None
    kept = crawl.kept_by_filter * crawl.downloaded * crawl.kept_by_curation
    return round(crawl.num_files * crawl.pairs_per_file * kept)


def shares_at(stage: StageConfig, fraction: float) -> dict[str, float]:
    """Share of tokens of every kind at a fraction of the stage: image_to_text .10 -> caption .03, question .07."""
    mixture = stage.mixture
    whole = {"tokens": stage.steps * stage.rows_per_step * stage.sequence_length, "steps": stage.steps}
    place = fraction * whole.get(getattr(mixture, "schedule_unit", "fraction"), 1)
    understanding = share_at(mixture.image_to_text, place)
    web = share_at(mixture.interleaved_web, place)
    return {
        "text": share_at(mixture.text_only, place),
        "caption": understanding * mixture.caption_share,
        "question": understanding * (1 - mixture.caption_share),
        "text_to_image": share_at(mixture.text_to_image, place),
        "interleaved_video": share_at(mixture.interleaved_video, place),
        "edit": web * mixture.edit_share,
        "interleaved_web": web * (1 - mixture.edit_share),
    }


def kinds_of(recipe: Recipe, stage: StageConfig, patch: int) -> list[Kind]:
    """The kinds of documents with a share."""
    places = [index / 20 for index in range(21)]
    along = [shares_at(stage, place) for place in places]
    every, variants = sources_of(recipe), chosen_variants(recipe, stage)
    found = []
    for name, tasks in TASKS_OF_KIND.items():
        mean = sum((a[name] + b[name]) / 2 for a, b in pairwise(along)) / (len(along) - 1)
        if mean <= 0:
            continue
        own = tuple(source for source in every if source.task in tasks)
        lengths = [_lengths(name, source, variants, stage.mixture, patch) for source in own]
        targets = [_targets(name, source, variants, stage, patch) for source in own]
        weights = _weights(own, lengths)
        means = [sum(w * each[part] for w, each in zip(weights, targets, strict=True)) for part in (0, 1)]
        found.append(Kind(name, mean, own, _mixed(weights, lengths), (means[0], means[1])))
    return found


def chosen_variants(recipe: Recipe, stage: StageConfig) -> list[VariantConfig]:
    """The variants of token shards that a stage reads; unknown names are left to `variant_refusals`."""
    known = recipe.config("tokenize-images").variants
    return [variant for variant in known if not stage.variants or variant.name in stage.variants]


def variant_refusals(recipe: Recipe, step: str, stage: StageConfig) -> list[str]:
    """Variants that tokenize-images does not make, and tasks that two chosen variants hold."""
    known = [variant.name for variant in recipe.config("tokenize-images").variants]
    wrong = [
        f"{step} reads the variant {name!r}, but tokenize-images makes {', '.join(known)}; name one of them."
        for name in stage.variants
        if name not in known
    ]
    chosen = chosen_variants(recipe, stage)
    if getattr(stage.mixture, "variant_weights", ()):
        return wrong  # each sample is read in one of them
    for task in TASKS_OF_KIND:
        takers = [variant.name for variant in chosen if variant.takes(task)]
        if len(takers) > 1:
            wrong.append(f"{step} would read the task {task} from {' and '.join(takers)}; choose one of them.")
    return wrong


def grids_of(facts: DataSet, resolution: ResolutionConfig, patch: int) -> Iterator[tuple[int, int, float]]:
    """(rows, columns, share) of codes of a data set's images at a resolution."""
    whole = sum(share for _, _, share in facts.sizes)
    for height, width, share in facts.sizes:
        rows, columns = target_size(height, width, resolution, patch)
        yield rows // patch, columns // patch, share / whole


def _lengths(
    kind: str, source: Source, variants: list[VariantConfig], mixture: MixtureConfig, patch: int
) -> list[tuple[float, float]]:
    facts = source.facts
    if kind == "text":
        return [(facts.text_tokens * quantile + 1, 1 / len(QUANTILES)) for quantile in QUANTILES]
    variant = next((variant for variant in variants if variant.takes(source.task)), None)
    if variant is None:
        return []
    found: list[tuple[float, float]] = []
    for rows, columns, share in grids_of(facts, variant.resolution, patch):
        image = rows * columns + IMAGE_FRAME
        found += [(length, share * part) for length, part in _drops(kind, image, facts, mixture) if part > 0]
    return found


def _drops(kind: str, image: int, facts: DataSet, mixture: MixtureConfig) -> list[tuple[float, float]]:
    """Lengths of a document with and without what it may lose, and how often."""
    images, text = facts.images * image, facts.text_tokens
    if kind == "text_to_image":
        return [(images + text, 1 - mixture.drop_text), (images, mixture.drop_text)]
    if kind == "edit":
        lost = (mixture.edit_drop_text, mixture.edit_drop_image, mixture.edit_drop_both)
        return [(images + text, 1 - sum(lost)), (images, lost[0]), (image + text, lost[1]), (image, lost[2])]
    return [(images + text + (2 * facts.answers if kind == "question" else 1), 1.0)]


def _targets(
    kind: str, source: Source, variants: list[VariantConfig], stage: StageConfig, patch: int
) -> tuple[float, float]:
    """(codes, text tokens) that a document is learned from; half of a conversation is answers (ours)."""
    facts, codes = source.facts, 0.0
    variant = next((variant for variant in variants if variant.takes(source.task)), None)
    if variant is not None:
        codes = sum(rows * columns * share for rows, columns, share in grids_of(facts, variant.resolution, patch))
    whole = (facts.images * codes, facts.text_tokens)
    if stage.loss_on == "all":
        return whole
    chosen = {
        "text": (0.0, facts.text_tokens),
        "caption": (0.0, facts.text_tokens),
        "question": (0.0, facts.text_tokens / 2),
        "text_to_image": (codes, 0.0),
        "edit": (codes, 0.0),
    }
    return chosen.get(kind, whole)


def _weights(sources: tuple[Source, ...], lengths: list[list[tuple[float, float]]]) -> list[float]:
    """The part of a kind's documents from each source: by its number of samples where all say theirs."""
    counts = [source.facts.num_samples for source in sources]
    weights = [1.0] * len(counts) if None in counts else [float(count or 0) for count in counts]
    whole = sum(weight for weight, own in zip(weights, lengths, strict=True) if own) or 1.0
    return [weight / whole if own else 0.0 for weight, own in zip(weights, lengths, strict=True)]


def _mixed(weights: list[float], lengths: list[list[tuple[float, float]]]) -> Lengths:
    """Lengths over all sources of a kind."""
    return tuple(
        (length, share * weight) for weight, own in zip(weights, lengths, strict=True) for length, share in own
    )


def _limited(recipe: Recipe, name: str, limit: int | None) -> DataSet:
    """What is known of a data set; a limit of the import counts before its size."""
    known = recipe.datasets.get(name, DataSet())
    if limit is None:
        return known
    return dataclasses.replace(known, num_samples=min(limit, known.num_samples or limit))
