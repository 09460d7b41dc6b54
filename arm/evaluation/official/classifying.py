"""ImageNet zero-shot: which of the class vectors is nearest to what the tokenizer's codes keep of an image?

    classes.json                       {"n01440764": "tench", …}
    val/n01440764/….JPEG               images by class

A class vector: 80 prompts, embedded, normalised, averaged, normalised again (CLIP, arXiv 2103.00020).
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from arm.errors import UserError
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.imaging import by_grid
from arm.evaluation.inference import read_image
from arm.evaluation.official.templates import TEMPLATES
from arm.evaluation.production.journal import Journal
from arm.evaluation.subject import Subject
from arm.evaluation.zero_shot import TokenizerZeroShot
from arm.progress import Progress
from arm.tokenizer.metrics import class_vectors

BATCH = 256
IMAGES = (".jpeg", ".jpg", ".png", ".webp")


def classify(data: Files, classes: str, subject: Subject, scratch: Path) -> bytes:
    """One row an image: {"uid", "image", "label", "prediction"}, classes by folder, since CLIP's names have one twice.

    What was classified before is kept.
    """
    names: dict[str, str] = data.json(classes)
    labelled = images_by_class(data.names, names)
    benchmark, journal = TokenizerZeroShot(), Journal(scratch / "predictions.jsonl")
    missing = [name for name in labelled if name not in journal.rows]
    progress = Progress("classify images", total=len(labelled), done=len(labelled) - len(missing))
    if missing:
        encoder = benchmark.encoder(subject)
        listed = list(names)
        texts_KD = class_vectors(encoder.embed_texts, list(names.values()), TEMPLATES)
    for start in range(0, len(missing), BATCH):
        some = missing[start : start + BATCH]
        nearest = (embed(benchmark, data, some, subject) @ texts_KD.T).argmax(dim=1).tolist()
        journal.append(
            [
                {"uid": name, "image": name, "label": labelled[name], "prediction": listed[index]}
                for name, index in zip(some, nearest, strict=True)
            ]
        )
        progress.advance(len(some))
    progress.close()
    journal.finish(list(labelled))
    return journal.output.read_bytes()


def images_by_class(names: Sequence[str], classes: dict[str, str]) -> dict[str, str]:
    """Image -> the folder of its class: val/n01440764/x.JPEG -> n01440764."""
    found = {}
    for name in names:
        folder = name.rpartition("/")[0].rpartition("/")[2]
        if name.lower().endswith(IMAGES):
            if folder not in classes:
                raise UserError(f"{name} lies in the folder {folder!r}, which classes.json does not name.")
            found[name] = folder
    if not found:
        raise UserError("imagenet/ holds no images; they lie at val/<class>/<image>.JPEG.")
    return found


def embed(benchmark: TokenizerZeroShot, data: Files, names: Sequence[str], subject: Subject) -> torch.Tensor:
    """Unit vectors (N, D) of images, each at its own grid."""
    pixels = []
    for name in names:
        pixels.append(subject.tools.fit(read_image(data.folder.fetch(name)), subject.config.reading))
        data.folder.release(name)  # 50,000 images would fill the cache of a remote folder
    found: dict[int, torch.Tensor] = {}
    for _, chosen in by_grid([image.shape[:2] for image in pixels], BATCH):
        found.update(zip(chosen, benchmark.embed([pixels[index] for index in chosen], subject), strict=True))
    return torch.stack([found[index] for index in range(len(pixels))])
