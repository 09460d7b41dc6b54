"""The frozen autoencoder whose latents the detokenizer renders: diffusers' AutoencoderKL (FLUX) and AutoencoderDC (Sana)."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arm.errors import UserError

CLASSES = ("AutoencoderKL", "AutoencoderDC")


class LatentCodec(nn.Module):
    """Images to latents of unit variance and back, by a frozen autoencoder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        config = model.config
        self.variational = hasattr(config, "block_out_channels")
        widths = config.block_out_channels if self.variational else config.encoder_block_out_channels
        self.channels: int = config.latent_channels
        self.factor: int = 2 ** (len(widths) - 1)
        """Pixels per latent and side."""
        self.scale = float(config.scaling_factor)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)

    def train(self, mode: bool = True) -> "LatentCodec":
        """Frozen: always in evaluation mode."""
        return super().train(False)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "LatentCodec":
        """Load the autoencoder of a diffusers folder: its own, or the part `vae` of a pipeline's."""
        return cls(load_part(Path(folder), "vae", CLASSES))

    def save_pretrained(self, folder: Path) -> None:
        """Write the autoencoder as diffusers does."""
        save_part(self.model, folder)

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Images in [0, 1] to scaled latents (B, C, H/f, W/f): the posterior's mean, so that it is repeatable."""
        pixels = (images_BCHW.to(self.model.device) * 2 - 1).to(memory_format=torch.channels_last)
        found = self.model.encode(pixels)
        latents: Tensor = found.latent_dist.mode() if self.variational else found.latent
        return (latents - self.shift).contiguous() * self.scale

    @torch.no_grad()
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Scaled latents to images in [0, 1]."""
        latents = (latents_BCHW / self.scale + self.shift).to(memory_format=torch.channels_last)
        return (self.model.decode(latents).sample / 2 + 0.5).clamp(0, 1).contiguous()  # type: ignore[no-any-return]


def load_part(folder: Path, part: str, classes: tuple[str, ...]) -> Any:
    """A model of diffusers from its folder, or from the folder `part` of a pipeline; safetensors only, no code."""
    import diffusers

    if (folder / part).is_dir():
        folder = folder / part
    name = json.loads((folder / "config.json").read_text()).get("_class_name")
    if name not in classes:
        raise UserError(f"{folder} holds a {name!r}; it must be one of {', '.join(classes)}.")
    return getattr(diffusers, name).from_pretrained(
        folder, low_cpu_mem_usage=False, use_safetensors=True, local_files_only=True
    )


def save_part(model: Any, folder: Path) -> None:
    """Write a model of diffusers, but for the path that it was loaded from."""
    model.save_pretrained(folder)
    record = json.loads((folder / "config.json").read_text())
    record.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def pad_to(images_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeat the last row and column until (B, C, *size)."""
    height, width = images_BCHW.shape[-2:]
    if (height, width) == size:
        return images_BCHW
    return F.pad(images_BCHW, (0, size[1] - width, 0, size[0] - height), mode="replicate")
