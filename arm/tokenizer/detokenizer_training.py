"""train-detokenizer: the latent DiT learns to render the codes of a frozen tokenizer (Eq. 5).

Codes and latents of the images are computed once and kept in the job's scratch folder; training reads them from memory.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arm.data.shards import read_shard, shard_paths
from arm.device import make_deterministic, rank_device
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.model.token_shards import is_held_out
from arm.progress import track
from arm.records import Image
from arm.storage import Folder, publish_tree
from arm.tokenizer.config import DetokenizerConfig
from arm.tokenizer.detokenizer import Detokenizer, LatentCodec
from arm.tokenizer.images import Pixels, fit, to_images
from arm.tokenizer.loop import Loop, Noise
from arm.tokenizer.metrics import psnr
from arm.tokenizer.training import save_grid
from arm.tokenizer.visual import VisualTokenizer

ENCODE_BATCH = 128
MAX_TEST = 256
"""Held-out images that the metrics read."""


def train_detokenizer(
    *, images: Manifest, tokenizer: Manifest, autoencoder: Manifest, output: Folder, config: DetokenizerConfig
) -> Outcome:
    """Train the detokenizer on images with their codes and publish it with curves and reconstructions."""
    make_deterministic(config.seed, config.threads)
    visual = VisualTokenizer.from_pretrained(tokenizer.local_folder("tokenizer")).to(rank_device())
    codec = LatentCodec.from_pretrained(autoencoder.local_folder("model"))
    detokenizer = Detokenizer(
        codec, config.flow, stride=visual.stride, width_condition=visual.encoder.width,
        sampling_steps=config.sampling_steps, guidance=config.guidance, tokenizer_fingerprint=visual.fingerprint,
    ).to(rank_device())  # fmt: skip
    paths = shard_paths(images)
    codes, latents = prepare(paths, visual, codec, output.scratch("latents"), config)
    noise = Noise(config.seed)
    loop = Loop(
        "train-detokenizer", detokenizer, config.optimizer, num_steps=config.num_steps, parts={"noise": noise},
        checkpoints=output.scratch("checkpoints"), save_every=config.save_every, log_every=config.log_every,
    )  # fmt: skip
    trainer = DetokenizerTrainer(detokenizer, visual, codes, latents, config, noise.generator)
    detokenizer.train()
    loop.run(trainer.step)
    detokenizer.eval()
    metrics = evaluate(detokenizer, visual, paths, output, config)
    output.write("curves.jsonl", ("\n".join(loop.curves) + "\n").encode())
    detokenizer.save_pretrained(output.scratch("export"))
    publish_tree(output, "detokenizer", output.scratch("export"))
    return Outcome(counts={"steps": config.num_steps, "images": len(codes)}, metrics=metrics)


class DetokenizerTrainer:
    """Draws batches of prepared codes and latents, independently at every step."""

    def __init__(
        self, detokenizer: Detokenizer, visual: VisualTokenizer, codes: Tensor, latents: Tensor,
        config: DetokenizerConfig, generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.detokenizer, self.visual, self.config, self.generator = detokenizer, visual, config, generator
        self.codes, self.latents = codes, latents

    def step(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch."""
        size = self.config.batch_size
        chosen = torch.randint(len(self.codes), (size,), generator=self.generator)
        dropped = torch.rand(size, generator=self.generator) < self.config.null_condition
        device = self.visual.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            features = self.visual.embed(self.codes[chosen].long()).float()
            latents = self.latents[chosen].float().to(device)
            loss = self.detokenizer.loss(latents, features, dropped.to(device), self.generator)
        return loss, {"loss/latent": loss.detach()}


def prepare(
    paths: list[Path], visual: VisualTokenizer, codec: LatentCodec, scratch: Path, config: DetokenizerConfig
) -> tuple[Tensor, Tensor]:
    """Codes (N, h, w) int32 and latents (N, C, H, W) bfloat16 of the first `max_images` training images."""
    codes, latents, count = [], [], 0
    for path in track(paths, "train-detokenizer: latents", total=len(paths)):
        if count >= config.max_images:
            break
        kept = scratch / f"{path.stem}.pt"
        if not kept.is_file():
            pixels = list(images_of(path, held_out=False, config=config))[: config.max_images - count]
            torch.save(encode_all(pixels, visual, codec), kept.with_suffix(".tmp"))
            kept.with_suffix(".tmp").replace(kept)
        part = torch.load(kept, weights_only=True)
        codes.append(part["codes"])
        latents.append(part["latents"])
        count += len(part["codes"])
    if not count:
        raise UserError("The shards hold no image that is not held out; train-detokenizer needs some thousands.")
    return torch.cat(codes), torch.cat(latents)


def encode_all(pixels: list[Pixels], visual: VisualTokenizer, codec: LatentCodec) -> dict[str, Tensor]:
    """Codes and latents of images of one size."""
    grid, area = visual.stride, codec.factor
    if not pixels:
        return {"codes": torch.zeros(0), "latents": torch.zeros(0)}
    codes, latents = [], []
    for start in range(0, len(pixels), ENCODE_BATCH):
        batch = to_images(np.stack(pixels[start : start + ENCODE_BATCH]))
        codes.append(visual.encode(batch).to(torch.int32).cpu())
        latents.append(codec.encode(batch).to(torch.bfloat16).cpu())
    assert grid % area == 0
    return {"codes": torch.cat(codes), "latents": torch.cat(latents)}


def images_of(path: Path, *, held_out: bool, config: DetokenizerConfig) -> Iterator[Pixels]:
    """The first image of each sample of a shard, fitted to the bucket."""
    for sample in read_shard(path):
        image = next((part for part in sample.parts if isinstance(part, Image)), None)
        if image is not None and is_held_out(bytes.fromhex(sample.uid)) == held_out:
            yield fit(image, config.height, config.width)


@torch.no_grad()
def evaluate(
    detokenizer: Detokenizer, visual: VisualTokenizer, paths: list[Path], output: Folder, config: DetokenizerConfig
) -> dict[str, float]:
    """PSNR of held-out images by the VAE alone and by the whole way through the codes; a grid of samples."""
    found = (pixels for path in paths for pixels in images_of(path, held_out=True, config=config))
    test = [pixels for pixels, _ in zip(found, range(MAX_TEST), strict=False)]
    if not test:
        return {}
    images = to_images(np.stack(test)).to(visual.device)
    alone = detokenizer.codec.decode(detokenizer.codec.encode(images))
    rendered = detokenizer.render(visual.encode(images), visual, seeds=range(len(images)))
    save_grid(output, "samples/reconstruction.png", images[:16], alone[:16], rendered[:16])
    return {
        "autoencoder/psnr": round(float(psnr(alone, images).mean()), 4),
        "reconstruction/psnr": round(float(psnr(rendered, images).mean()), 4),
    }
