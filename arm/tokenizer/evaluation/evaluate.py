"""evaluate-tokenizer: what the codes of a tokenizer keep of images: classes, pixels, and how the codebook is used.

    scores.json                  {metric: value}, each also by size: "zero_shot/kinds/top1", "zero_shot/kinds/top1/36x36"
    samples/reconstruction.png   originals, the autoencoder alone (an imported decoder has none), reconstructions
    samples/photographs.png      the same of photographs

Any tokenizer of the protocol is measured; zero-shot needs ours, whose features go through SigLIP's pooling head.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from arm.device import make_deterministic, rank_device
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.progress import track
from arm.storage import Folder
from arm.tokenizer.config import EvaluateTokenizerConfig, LinearProbeConfig, ZeroShotTask
from arm.tokenizer.evaluation.evaluation_set import (
    Batch,
    Example,
    batches,
    read_folder,
    read_photographs,
    read_samples_of,
)
from arm.tokenizer.evaluation.frechet import FeatureBackbone, read_features
from arm.tokenizer.evaluation.lpips import Lpips
from arm.tokenizer.evaluation.measuring import Columns, Measured, Subject, measure, summarise
from arm.tokenizer.evaluation.zero_shot import Classes, find_classes, label_of, templates_of
from arm.tokenizer.loading import detokenizer_folder, load_detokenizer
from arm.tokenizer.metrics import class_vectors, frechet_distance, logistic_regression
from arm.tokenizer.pictures import save_sheet
from arm.tokenizer.protocol import load_tokenizer, tokenizer_folder
from arm.tokenizer.text import TextTower
from arm.tokenizer.visual import VisualTokenizer

NUM_PICTURES = 24
APART = 20
"""Pixels between an image's lines and the next images' on a sheet."""
DIGITS = 6


def evaluate_tokenizer(
    *, tokenizer: Manifest, output: Folder, config: EvaluateTokenizerConfig, images: Manifest | None = None,
    evaluation: Manifest | None = None, encoder: Manifest | None = None, detokenizer: Manifest | None = None,
) -> Outcome:  # fmt: skip
    """Measure a tokenizer on held-out images, or on an evaluation set or folder; publish the scores and pictures."""
    make_deterministic(config.seed, config.threads)
    subject = _subject(tokenizer, detokenizer, config)
    _check(config, subject, images, evaluation, encoder)
    counts: Counter[str] = Counter()
    read = partial(batches, patch=subject.tokenizer.stride, batch_size=config.batch_size, counts=counts)
    examples = track(_evaluated(images, evaluation, config, counts), "evaluate-tokenizer: images")
    found = measure(read(examples, config.resolutions), subject, config.zero_shot, config, NUM_PICTURES)
    if not len(found):
        raise UserError("There is no image to evaluate; give held-out images, an evaluation set or a folder.")
    classes = {task.name: _classes(task, found, images) for task in config.zero_shot}
    columns = found.columns | _zero_shot(found, classes, config, encoder)
    if config.linear_probe:
        trained = read(_probe_examples(config.linear_probe, config, classes, images, counts), config.resolutions[:1])
        taught = measure(trained, Subject(subject.tokenizer), config.zero_shot, config)
        columns |= _linear_probe(taught, found, classes, config.linear_probe)
    metrics = summarise(found, columns, subject.tokenizer.levels) | _frechet_of_files(config)
    if found.pictures:
        save_sheet(output, "samples/reconstruction.png", *zip(*found.pictures, strict=True), apart=APART)
    if config.photographs:
        metrics |= _photographs(read, subject, output, config, counts)
    counts["images"] = len(found)
    counts.update(_too_small(found, "images"))
    counts.update({f"zero_shot/{name}/classes": len(each.names) for name, each in classes.items()})
    metrics = {name: round(value, DIGITS) for name, value in metrics.items()}
    output.write("scores.json", (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    return Outcome(counts=dict(counts), metrics=metrics)


def _subject(tokenizer: Manifest, detokenizer: Manifest | None, config: EvaluateTokenizerConfig) -> Subject:
    device = rank_device()
    backbone = config.frechet.backbone if config.frechet else ""
    return Subject(
        tokenizer=load_tokenizer(tokenizer_folder(tokenizer)).to(device),
        detokenizer=load_detokenizer(detokenizer_folder(detokenizer)).to(device) if detokenizer else None,
        backbone=FeatureBackbone(backbone, device) if backbone else None,
        lpips=Lpips(config.lpips, device) if config.lpips else None,
        with_encoder=bool(config.zero_shot),
    )


def _check(
    config: EvaluateTokenizerConfig, subject: Subject, images: Manifest | None, evaluation: Manifest | None,
    encoder: Manifest | None,
) -> None:  # fmt: skip
    """Refuse what could have no effect, or no image to read."""
    if not (images or evaluation or config.folder):
        raise UserError(
            "evaluate-tokenizer needs images: the input `images` or `evaluation`, or a folder in its config."
        )
    if evaluation and config.folder:
        raise UserError("evaluate-tokenizer has the input `evaluation` and a folder; give one of them.")
    if config.zero_shot and encoder is None:
        raise UserError("Zero-shot classification needs the input `encoder`: a SigLIP2 checkpoint with its text tower.")
    if config.zero_shot and not isinstance(subject.tokenizer, VisualTokenizer):
        raise UserError("Zero-shot classification needs a tokenizer over SigLIP: this one has no pooling head.")
    rendering = (config.photographs, subject.backbone, subject.lpips, config.steps, config.guidance)
    if subject.detokenizer is None and any(rendering):
        raise UserError(
            "photographs, a backbone, lpips, steps and guidance are for reconstructions: give the input `detokenizer`."
        )
    if config.linear_probe and not (images or config.linear_probe.folder):
        raise UserError("The linear probe learns from training images; give the input `images` or linear_probe.folder.")


def _evaluated(
    images: Manifest | None, evaluation: Manifest | None, config: EvaluateTokenizerConfig, counts: Counter[str]
) -> Iterator[Example]:
    if config.folder:
        examples = read_folder(config.folder, counts)
    elif evaluation:
        examples = read_samples_of(evaluation)
    else:
        assert images is not None
        examples = read_samples_of(images, held_out=True)
    return itertools.islice(examples, config.max_images)


def _classes(task: ZeroShotTask, found: Measured, images: Manifest | None) -> Classes:
    training = read_samples_of(images, held_out=False) if images else iter(())
    classes = find_classes(task, found.labels[task.name], (label_of(example, task) for example in training))
    if not any(classes.of(label) is not None for label in found.labels[task.name]):
        raise UserError(f"No evaluated image has a class of the zero-shot task {task.name!r}; check label and pattern.")
    return classes


def _zero_shot(
    found: Measured, classes: dict[str, Classes], config: EvaluateTokenizerConfig, encoder: Manifest | None
) -> Columns:
    """1 where the nearest class is the image's, from the codes' features and, as a ceiling, from the encoder's own."""
    columns: Columns = {}
    if encoder is None:
        return columns
    tower = TextTower(encoder.local_folder("model"))
    for task in config.zero_shot:
        texts = class_vectors(tower.embed, classes[task.name].names, templates_of(task)).cpu()
        places = places_of(found, task.name, classes)
        for name, vectors in (("top1", found.get("pooled")), ("encoder_top1", found.get("encoder"))):
            assert vectors is not None
            scores_NK = F.normalize(vectors.float(), dim=-1) @ texts.T
            columns[f"zero_shot/{task.name}/{name}"] = hits(scores_NK, places)
    return columns


