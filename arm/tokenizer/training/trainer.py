"""The tokenizer with the modules of its objectives, and each micro-batch's share of the losses (section 3.1, Eq. 1 to 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arm.device import autocast
from arm.tokenizer.codes import digit_statistics, histogram
from arm.tokenizer.config import TokenizerConfig
from arm.tokenizer.fsq import digits_to_index, values_to_digits
from arm.tokenizer.text import CaptionTokens, TextTower
from arm.tokenizer.training.objectives import (
    CaptionObjective,
    SigmoidObjective,
    Weighting,
    commitment_loss,
    feature_loss,
)
from arm.tokenizer.training.pixel_dit import PixelDiT
from arm.tokenizer.visual import Quantized, VisualTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """Captions of some rows of a micro-batch, as ids of the language model."""

    rows: list[int]
    """Which rows they belong to."""
    ids_BT: Tensor
    lengths_B: Tensor
    num_tokens: int
    """Caption tokens of the whole step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The frozen text vectors of the whole step, and which captions are equal."""

    texts_BC: Tensor
    numbers_B: Tensor
    """Equal numbers are equal captions."""
    numbers_M: Tensor
    """Those of this micro-batch's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the losses of a micro-batch read."""

    images_MCHW: Tensor
    batch_size: int
    """Images of the whole step."""
    generator: torch.Generator
    """Noise and times of the pixel loss."""
    captions: Captions | None = None
    texts: Texts | None = None


class TokenizerTrainer(nn.Module):
    """The tokenizer with the modules of its objectives; a loss of weight 0 has none, and reads no other model."""

    counts: Tensor

    def __init__(self, tokenizer: VisualTokenizer, config: TokenizerConfig, caption_model: Path, encoder: Path) -> None:
        super().__init__()
        self.tokenizer, self.config = tokenizer, config
        width = tokenizer.encoder.width
        self.pixel = (
            PixelDiT(config.pixel, stride=tokenizer.stride, width_condition=width) if config.pixel_weight else None
        )
        self.sigmoid = SigmoidObjective() if config.sigmoid_weight else None
        self.tower = TextTower(encoder) if config.sigmoid_weight else None
        self.caption = CaptionObjective(load_language_model(caption_model), width) if config.caption_weight else None
        self.words = CaptionTokens(caption_model, config.caption_length) if config.caption_weight else None
        self.weighting = Weighting(active_weights(config), config.loss_normalisation)
        self.register_buffer("counts", torch.zeros(tokenizer.num_codes, dtype=torch.int64))

    def losses(self, inputs: Inputs) -> dict[str, Tensor]:
        """This micro-batch's share of every active loss, unweighted: a mean over the step's images (over the step's
        tokens for the caption loss) is the sum of the shares."""
        device = self.tokenizer.device
        with autocast(device, self.config.precision):
            images = inputs.images_MCHW.to(device)
            found = self.tokenizer(images)
            self._count(found)
            share = len(images) / inputs.batch_size
            losses = {}
            if self.pixel is not None:
                losses["pixel"] = self.pixel.loss(found.features_BNC, images, inputs.generator) * share
            if self.sigmoid is not None:
                losses["sigmoid"] = self._sigmoid(found.features_BNC, inputs.texts)
            if self.caption is not None:
                losses["caption"] = self._caption(found.features_BNC, inputs.captions)
            if self.config.feature_weight:
                losses["feature"] = feature_loss(found.features_BNC, found.target_BNC) * share
            if self.config.commitment_weight:
                losses["commitment"] = commitment_loss(found.bounded_BND, found.values_BND) * share
            return losses

    def code_statistics(self) -> dict[str, float]:
        """Balance, usage, perplexity and correlation of the digits of all codes since the last call, over all ranks."""
        counts = self.counts.clone()
        if dist.is_initialized():
            dist.all_reduce(counts)
        self.counts.zero_()
        return digit_statistics(counts.cpu(), self.tokenizer.levels)

    def _sigmoid(self, features_BNC: Tensor, texts: Texts | None) -> Tensor:
        assert self.sigmoid is not None
        assert texts is not None
        vectors = self.tokenizer.pool(features_BNC)
        return self.sigmoid(vectors, texts.texts_BC, texts.numbers_M, texts.numbers_B)  # type: ignore[no-any-return]

    def _caption(self, features_BNC: Tensor, captions: Captions | None) -> Tensor:
        assert self.caption is not None
        if captions is None:  # every micro-batch reaches every trained weight, so that ranks reduce the same gradients
            return self.caption.adapter(features_BNC[:1]).sum() * 0  # type: ignore[no-any-return]
        device = features_BNC.device
        chosen = features_BNC[torch.tensor(captions.rows, device=device)]
        total = self.caption(chosen, captions.ids_BT.to(device), captions.lengths_B.to(device))
        return total / captions.num_tokens  # type: ignore[no-any-return]

    def _count(self, found: Quantized) -> None:
        levels = self.tokenizer.levels
        with torch.no_grad():
            codes = digits_to_index(values_to_digits(found.bounded_BND, levels), levels)
            self.counts += histogram(codes, len(self.counts))


def active_weights(config: TokenizerConfig) -> dict[str, float]:
    """Loss -> weight, without those of weight 0."""
    names = ("pixel", "sigmoid", "caption", "feature", "commitment")
    weights: Mapping[str, float] = {name: float(getattr(config, f"{name}_weight")) for name in names}
    return {name: weight for name, weight in weights.items() if weight > 0}


def load_language_model(folder: Path) -> Any:
    """A frozen causal language model of any class that transformers knows."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
