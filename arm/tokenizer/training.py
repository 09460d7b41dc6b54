"""train-tokenizer: the trained half of the visual tokenizer under four losses (section 3.1, Eq. 4)."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from arm.data.shards import shard_paths
from arm.device import make_deterministic, rank_device
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.storage import Folder, publish_tree
from arm.tokenizer.config import TokenizerConfig
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.images import Pairs, PairStream, join, read_pairs
from arm.tokenizer.loop import Loop, generator_at
from arm.tokenizer.metrics import class_of, code_statistics, psnr, zero_shot_accuracy
from arm.tokenizer.objectives import CaptionObjective, SigmoidObjective, Weighting, commitment_loss, feature_loss
from arm.tokenizer.pixel_dit import PixelDiT
from arm.tokenizer.text import CaptionTokens, TextTower
from arm.tokenizer.visual import VisualTokenizer

EVALUATION_BATCH = 256
PSNR_STEPS = 4
"""Euler steps of the pixel DiT for PSNR. Ours."""


class TokenizerTrainer(nn.Module):
    """The tokenizer with the modules of its objectives; a loss of weight 0 has none."""

    def __init__(self, tokenizer: VisualTokenizer, config: TokenizerConfig, caption_model: Path, encoder: Path) -> None:
        super().__init__()
        self.tokenizer, self.config = tokenizer, config
        width = tokenizer.encoder.width
        self.pixel = (
            PixelDiT(config.pixel, stride=tokenizer.stride, width_condition=width) if config.pixel_weight else None
        )
        self.sigmoid = SigmoidObjective() if config.sigmoid_weight else None
        self.caption: CaptionObjective | None = None
        if config.caption_weight:
            self.words = CaptionTokens(caption_model, config.caption_length)
            self.caption = CaptionObjective(load_language_model(caption_model), width)
        self.towers = {"text": TextTower(encoder)} if config.sigmoid_weight or config.zero_shot_classes else {}
        self.weighting = Weighting(active_weights(config), config.loss_normalisation)

    def losses(self, batch: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        """Every active loss of a batch, unweighted."""
        images = batch.images().to(self.tokenizer.device)
        found = self.tokenizer(images)
        features, losses = found.features_BNC, {}
        if self.pixel is not None:
            losses["pixel"] = self.pixel.loss(features, images, generator)
        if self.sigmoid is not None:
            losses["sigmoid"] = self._sigmoid_loss(features, batch.captions)
        if self.caption is not None:
            count = max(1, round(len(batch) * self.config.caption_fraction))
            words = (tensor.to(features.device) for tensor in self.words(batch.descriptions[:count]))
            losses["caption"] = self.caption(features[:count], *words)
        if self.config.feature_weight:
            losses["feature"] = feature_loss(features, found.target_BNC)
        if self.config.commitment_weight:
            losses["commitment"] = commitment_loss(found.bounded_BND, found.values_BND)
        return losses

    def step(self, batch: Pairs, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss and what to log."""
        with torch.autocast(self.tokenizer.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            losses = self.losses(batch, generator)
        total = self.weighting(losses)
        return total, {f"loss/{name}": loss.detach() for name, loss in losses.items()}

    def _sigmoid_loss(self, features_BNC: Tensor, captions: Sequence[str]) -> Tensor:
        assert self.sigmoid is not None
        texts = self.towers["text"].embed(captions)
        numbers = {caption: index for index, caption in enumerate(captions)}
        same = torch.tensor([numbers[caption] for caption in captions], device=texts.device)
        return self.sigmoid(self.tokenizer.pool(features_BNC), texts, same[:, None] == same)  # type: ignore[no-any-return]


def train_tokenizer(
    *, images: Manifest, encoder: Manifest, caption_model: Manifest, output: Folder, config: TokenizerConfig
) -> Outcome:
    """Train the projections on captioned images and publish the tokenizer, its curves and sample reconstructions."""
    make_deterministic(config.seed, config.threads)
    shards, folder = shard_paths(images), encoder.local_folder("model")
    held_out = read_held_out(shards, config)
    tokenizer = VisualTokenizer(FrozenEncoder.from_pretrained(folder), config.quantizer)
    trainer = TokenizerTrainer(tokenizer, config, caption_model.local_folder("model"), folder).to(rank_device())
    stream = make_stream(shards, config)
    loop = Loop(
        "train-tokenizer", trainer, config.optimizer, num_steps=config.num_steps,
        parts={"stream": stream}, checkpoints=output.scratch("checkpoints"),
        save_every=config.save_every, log_every=config.log_every,
    )  # fmt: skip
    trainer.train()
    loop.run(
        lambda step: [(stream.next_batch(), generator_at(config.seed, step))], lambda batch: trainer.step(*batch)
    )
    loop.finish()
    trainer.eval()
    metrics = evaluate(trainer, held_out, output)
    output.write("curves.jsonl", ("\n".join(loop.curves) + "\n").encode())
    tokenizer.save_pretrained(output.scratch("export"))
    publish_tree(output, "tokenizer", output.scratch("export"))
    counts = {"steps": config.num_steps, "images_seen": config.num_steps * config.batch_size, "held_out": len(held_out)}
    return Outcome(counts=counts, metrics={name: round(value, 4) for name, value in metrics.items()})


def active_weights(config: TokenizerConfig) -> dict[str, float]:
    """Loss -> weight, without those of weight 0."""
    names = ("pixel", "sigmoid", "caption", "feature", "commitment")
    weights = {name: float(getattr(config, f"{name}_weight")) for name in names}
    return {name: weight for name, weight in weights.items() if weight > 0}


def load_language_model(folder: Path) -> Any:
    """A frozen causal language model of any class that transformers knows."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)


def make_stream(shards: Sequence[Path], config: TokenizerConfig) -> PairStream:
    """The training pairs."""
    return PairStream(
        shards, size=(config.height, config.width), batch_size=config.batch_size, seed=config.seed,
        window_shards=config.window_shards, cache_bytes=config.cache_bytes,
    )  # fmt: skip


def read_held_out(shards: Sequence[Path], config: TokenizerConfig) -> Pairs:
    """The held-out pairs, shard by shard until there are enough."""
    found: list[Pairs] = []
    for path in shards:
        if sum(len(pairs) for pairs in found) < config.num_held_out:
            found.append(read_pairs(path, height=config.height, width=config.width, held_out=True))
    pairs = join(found)
    if not len(pairs):
        raise UserError("None of the captioned images is held out: train-tokenizer needs a few hundred of them.")
    return pairs.take(range(min(len(pairs), config.num_held_out)))


@torch.no_grad()
def evaluate(trainer: TokenizerTrainer, held_out: Pairs, output: Folder) -> dict[str, float]:
    """Codes, reconstructions by the pixel DiT and zero-shot accuracy on held-out images."""
    tokenizer, images = trainer.tokenizer, held_out.images().to(trainer.tokenizer.device)
    codes = torch.cat([tokenizer.encode(part) for part in torch.split(images, EVALUATION_BATCH)])
    features = torch.cat([tokenizer.embed(part) for part in torch.split(codes, EVALUATION_BATCH)])
    metrics = code_statistics(codes.cpu(), tokenizer.config.levels)
    if trainer.pixel is not None:
        generator = torch.Generator().manual_seed(trainer.config.seed)
        size = (images.shape[2], images.shape[3])
        parts = [
            trainer.pixel.sample(part, size, steps=PSNR_STEPS, generator=generator)
            for part in torch.split(features, EVALUATION_BATCH)
        ]
        reconstructed = torch.cat(parts)
        metrics["pixel_dit/psnr"] = float(psnr(reconstructed, images).mean())
        save_grid(output, "samples/reconstruction.png", images[:16], reconstructed[:16])
    return metrics | zero_shot(trainer, features, held_out)


def zero_shot(trainer: TokenizerTrainer, features_NC: Tensor, held_out: Pairs) -> dict[str, float]:
    """Top-1 among the configured classes, on images whose caption names exactly one."""
    classes, template = trainer.config.zero_shot_classes, trainer.config.zero_shot_template
    labels = [class_of(caption, classes) for caption in held_out.captions]
    chosen = [index for index, label in enumerate(labels) if label is not None]
    if not chosen:
        return {}
    texts = trainer.towers["text"].embed([template.format(name) for name in classes])
    vectors = trainer.tokenizer.pool(features_NC[chosen])
    return {"zero_shot/top1": zero_shot_accuracy(vectors, texts, [label for label in labels if label is not None])}


def save_grid(output: Folder, name: str, *rows: Tensor, enlarge: int = 4) -> None:
    """Publish images (N, 3, H, W) in [0, 1] as one PNG, a row each."""
    lines = [torch.cat(list(islice(row, len(row))), dim=2) for row in rows]
    pixels = (torch.cat(lines, dim=1).permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    enlarged = pixels.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    with output.publish(name) as path:
        PIL.Image.fromarray(np.ascontiguousarray(enlarged)).save(path, "png")