def places_of(found: Measured, task: str, classes: dict[str, Classes]) -> Tensor:
    """The class of every image (N,), -1 without one."""
    places = (classes[task].of(label) for label in found.labels[task])
    return torch.tensor([-1 if place is None else place for place in places])


def hits(scores_NK: Tensor, places_N: Tensor) -> Tensor:
    """1 where the largest score is the class's, 0 where it is not, NaN without a class: (N,)."""
    return (scores_NK.argmax(-1) == places_N).double().where(places_N >= 0, torch.nan)


def _probe_examples(
    probe: LinearProbeConfig, config: EvaluateTokenizerConfig, classes: dict[str, Classes], images: Manifest | None,
    counts: Counter[str],
) -> Iterator[Example]:  # fmt: skip
    """Training images that have a class, `num_images` at most."""
    (task,) = (task for task in config.zero_shot if task.name == probe.task)
    if probe.folder:
        found = read_folder(probe.folder, counts)
    else:
        assert images is not None
        found = read_samples_of(images, held_out=False)
    labelled = (item for item in found if classes[task.name].of(label_of(item, task)) is not None)
    return itertools.islice(labelled, probe.num_images)


def _linear_probe(taught: Measured, found: Measured, classes: dict[str, Classes], probe: LinearProbeConfig) -> Columns:
    """1 where a logistic regression on vectors of training images is right: pooled z_q, and the mean of z_q."""
    if len(taught) < 2:
        raise UserError(f"The linear probe found {len(taught)} training images with a class of {probe.task!r}.")
    labels, places = places_of(taught, probe.task, classes), places_of(found, probe.task, classes)
    columns: Columns = {}
    for name in ("pooled", "mean"):
        train, test = taught.get(name), found.get(name)
        if train is not None and test is not None:
            num_classes = len(classes[probe.task].names)
            logits = logistic_regression(train, labels, test, num_classes, penalty=probe.penalty)
            columns[f"linear_probe/{name}"] = hits(logits, places)
    return columns


def _frechet_of_files(config: EvaluateTokenizerConfig) -> dict[str, float]:
    if not config.frechet or not config.frechet.features:
        return {}
    originals, others = (read_features(path) for path in config.frechet.features)
    if originals.shape[1] != others.shape[1]:
        raise UserError(
            f"FrechetConfig.features have {originals.shape[1]} and {others.shape[1]} channels: of two backbones."
        )
    return {"frechet": frechet_distance(originals, others)}


def _too_small(found: Measured, what: str) -> dict[str, int]:
    """How many images LPIPS could not be taken of; their mean is over the others."""
    column = found.get("reconstruction/lpips")
    missing = 0 if column is None else int(column.isnan().sum())
    return {f"{what}_too_small_for_lpips": missing} if missing else {}


def _photographs(
    read: Callable[..., Iterator[Batch]], subject: Subject, output: Folder, config: EvaluateTokenizerConfig,
    counts: Counter[str],
) -> dict[str, float]:  # fmt: skip
    """The metrics of photographs, named `photographs/…`, and their picture.

    counts: photographs_read = photographs + skipped/<reason>; what the evaluated images lost stands under dropped/<reason>.
    """
    own: Counter[str] = Counter()
    examples = itertools.islice(read_photographs(config.photographs, own), config.max_photographs)
    found = measure(read(examples, (config.photograph_resolution,), counts=own), subject, (), config, NUM_PICTURES)
    if not len(found):
        raise UserError(f"There is no photograph in {config.photographs!r}; it needs PNG, JPEG or WebP images.")
    save_sheet(output, "samples/photographs.png", *zip(*found.pictures, strict=True), apart=APART)
    counts.update({name.replace("dropped/", "skipped/"): value for name, value in own.items()})
    counts["photographs"] = len(found)
    counts.update(_too_small(found, "photographs"))
    metrics = summarise(found, found.columns, subject.tokenizer.levels)
    return {f"photographs/{name}": value for name, value in metrics.items()}
