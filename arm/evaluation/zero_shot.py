"""Zero-shot classification: does the encoder, or what the tokenizer's codes keep of it, know what an image shows?

An image's label is `meta["label"]` where there is one (ImageNet), else the colour and class of the only object that
GenEval's meta data lists. The classes are all labels, or every colour with every class that the evaluation set names. An
image belongs to the class whose text embedding is nearest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from arm.errors import UserError
from arm.evaluation.benchmark import Scores, aggregate_strict
from arm.evaluation.evaluation_set import EvaluationSet
from arm.evaluation.imaging import by_grid, to_floats
from arm.evaluation.items import Item, Output, Pixels, Reply, Verdict
from arm.evaluation.subject import Subject
from arm.evaluation.understanding import Understanding
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.metrics import class_vectors
from arm.tokenizer.visual import VisualTokenizer

TEMPLATES = ("a {}", "a photo of a {}", "a picture of a {}")
"""Embeddings of the filled templates are normalised, averaged and normalised again, as CLIP does with its 80."""
BATCH = 256


class ZeroShot:
    """Top-1 accuracy of the frozen encoder pair: the ceiling of the tokenizer's."""

    name = "zero_shot"
    subject: Literal["model", "reference"] = "reference"

    def items(self, evaluation_set: EvaluationSet) -> list[Item]:
        """Images with a label; every item lists all the classes."""
        labelled = [(item, label_of(item.meta)) for item in evaluation_set.require("images")]
        classes = classes_of([item.meta for item, _ in labelled])
        if len(classes) < 2:
            raise UserError("The evaluation set has fewer than 2 labels; leave out the zero-shot benchmarks.")
        return [
            replace(item, group="all", reference=label, meta={"classes": classes}) for item, label in labelled if label
        ]

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """Name of the nearest class."""
        classes: list[str] = items[0].meta["classes"]
        texts_KD = self.encoder(subject).embed_classes(classes)
        sizes = subject.config.reading
        images = [subject.tools.fit(item.source, sizes) for item in items if item.source is not None]
        features = dict[int, torch.Tensor]()
        for _, chosen in by_grid([image.shape[:2] for image in images], BATCH):
            features.update(zip(chosen, self.embed([images[index] for index in chosen], subject), strict=True))
        features_ND = torch.stack([features[index] for index in range(len(images))])
        nearest = (features_ND @ texts_KD.T).argmax(dim=1).tolist()
        return [Output(uid=item.uid, text=classes[index]) for item, index in zip(items, nearest, strict=True)]

    def judge(self, items: Sequence[Item], outputs: Sequence[Output], subject: Subject) -> list[Reply]:
        """No judge: the class is the reply."""
        return Understanding().judge(items, outputs, subject)

    def parse(self, items: Sequence[Item], replies: Sequence[Reply]) -> list[Verdict]:
        """Compare with the label."""
        return Understanding().parse(items, replies)

    def aggregate(self, verdicts: Sequence[Verdict], *, num_expected: int, num_bootstraps: int, seed: int) -> Scores:
        """Over all images."""
        return aggregate_strict(
            self.name, verdicts, weighting="micro", headline="accuracy",
            num_expected=num_expected, num_bootstraps=num_bootstraps, seed=seed,
        )  # fmt: skip

    def encoder(self, subject: Subject) -> "EncoderPair":
        """The frozen pair."""
        if subject.tools.encoder is None:
            raise UserError("Zero-shot classification needs the input `encoder`: a SigLIP2 checkpoint.")
        return load_encoder(subject.tools.encoder)

    def embed(self, images: Sequence[Pixels], subject: Subject) -> torch.Tensor:
        """Unit vectors (N, D) of fitted images of one size."""
        return self.encoder(subject).embed_images(to_floats(images))


class TokenizerZeroShot(ZeroShot):
    """The same, from the features that the codes give back, through the encoder's own frozen pooling head."""

    name = "tokenizer_zero_shot"

    @torch.no_grad()
    def embed(self, images: Sequence[Pixels], subject: Subject) -> torch.Tensor:
        """Unit vectors (N, D) of the images' codes."""
        codes_NHW = torch.from_numpy(np.stack(subject.tools.encode(images)))
        tokenizer = subject.tools.tokenizer
        if not isinstance(tokenizer, VisualTokenizer):
            raise UserError(
                f"{self.name} needs the pooling head of our visual tokenizer; leave it out for an imported one."
            )
        return unit(tokenizer.pool(tokenizer.embed(codes_NHW)))


class EncoderPair:
    """Both towers of a SigLIP or SigLIP2 checkpoint, unit vectors out."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        both = AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.vision, self.text = FrozenEncoder(both.vision_model), both.text_model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def embed_classes(self, classes: Sequence[str]) -> torch.Tensor:
        """Unit vectors (K, D) of class names."""
        return class_vectors(self.embed_texts, classes, TEMPLATES)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors (N, D); SigLIP2 wants lower case, padded to the full length of its tower."""
        length, lowered = int(self.text.config.max_position_embeddings), [text.lower() for text in texts]
        ids = self.tokenizer(lowered, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        found: torch.Tensor = self.text(input_ids=ids["input_ids"]).pooler_output
        return found.float()

    @torch.no_grad()
    def embed_images(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Unit vectors (B, D) of images in [0, 1] whose sides the patch divides."""
        return unit(self.vision.pool(self.vision(images_BCHW)[-1]))


@lru_cache(maxsize=1)
def load_encoder(folder: Path) -> EncoderPair:
    """The pair, loaded once."""
    return EncoderPair(folder)


def label_of(meta: Mapping[str, Any]) -> str | None:
    """The label of an image, or None.

    {"label": "tench"} -> "tench"        {"include": [{"class": "circle", "count": 1, "color": "red"}]} -> "red circle"
    """
    if "label" in meta:
        return str(meta["label"])
    include = meta.get("include") or []
    if len(include) != 1 or include[0].get("count", 1) != 1 or "color" not in include[0]:
        return None
    return f"{include[0]['color']} {include[0]['class']}"


def classes_of(metas: Sequence[Mapping[str, Any]]) -> list[str]:
    """All classes, sorted: those that no single image shows are candidates too.

    a red circle and a blue square  ->  blue circle, blue square, red circle, red square
    """
    labels = {str(meta["label"]) for meta in metas if "label" in meta}
    named = [entry for meta in metas for entry in meta.get("include") or [] if "color" in entry]
    colors, kinds = {str(entry["color"]) for entry in named}, {str(entry["class"]) for entry in named}
    return sorted(labels or {f"{color} {kind}" for color in colors for kind in kinds})


def unit(vectors_ND: torch.Tensor) -> torch.Tensor:
    """Scale each row to length 1."""
    return torch.nn.functional.normalize(vectors_ND.float(), dim=-1)
