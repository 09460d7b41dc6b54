"""The config of evaluate-tokenizer."""

import re
from dataclasses import dataclass, field
from typing import Literal

from arm.config import added
from arm.errors import UserError
from arm.tokenizer.config.shared import ResolutionConfig


@dataclass(frozen=True, kw_only=True)
class ZeroShotTask:
    """A classification by text alone: an image belongs to the class whose prompts' mean embedding is nearest.

    24 kinds    classes=("red circle", …), label="caption", match="names_one"
    ImageNet    classes_file="classes.txt" ("n01440764 tench" a line), label="folder", templates_file="templates.txt"
    scenes      label="caption", pattern="[^,]+, [^,]+", num_classes=300, templates=("{}",): which of 300 captions is it?
    """

    name: str = "classes"
    """Names its metrics: `zero_shot/<name>/top1`."""
    classes: tuple[str, ...] = ()
    """Class names. Without these and without classes_file, the labels of the images are the classes."""
    classes_file: str = ""
    """Class names in a file: one a line or a JSON list; `<key> <name>` a line or a JSON object where labels are keys."""
    label: str = "caption"
    """What tells an image's class: `caption`, `folder` (ImageNet's layout), or a dotted path in its meta (`label`)."""
    pattern: str = ""
    """Regular expression that the whole label must match; other images take no part."""
    match: Literal["equals", "names_one"] = "equals"
    """equals: the label is the class (or its key); names_one: the label names exactly one class."""
    num_classes: int = 0
    """When the labels are the classes: labels of training images are added until there are so many."""
    templates: tuple[str, ...] = ("a photo of a {}",)
    """Prompts of a class; their embeddings are normalised, averaged and normalised again (CLIP, arXiv 2103.00020)."""
    templates_file: str = ""
    """Prompts in a file, one a line, instead of `templates`: github.com/openai/CLIP lists the 80 for ImageNet."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise UserError(f"ZeroShotTask.name is {self.name!r}; use lower-case letters, digits, - and _.")
        if self.classes and self.classes_file:
            raise UserError(f"ZeroShotTask {self.name!r} has both classes and classes_file; give one.")
        if self.match == "names_one" and not (self.classes or self.classes_file):
            raise UserError(f"ZeroShotTask {self.name!r} looks for class names in the label; give classes.")
        if self.num_classes and (self.classes or self.classes_file):
            raise UserError(f"ZeroShotTask {self.name!r} lists its classes, so num_classes says nothing; leave it out.")
        if not self.templates or any("{}" not in text for text in self.templates):
            raise UserError(f"ZeroShotTask {self.name!r} needs templates, each with '{{}}' for the class.")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise UserError(f"ZeroShotTask {self.name!r}: the pattern is no regular expression ({error}).") from None


@dataclass(frozen=True, kw_only=True)
class LinearProbeConfig:
    """Multinomial logistic regression on frozen vectors of training images, tested on the evaluated ones."""

    task: str = "classes"
    """The zero-shot task whose classes and labels it learns."""
    num_images: int = 10_000
    """Training images with a label, at most: the first in shard order, or any in `folder`."""
    folder: str = ""
    """Training images in a folder (ImageNet: `train/<wnid>/*.JPEG`) instead of those of the input `images`."""
    penalty: float = 1e-4
    """Half the squared weights times this are added to the mean cross-entropy, on standardised vectors. Ours."""

    def __post_init__(self) -> None:
        if self.num_images < 1 or self.penalty <= 0:
            raise UserError("LinearProbeConfig needs num_images >= 1 and penalty > 0.")


@dataclass(frozen=True, kw_only=True)
class FrechetConfig:
    """Fréchet distance between originals and reconstructions on features of your own."""

    backbone: str = ""
    """Folder of a vision model that transformers' AutoModel loads, with its preprocessor_config.json: it reads both."""
    features: tuple[str, ...] = ()
    """Instead: two files of features (N, D), originals and others, as .npy or .safetensors of one tensor."""

    def __post_init__(self) -> None:
        if bool(self.backbone) == bool(self.features) or len(self.features) not in (0, 2):
            raise UserError("FrechetConfig needs a backbone folder, or two files of features: originals and others.")


@dataclass(frozen=True, kw_only=True)
class LpipsConfig:
    """LPIPS between originals and reconstructions (arXiv 1801.03924), on a network whose weights are yours."""

    weights: str = ""
    """torchvision's file: alexnet-owt-7be5be79.pth or vgg16-397923af.pth; or the same tensors as .safetensors."""
    network: Literal["alex", "vgg"] = "alex"
    """AlexNet or VGG16. Distances compare within one network only."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise UserError("LpipsConfig.weights is empty; give the file of the network's weights.")


@dataclass(frozen=True, kw_only=True)
class EvaluateTokenizerConfig:
    """evaluate-tokenizer."""

    folder: str = ""
    """Images in a local folder (ImageNet: `val/<wnid>/*.JPEG`), evaluated instead of those of the inputs."""
    resolutions: tuple[ResolutionConfig, ...] = (ResolutionConfig(),)
    """Every image is evaluated at each of these."""
    max_images: int = 50_000
    """Images evaluated, at most: the first in shard order, or any in `folder`."""
    zero_shot: tuple[ZeroShotTask, ...] = ()
    """Zero-shot tasks; they need the input `encoder`."""
    linear_probe: LinearProbeConfig | None = None
    """Logistic regression on the vectors of the images' codes; None leaves it out."""
    frechet: FrechetConfig | None = None
    """Fréchet distance; None leaves it out."""
    lpips: LpipsConfig | None = added(None)
    """LPIPS; None leaves it out."""
    photographs: str = ""
    """Folder of images, image shards or WARC files: tokenized and rendered beside the set, with a picture of each."""
    max_photographs: int = 256
    """Photographs, at most; the first in order of their names. The picture shows the first two dozen."""
    photograph_resolution: ResolutionConfig = field(default_factory=ResolutionConfig)
    """Sizes of the photographs."""
    steps: int | None = None
    """Euler steps of the detokenizer; None: its own."""
    guidance: float | None = None
    """Guidance of the detokenizer; None: its own."""
    batch_size: int = 64
    """Images encoded and rendered at a time: part of the identity, because rounding depends on it."""
    seed: int = 0
    """Seed of the detokenizer's noise: image i has the seed seed * 1,000,003 + i."""
    threads: int = 2
    """Threads of torch: part of the identity, because sums depend on it."""

    def __post_init__(self) -> None:
        if not self.resolutions or self.batch_size < 1 or self.max_images < 1 or self.max_photographs < 1:
            raise UserError(
                "EvaluateTokenizerConfig needs a resolution, and batch_size, max_images and max_photographs of at least 1."
            )
        names = [task.name for task in self.zero_shot]
        if len(set(names)) != len(names):
            raise UserError(f"EvaluateTokenizerConfig.zero_shot names a task twice: {', '.join(names)}.")
        if self.linear_probe and self.linear_probe.task not in names:
            raise UserError(
                f"EvaluateTokenizerConfig.linear_probe learns the task {self.linear_probe.task!r}; "
                f"zero_shot has {', '.join(names) or 'none'}."
            )

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        files = [path for task in self.zero_shot for path in (task.classes_file, task.templates_file)]
        files.append(self.linear_probe.folder if self.linear_probe else "")
        if self.frechet:
            files += [self.frechet.backbone, *self.frechet.features]
        if self.lpips:
            files.append(self.lpips.weights)
        return tuple(path for path in (self.folder, self.photographs, *files) if path)
