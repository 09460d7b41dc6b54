"""One pass over images: codes, vectors and reconstructions, kept as a column a metric and one histogram a size.

Columns are (N,) with a number for each image: NaN where the metric does not apply, infinite for a perfect PSNR. A metric is
the mean of the finite ones, over all images and over those of each size: `zero_shot/kinds/top1/512x384`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from arm.tokenizer import codes as code_counts
from arm.tokenizer.config import EvaluateTokenizerConfig, ZeroShotTask
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.tokenizer.evaluation.evaluation_set import Batch
from arm.tokenizer.evaluation.frechet import FeatureBackbone
from arm.tokenizer.evaluation.lpips import Lpips
from arm.tokenizer.evaluation.zero_shot import label_of
from arm.tokenizer.metrics import SSIM_WINDOW, finite_means, frechet_distance, histogram_statistics, psnr, ssim
from arm.tokenizer.protocol import ImageDetokenizer, ImageTokenizer
from arm.tokenizer.resolution import Size
from arm.tokenizer.visual import VisualTokenizer

SEED_STRIDE = 1_000_003
Columns = dict[str, Tensor]
Pictures = tuple[Tensor, ...]
"""An image, the autoencoder's where the detokenizer has one, the reconstruction."""


@dataclass(slots=True)
class Subject:
    """What is measured, and with what."""

    tokenizer: ImageTokenizer
    detokenizer: ImageDetokenizer | None = None
    backbone: FeatureBackbone | None = None
    lpips: Lpips | None = None
    with_encoder: bool = False
    """Whether the frozen encoder's own vectors are kept too: the ceiling of zero-shot."""


@dataclass(slots=True)
class Measured:
    """What a pass found."""

    sizes: list[Size] = field(default_factory=list)
    labels: dict[str, list[str | None]] = field(default_factory=dict)
    histograms: dict[Size, Tensor] = field(default_factory=dict)
    parts: dict[str, list[Tensor]] = field(default_factory=dict)
    """Vectors, features and columns, a batch each."""
    pictures: list[Pictures] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sizes)

    def get(self, name: str) -> Tensor | None:
        """Vectors (N, C) or a column (N,) of all images."""
        return torch.cat(self.parts[name]) if name in self.parts else None

    def add(self, name: str, value: Tensor) -> None:
        """Append a batch."""
        self.parts.setdefault(name, []).append(value.cpu())

    @property
    def columns(self) -> Columns:
        """The columns of reconstruction."""
        return {name: torch.cat(parts) for name, parts in self.parts.items() if "/" in name}


@torch.no_grad()
def measure(
    batches: Iterable[Batch], subject: Subject, tasks: Sequence[ZeroShotTask], config: EvaluateTokenizerConfig,
    num_pictures: int = 0,
) -> Measured:  # fmt: skip
    """Encode, pool and render every batch; keep the first pictures."""
    found, tokenizer = Measured(), subject.tokenizer
    for batch in batches:
        images = batch.images_BCHW.to(tokenizer.device)
        codes = tokenizer.encode(images)
        features = tokenizer.embed(codes)
        counts = code_counts.histogram(codes.cpu(), tokenizer.num_codes)
        found.histograms[batch.size] = found.histograms.get(batch.size, 0) + counts
        found.sizes += [batch.size] * len(images)
        for task in tasks:
            found.labels.setdefault(task.name, []).extend(label_of(example, task) for example in batch.examples)
        found.add("mean", features.mean(dim=1))
        if isinstance(tokenizer, VisualTokenizer):
            found.add("pooled", tokenizer.pool(features))
            if subject.with_encoder:
                found.add("encoder", tokenizer.pool(tokenizer.encoder(images)[-1]))
        if subject.detokenizer is not None:
            _reconstruct(batch, images, codes, subject, config, found, num_pictures)
    return found


def _reconstruct(
    batch: Batch, images: Tensor, codes: Tensor, subject: Subject, config: EvaluateTokenizerConfig, found: Measured,
    num_pictures: int,
) -> None:  # fmt: skip
    """Render the codes, and the autoencoder alone, which bounds what any rendering reaches: an imported decoder has none."""
    detokenizer = subject.detokenizer
    assert detokenizer is not None
    seeds = [config.seed * SEED_STRIDE + number for number in batch.numbers]
    rendered = detokenizer.render(codes, subject.tokenizer, seeds=seeds, steps=config.steps, guidance=config.guidance)
    made = {"reconstruction": rendered}
    if isinstance(detokenizer, Detokenizer):
        made["autoencoder"] = detokenizer.codec.decode(detokenizer.encode(images))[
            ..., : batch.size[0], : batch.size[1]
        ]
    for name, pixels in made.items():
        seen = as_bytes(pixels)
        found.add(f"{name}/psnr_per_image", psnr(seen, images))
        found.add(f"{name}/ssim", _where_large(SSIM_WINDOW, ssim, seen, images))
        if subject.lpips is not None:
            found.add(f"{name}/lpips", _where_large(subject.lpips.smallest, subject.lpips, seen, images))
    if subject.backbone is not None:
        found.add("features", subject.backbone(images))
        found.add("features_of_reconstruction", subject.backbone(as_bytes(rendered)))
    left = max(num_pictures - len(found.pictures), 0)
    shown = (images, *(made[name] for name in ("autoencoder", "reconstruction") if name in made))
    found.pictures += list(zip(*(row[:left].cpu() for row in shown), strict=True))


def _where_large(
    smallest: int, metric: Callable[[Tensor, Tensor], Tensor], images_BCHW: Tensor, reference_BCHW: Tensor
) -> Tensor:
    """The metric of each image (B,), NaN where a side is too short for it."""
    if min(images_BCHW.shape[-2:]) < smallest:
        return torch.full((len(images_BCHW),), torch.nan, dtype=torch.float64)
    return metric(images_BCHW, reference_BCHW)


def as_bytes(images: Tensor) -> Tensor:
    """Images as a file of 8 bits holds them: what anybody sees."""
    return (images.clamp(0, 1) * 255).round() / 255


def summarise(found: Measured, columns: Columns, levels: Sequence[int]) -> dict[str, float]:
    """Every metric over all images, then over those of each size; what no image has is left out."""

    def of(sizes: set[Size]) -> dict[str, float]:
        chosen = torch.tensor([size in sizes for size in found.sizes])
        means = finite_means({name: column[chosen] for name, column in columns.items()})
        return means | _of_set(found, chosen, sizes, levels)

    return by_size(of, sorted(set(found.sizes)))


def by_size(of: Callable[[set[Size]], dict[str, float]], sizes: Sequence[Size]) -> dict[str, float]:
    """{"psnr": 20, "psnr/36x36": 21, "psnr/36x48": 19}."""
    found = of(set(sizes))
    for height, width in sizes:
        found |= {f"{name}/{height}x{width}": value for name, value in of({(height, width)}).items()}
    return found


def _of_set(found: Measured, chosen: Tensor, sizes: set[Size], levels: Sequence[int]) -> dict[str, float]:
    """What is no mean over images: statistics of the codes, and the Fréchet distance."""
    counts = torch.stack([counts for size, counts in found.histograms.items() if size in sizes]).sum(0)
    metrics = histogram_statistics(counts, levels)
    originals, others = found.get("features"), found.get("features_of_reconstruction")
    if originals is not None and others is not None and int(chosen.sum()) > 1:
        metrics["frechet"] = frechet_distance(originals[chosen].numpy(), others[chosen].numpy())
    return metrics
