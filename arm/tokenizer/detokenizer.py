"""The detokenizer: codes to pixels by a latent DiT on a frozen VAE (Eq. 5).

    codes (B, h, w)  --tokenizer.embed-->  z_q  --rectified flow-->  latents  --VAE-->  images (B, 3, H, W) in [0, 1]

A folder written by `save_pretrained` holds all but the visual tokenizer:
    detokenizer.json     config, sampling defaults, the tokenizer's fingerprint
    dit.safetensors      weights
    autoencoder/         the frozen VAE as diffusers saves it
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm import config as configs
from arm.errors import IntegrityError, UserError
from arm.tokenizer import flow
from arm.tokenizer.config import FlowConfig
from arm.tokenizer.dit import ConditionedDiT, null_features
from arm.tokenizer.protocol import ImageTokenizer

CONFIG_NAME = "detokenizer.json"
WEIGHTS_NAME = "dit.safetensors"


class LatentCodec(nn.Module):
    """A frozen AutoencoderKL with latents scaled to unit variance."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.channels: int = model.config.latent_channels
        self.factor: int = 2 ** (len(model.config.block_out_channels) - 1)
        self.scale = float(model.config.scaling_factor)
        self.shift = float(model.config.shift_factor or 0.0)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "LatentCodec":
        """Load the VAE of a diffusers folder."""
        from diffusers import AutoencoderKL

        loader: Any = AutoencoderKL
        return cls(loader.from_pretrained(folder, low_cpu_mem_usage=False).to(memory_format=torch.channels_last))

    def save_pretrained(self, folder: Path) -> None:
        """Write the VAE as diffusers does, but for the path that it was loaded from."""
        self.model.save_pretrained(folder)
        record = json.loads((folder / "config.json").read_text())
        record.pop("_name_or_path", None)
        (folder / "config.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Images in [0, 1] to scaled latents (B, C, H/f, W/f): the posterior's mean, so that it is repeatable."""
        pixels = (images_BCHW.to(self.model.device) * 2 - 1).to(memory_format=torch.channels_last)
        return (self.model.encode(pixels).latent_dist.mode() - self.shift).contiguous() * self.scale  # type: ignore[no-any-return]

    @torch.no_grad()
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Scaled latents to images in [0, 1]."""
        latents = (latents_BCHW / self.scale + self.shift).to(memory_format=torch.channels_last)
        return (self.model.decode(latents).sample / 2 + 0.5).clamp(0, 1).contiguous()  # type: ignore[no-any-return]


class Detokenizer(nn.Module):
    """The latent DiT with its VAE."""

    def __init__(
        self, codec: LatentCodec, config: FlowConfig, *, stride: int, width_condition: int, sampling_steps: int,
        guidance: float, tokenizer_fingerprint: str,
    ) -> None:  # fmt: skip
        super().__init__()
        if stride % codec.factor:
            raise UserError(f"A code covers {stride} pixels, which the VAE's factor {codec.factor} does not divide.")
        self.codec, self.config, self.stride = codec, config, stride
        self.sampling_steps, self.guidance = sampling_steps, guidance
        self.tokenizer_fingerprint = tokenizer_fingerprint
        self.area = stride // codec.factor
        self.norm = nn.LayerNorm(width_condition)
        self.null = nn.Parameter(torch.zeros(width_condition))
        self.dit = ConditionedDiT(config, channels=codec.channels, area=self.area, width_condition=width_condition)

    def loss(self, latents: Tensor, features_BNC: Tensor, dropped_B: Tensor, generator: torch.Generator) -> Tensor:
        """Rectified-flow loss on latents (B, C, h, w); images with `dropped_B` learn without condition."""
        condition = null_features(self.norm(features_BNC), self.null, dropped_B)
        return flow.flow_loss(lambda x, t: self.dit(x, t, condition), latents, self.config, generator)

    @torch.no_grad()
    def render(
        self, codes_BHW: Tensor, tokenizer: ImageTokenizer, *, seeds: Sequence[int], steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:  # fmt: skip
        """Codes (B, h, w) to images (B, 3, H, W) in [0, 1]; each image's noise is keyed by its seed."""
        if tokenizer.fingerprint != self.tokenizer_fingerprint:
            raise UserError(
                f"The detokenizer belongs to tokenizer {self.tokenizer_fingerprint[:12]}…, not {tokenizer.fingerprint[:12]}…."
            )
        if len(seeds) != len(codes_BHW):
            raise UserError(f"render has {len(codes_BHW)} images but {len(seeds)} seeds.")
        features = tokenizer.embed(codes_BHW)
        shape = (self.codec.channels, codes_BHW.shape[1] * self.area, codes_BHW.shape[2] * self.area)
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in seeds])
        noise = noise.to(features.device)
        network = self._guided(features, self.guidance if guidance is None else guidance)
        latents = flow.integrate(network, noise, steps or self.sampling_steps, self.config)
        return self.codec.decode(latents)

    def _guided(self, features_BNC: Tensor, guidance: float) -> flow.Network:
        """The network with classifier-free guidance: null + guidance (conditioned - null)."""
        condition = self.norm(features_BNC)
        if guidance == 1:
            return lambda x, t: self.dit(x, t, condition)
        everything = torch.ones(len(condition), dtype=torch.bool, device=condition.device)
        both = torch.cat([condition, null_features(condition, self.null, everything)])

        def network(x: Tensor, t: Tensor) -> Tensor:
            conditioned, free = self.dit(x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
            mixed: Tensor = free + guidance * (conditioned - free)
            return mixed

        return network

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that holds all but the visual tokenizer."""
        from safetensors.torch import save_file

        folder = Path(folder)
        self.codec.save_pretrained(folder / "autoencoder")
        weights = {k: v.contiguous() for k, v in self.state_dict().items() if not k.startswith("codec.")}
        save_file(weights, folder / WEIGHTS_NAME)
        record = {
            "flow": configs.to_dict(self.config), "stride": self.stride, "width_condition": len(self.null),
            "sampling_steps": self.sampling_steps, "guidance": self.guidance,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
        }  # fmt: skip
        (folder / CONFIG_NAME).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Detokenizer":
        """Load such a folder, frozen and in evaluation mode."""
        from safetensors.torch import load_file

        folder = Path(folder)
        record = json.loads((folder / CONFIG_NAME).read_text())
        config = configs.from_dict(FlowConfig, record.pop("flow"))
        detokenizer = cls(LatentCodec.from_pretrained(folder / "autoencoder"), config, **record)
        found = detokenizer.load_state_dict(load_file(folder / WEIGHTS_NAME), strict=False)
        if found.unexpected_keys or any(not key.startswith("codec.") for key in found.missing_keys):
            raise IntegrityError(f"{folder}/{WEIGHTS_NAME} does not fit {CONFIG_NAME}: {found}.")
        return detokenizer.eval().requires_grad_(False)
