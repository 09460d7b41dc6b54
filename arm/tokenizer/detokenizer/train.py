"""train-detokenizer: a flow over latents learns to render the codes of a frozen tokenizer (Eq. 5)."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from arm.data.shards import shard_paths
from arm.device import autocast, make_deterministic, rank_device
from arm.manifest import Manifest, Outcome
from arm.storage import Folder, publish_tree
from arm.tokenizer.config import DetokenizerConfig
from arm.tokenizer.detokenizer.evaluate import evaluate
from arm.tokenizer.detokenizer.latents import LatentCodec
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.tokenizer.detokenizer.prepared import Prepared, prepare
from arm.tokenizer.loop import Loop, Share, generator_at, rank_rows
from arm.tokenizer.protocol import ImageTokenizer, load_tokenizer, tokenizer_folder
from arm.tokenizer.resolution import Size
from arm.training.checkpoint import Checkpoints
from arm.training.engine import patient_group, rank


def train_detokenizer(
    *, images: Manifest, tokenizer: Manifest, autoencoder: Manifest, backbone: Manifest | None = None, output: Folder,
    config: DetokenizerConfig,
) -> Outcome:  # fmt: skip
    """Train the detokenizer on images with their codes and publish it with curves and reconstructions."""
    make_deterministic(config.seed, config.threads)
    visual = load_tokenizer(tokenizer_folder(tokenizer)).to(rank_device())
    codec = LatentCodec.from_pretrained(autoencoder.local_folder("model"))
    weights = backbone.local_folder("model") if backbone else None
    detokenizer = Detokenizer.create(codec, visual, config, weights).to(rank_device())
    if config.activation_checkpointing:
        detokenizer.backbone.checkpoint_activations()
    paths = shard_paths(images)
    loop = Loop(
        "train-detokenizer", detokenizer, config.optimizer, num_steps=config.num_steps, parts={},
        checkpoints=Checkpoints.of(output), save_every=config.save_every, log_every=config.log_every,
        ema_decay=config.ema_decay, weights="bfloat16" if config.precision == "bfloat16_weights" else "float32",
    )  # fmt: skip
    patient = patient_group()
    prepared = prepare(paths, visual, detokenizer, output.scratch("latents"), config, images.tombstones)
    trainer = DetokenizerTrainer(detokenizer, visual, prepared, config)
    detokenizer.train()
    loop.run(trainer.draw, trainer.loss)
    loop.finish()
    detokenizer.eval()
    metrics = {}
    if rank() == 0:
        metrics = publish(detokenizer, visual, paths, loop.curves, output, config, images.tombstones)
    dist.barrier(patient)
    return Outcome(counts={"steps": config.num_steps, "images": len(prepared)}, metrics=metrics)


def publish(
    detokenizer: Detokenizer, visual: ImageTokenizer, paths: list[Path], curves: list[str], output: Folder,
    config: DetokenizerConfig, refused: frozenset[str],
) -> dict[str, float]:  # fmt: skip
    """Measure the trained detokenizer and write what the job makes."""
    metrics = evaluate(detokenizer, visual, paths, output, config, refused)
    output.write("curves.jsonl", ("\n".join(curves) + "\n").encode())
    detokenizer.save_pretrained(output.scratch("export"))
    publish_tree(output, "detokenizer", output.scratch("export"))
    return metrics


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Prepared images of one size, whose conditions are dropped, and where their noise comes from."""

    size: Size
    rows: Tensor
    dropped: Tensor
    """Images that learn without codes."""
    sourceless: Tensor
    """Images that learn without source."""
    generator: torch.Generator


class DetokenizerTrainer:
    """Draws global batches of one size, independently at every step; a rank computes its rows."""

    def __init__(
        self, detokenizer: Detokenizer, visual: ImageTokenizer, prepared: Prepared, config: DetokenizerConfig
    ) -> None:
        self.detokenizer, self.visual, self.prepared, self.config = detokenizer, visual, prepared, config

    def draw(self, step: int) -> list[MicroBatch]:
        """This rank's micro-batches of a step."""
        count, seed = self.config.batch_size, self.config.seed
        generator = generator_at(seed, step)
        size, rows = self.prepared.draw(count, generator)
        dropped = torch.rand(count, generator=generator) < self.config.null_condition
        sourceless = torch.rand(count, generator=generator) < self.config.source_drop
        own = range(count)[rank_rows(count)]
        length = self.config.micro_batch or len(own)
        parts = (slice(start, min(start + length, own.stop)) for start in range(own.start, own.stop, length))
        return [
            MicroBatch(size, rows[part], dropped[part], sourceless[part], generator_at(seed, step, part.start))
            for part in parts
        ]

    def loss(self, batch: MicroBatch) -> Share:
        """A micro-batch's share of the mean over the step's images."""
        device, found = self.visual.device, self.prepared.rows(batch.size, batch.rows)
        rows, columns = found.codes_BHW.shape[1:]
        sources = None
        if self.config.source_condition:
            sources = torch.where(batch.sourceless[:, None, None, None], 0.0, found.sources).to(device)
        with autocast(device, "bfloat16" if self.config.precision == "bfloat16_weights" else self.config.precision):
            mean = self.detokenizer.loss(
                found.latents.to(device), self.visual.embed(found.codes_BHW).float(), (rows, columns),
                batch.dropped.to(device), batch.generator, sources,
            )  # fmt: skip
        share = mean * len(batch.rows) / self.config.batch_size
        return share, {"loss/latent": share.detach()}
