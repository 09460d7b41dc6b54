"""A small VAE of diffusers' AutoencoderKL class: 36x36 pixels to latents and back.

One group of normalisation and residuals that start at zero: with a group a channel, as the default would have it here, an
image's absolute colours are normalised away (21 dB instead of 24 after 150 steps).
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arm.tokenizer.metrics import psnr
from arm.toy.config import AutoencoderTeacherConfig, TeacherConfig
from arm.toy.scene import SIDE
from arm.toy.teacher_training import Report, Training, draw_images, draw_scenes

NUM_TEST = 256


def train(folder: Path, config: TeacherConfig) -> Report:
    """Train, set the latents' scale to 1, save, and measure on held-out scenes."""
    own = config.autoencoder
    images = draw_images(scene for scene, _ in draw_scenes(config, "autoencoder", config.num_scenes))
    test = draw_images(scene for scene, _ in draw_scenes(config, "autoencoder-test", NUM_TEST, split="tuning"))
    model = make_model(own)
    generator = torch.Generator().manual_seed(config.seed)

    def compute(step: int) -> Tensor:
        batch = images[torch.randint(len(images), (own.batch_size,), generator=generator)]
        return loss_of(model, batch.to(memory_format=torch.channels_last), own.kl_weight, generator)

    training = Training("autoencoder", list(model.parameters()), own.num_steps, own.learning_rate)
    training.run(compute)
    model.eval()
    with torch.no_grad():
        latents = model.encode(test).latent_dist.mode()
        found = psnr(model.decode(latents).sample.clamp(-1, 1) / 2, test / 2)
    model.register_to_config(scaling_factor=round(1 / float(latents.std()), 6), shift_factor=0.0)
    model.save_pretrained(folder)
    return Report(metrics={"psnr": round(float(found.mean()), 4)}, curve=training.curve)


def make_model(config: AutoencoderTeacherConfig) -> Any:
    """An AutoencoderKL from its config."""
    from diffusers import AutoencoderKL

    make: Any = AutoencoderKL
    model = make(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * len(config.widths),
        up_block_types=("UpDecoderBlock2D",) * len(config.widths), block_out_channels=config.widths, layers_per_block=1,
        latent_channels=config.latent_channels, norm_num_groups=1, sample_size=SIDE, mid_block_add_attention=False,
    )  # fmt: skip
    for name, weight in model.named_parameters():
        if name.endswith("conv2.weight"):
            torch.nn.init.zeros_(weight)
    return model.to(memory_format=torch.channels_last)


def loss_of(model: Any, images: Tensor, kl_weight: float, generator: torch.Generator) -> Tensor:
    """Absolute and squared error of the reconstruction, and the divergence of the latents from a unit normal."""
    found = model.encode(images).latent_dist
    error = model.decode(found.sample(generator=generator)).sample - images
    divergence = (found.mean.square() + found.var - 1 - found.logvar).mean() / 2
    loss: Tensor = error.abs().mean() + error.square().mean() + kl_weight * divergence
    return loss
