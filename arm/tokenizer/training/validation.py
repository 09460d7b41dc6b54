"""Held-out metrics of a tokenizer in training: codes, reconstructions by the pixel DiT, zero-shot accuracy.

Each metric is reported over all images and, as `<metric>/<H>x<W>`, over those of each size.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from arm.errors import UserError
from arm.tokenizer.codes import digit_balance, digit_correlation, flip_rate, histogram, perturb
from arm.tokenizer.loop import generator_at
from arm.tokenizer.metrics import class_of, finite_means, histogram_statistics, psnr, zero_shot_accuracy
from arm.tokenizer.resolution import Size
from arm.tokenizer.text import TextTower
from arm.tokenizer.training.pairs import Pair, PixelReader, Sizing, read_index
from arm.tokenizer.training.trainer import TokenizerTrainer

EVALUATION_BATCH = 256
PSNR_STEPS = 4
"""Euler steps of the pixel DiT for PSNR. Ours."""
NUM_SAMPLES = 16
"""Images of the picture of reconstructions."""
PROBE = 64
"""Held-out images whose codes are watched in training."""

HeldOut = dict[Size, list[Pair]]


@dataclass(slots=True)
class Findings:
    """What the images of one size gave, or of all."""

    counts: Tensor
    """Histogram of codes."""
    flips: list[Tensor] = field(default_factory=list)
    """Flip rate of each digit under noise, of each code (n, D)."""
    psnrs: list[Tensor] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)
    """Image vectors of those that are classified."""
    labels: list[int] = field(default_factory=list)


def read_held_out(shards: Sequence[Path], sizing: Sizing, limit: int, refused: frozenset[str] = frozenset()) -> HeldOut:
    """The first `limit` held-out pairs by size, as an epoch 0 would size them."""
    found: list[Pair] = []
    for path in shards:
        if len(found) < limit:
            found += read_index(path, held_out=True, refused=refused)
    if not found:
        raise UserError("None of the captioned images is held out: train-tokenizer needs a few hundred of them.")
    groups: dict[Size, list[Pair]] = defaultdict(list)
    for pair in found[:limit]:
        groups[sizing(pair, 0)].append(pair)
    return dict(sorted(groups.items()))


def probe_images(held_out: HeldOut, reader: PixelReader) -> Tensor:
    """Up to PROBE images (N, 3, H, W) of the commonest size."""
    size = max(held_out, key=lambda each: len(held_out[each]))
    return reader.read(held_out[size][:PROBE], size)


class Validation:
    """Measures a trainer on held-out pairs."""

    def __init__(self, trainer: TokenizerTrainer, reader: PixelReader, encoder: Path) -> None:
        self.trainer, self.reader, self.config = trainer, reader, trainer.config
        self.generator = torch.Generator().manual_seed(trainer.config.seed)
        self.classes = trainer.config.zero_shot_classes
        self._encoder = encoder
        self.samples: tuple[Tensor, Tensor] | None = None
        """The first images and their reconstructions."""
        self.total = Findings(torch.zeros(trainer.tokenizer.num_codes, dtype=torch.int64))

    @torch.no_grad()
    def run(self, held_out: HeldOut) -> dict[str, float]:
        """Every metric, in total and by size."""
        by_size = {size: self._one_size(pairs, size) for size, pairs in held_out.items()}
        for findings in by_size.values():
            self.total.counts += findings.counts
            for name in ("flips", "psnrs", "vectors", "labels"):
                getattr(self.total, name).extend(getattr(findings, name))
        texts = self._class_vectors()
        metrics = self._metrics(self.total, texts)
        for (height, width), findings in by_size.items():
            found = self._metrics(findings, texts).items()
            metrics |= {f"{name}/{height}x{width}": value for name, value in found}
        return metrics

    def digits(self) -> dict[str, list[float] | list[list[float]]]:
        """Per digit: balance, flip rate under noise, and the correlation of every two, over all images."""
        levels = self.trainer.tokenizer.levels
        return {
            "balance": _rounded(digit_balance(self.total.counts, levels)),
            "flip_rate": _rounded(torch.cat(self.total.flips).mean(0)),
            "correlation": [_rounded(row) for row in digit_correlation(self.total.counts, levels)],
        }

    def _one_size(self, pairs: list[Pair], size: Size) -> Findings:
        findings = Findings(torch.zeros_like(self.total.counts))
        for start in range(0, len(pairs), EVALUATION_BATCH):
            self._one_batch(pairs[start : start + EVALUATION_BATCH], size, findings)
        return findings

    def _one_batch(self, pairs: list[Pair], size: Size, findings: Findings) -> None:
        tokenizer = self.trainer.tokenizer
        images = self.reader.read(pairs, size)
        codes = tokenizer.encode(images).cpu()
        noisy = tokenizer.encode(perturb(images, generator_at(self.config.seed))).cpu()
        findings.counts += histogram(codes, len(findings.counts))
        findings.flips.append(flip_rate(codes, noisy, tokenizer.levels).expand(len(codes), -1))
        features = tokenizer.embed(codes)
        if self.trainer.pixel is not None:
            made = self.trainer.pixel.sample(features, size, steps=PSNR_STEPS, generator=self.generator).cpu()
            findings.psnrs.append(psnr(made, images))
            if self.samples is None:
                self.samples = images[:NUM_SAMPLES], made[:NUM_SAMPLES]
        for index, pair in enumerate(pairs):
            label = class_of(pair.caption, self.classes)
            if label is not None:
                findings.vectors.append(tokenizer.pool(features[index : index + 1]).cpu())
                findings.labels.append(label)

    def _class_vectors(self) -> Tensor | None:
        """Vectors of the configured classes; the text tower is loaded for them where no loss needed it."""
        if not self.total.labels:
            return None
        tower = self.trainer.tower or TextTower(self._encoder)
        return tower.embed([self.config.zero_shot_template.format(name) for name in self.classes]).cpu()

    def _metrics(self, findings: Findings, texts: Tensor | None) -> dict[str, float]:
        levels = self.trainer.tokenizer.levels
        metrics = histogram_statistics(findings.counts, levels)
        metrics["digits/flip_rate/noise"] = float(torch.cat(findings.flips).mean())
        if findings.psnrs:
            metrics |= finite_means({"pixel_dit/psnr": torch.cat(findings.psnrs)})
        if texts is not None and findings.labels:
            metrics["zero_shot/top1"] = zero_shot_accuracy(torch.cat(findings.vectors), texts, findings.labels)
        return metrics


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 6) for value in values]
