"""The detokenizer: codes to pixels by a flow over the latents of a frozen autoencoder (Eq. 5).

    codes (B, h, w)  --tokenizer.embed-->  z_q  --rectified flow-->  latents  --decoder-->  images (B, 3, H, W) in [0, 1]

A folder written by `save_pretrained` holds all but the visual tokenizer:
    detokenizer.json        settings, sampling defaults, the tokenizer's fingerprint
    weights.safetensors     our weights: all for the backbone dit, the condition's maps for flux and sana
    transformer/            flux and sana: the transformer as diffusers saves it
    autoencoder/            the frozen autoencoder as diffusers saves it
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm import config as configs
from arm.errors import IntegrityError, UserError
from arm.tokenizer import flow
from arm.tokenizer.config import FlowConfig
from arm.tokenizer.config.detokenizer import BackboneName, DetokenizerConfig
from arm.tokenizer.detokenizer.backbone import FOLDER, Grid, Shape, build
from arm.tokenizer.detokenizer.latents import LatentCodec, pad_to
from arm.tokenizer.protocol import ImageTokenizer

CONFIG_NAME = "detokenizer.json"
WEIGHTS_NAME = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a detokenizer is, besides its weights."""

    stride: int
    """Pixels per code and side."""
    width_condition: int
    """Channels of the codes' features."""
    tokenizer_fingerprint: str
    """Whose codes it renders."""
    flow: FlowConfig
    """The path, and the DiT's size."""
    backbone: BackboneName = "dit"
    """What predicts the latents."""
    embedded_guidance: float = 1.0
    """FLUX.1-dev's guidance embedding."""
    source_condition: bool = False
    """Whether an edit's source can be a condition."""
    sampling_steps: int = 28
    """Euler steps."""
    guidance: float = 1.5
    """Classifier-free guidance."""


class Detokenizer(nn.Module):
    """A backbone with its condition and its autoencoder."""

    def __init__(self, codec: LatentCodec, settings: Settings, weights: Path | None = None) -> None:
        super().__init__()
        self.codec, self.settings = codec, settings
        shape = Shape(
            channels=codec.channels, factor=codec.factor, stride=settings.stride, flow=settings.flow,
            width_condition=settings.width_condition, source=settings.source_condition,
            embedded_guidance=settings.embedded_guidance,
        )  # fmt: skip
        self.norm = nn.LayerNorm(settings.width_condition)
        self.null = nn.Parameter(torch.zeros(settings.width_condition))
        self.backbone = build(settings.backbone, shape, weights)

    @classmethod
    def create(
        cls, codec: LatentCodec, tokenizer: ImageTokenizer, config: DetokenizerConfig, weights: Path | None = None
    ) -> "Detokenizer":
        """An untrained detokenizer for a tokenizer's codes; `weights` holds what flux and sana start from."""
        shared = ("backbone", "flow", "embedded_guidance", "source_condition", "sampling_steps", "guidance")
        settings = Settings(
            stride=tokenizer.stride, width_condition=tokenizer.width, tokenizer_fingerprint=tokenizer.fingerprint,
            **{name: getattr(config, name) for name in shared},
        )  # fmt: skip
        return cls(codec, settings, weights)

    @property
    def takes_sources(self) -> bool:
        """Whether `render` can be given the sources of edits."""
        return self.settings.source_condition

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to latents, their edges repeated until whole tokens cover them."""
        return self.codec.encode(pad_to(images_BCHW, self._padded(images_BCHW.shape[-2], images_BCHW.shape[-1])))

    def loss(
        self, latents: Tensor, features_BNC: Tensor, grid: Grid, dropped_B: Tensor, generator: torch.Generator,
        sources: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Rectified-flow loss on latents of `encode`; images with `dropped_B` learn without codes, sources of zeros are none."""
        features, padded = self._pad(features_BNC, grid)
        condition = null_features(self._condition(features), self.null, dropped_B)
        beside = self._beside(latents, sources)
        return flow.flow_loss(
            lambda x, t: self.backbone(x, t, condition, padded, beside), latents, self.settings.flow, generator
        )

    @torch.no_grad()
    def render(
        self, codes_BHW: Tensor, tokenizer: ImageTokenizer, *, seeds: Sequence[int], steps: int | None = None,
        guidance: float | None = None, sources_BCHW: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Codes (B, h, w) of any grid to images (B, 3, H, W) in [0, 1]; each image's noise is keyed by its seed.

        `sources_BCHW`, images of the same size in [0, 1], show what an edit shall keep, where `takes_sources`.
        """
        self._check(codes_BHW, tokenizer, seeds)
        rows, columns = codes_BHW.shape[1:]
        size = (rows * self.settings.stride, columns * self.settings.stride)
        padded = self._padded(*size)
        shape = (self.codec.channels, padded[0] // self.codec.factor, padded[1] // self.codec.factor)
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in seeds])
        noise = noise.to(tokenizer.device)
        sources = None if sources_BCHW is None else self._encode_sources(sources_BCHW, size)
        chosen = self.settings.guidance if guidance is None else guidance
        network = self._guided(
            tokenizer.embed(codes_BHW).float(), (rows, columns), self._beside(noise, sources), chosen
        )
        with self._products():
            latents = flow.integrate(network, noise, steps or self.settings.sampling_steps, self.settings.flow)
        return self.codec.decode(latents)[..., : size[0], : size[1]]

    def _check(self, codes_BHW: Tensor, tokenizer: ImageTokenizer, seeds: Sequence[int]) -> None:
        own = self.settings.tokenizer_fingerprint
        if tokenizer.fingerprint != own:
            raise UserError(f"The detokenizer belongs to tokenizer {own[:12]}…, not {tokenizer.fingerprint[:12]}….")
        if len(seeds) != len(codes_BHW):
            raise UserError(f"render has {len(codes_BHW)} images but {len(seeds)} seeds.")

    def _encode_sources(self, sources_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        found = (sources_BCHW.shape[-2], sources_BCHW.shape[-1])
        if found != size:
            raise UserError(f"The sources have {found[0]}x{found[1]} pixels; the codes make {size[0]}x{size[1]}.")
        return self.encode(sources_BCHW)

    def _guided(self, features_BNC: Tensor, grid: Grid, beside: Tensor, guidance: float) -> flow.Network:
        """The network with classifier-free guidance: null + guidance (conditioned - null); a source is seen by both."""
        features, padded = self._pad(features_BNC, grid)
        condition = self._condition(features)
        if guidance == 1:
            return lambda x, t: self.backbone(x, t, condition, padded, beside)
        everything = torch.ones(len(condition), dtype=torch.bool, device=condition.device)
        both = torch.cat([condition, null_features(condition, self.null, everything)])
        twice = beside.repeat(2, 1, 1, 1)

        def network(x: Tensor, t: Tensor) -> Tensor:
            conditioned, free = self.backbone(x.repeat(2, 1, 1, 1), t.repeat(2), both, padded, twice).chunk(2)
            mixed: Tensor = free + guidance * (conditioned - free)
            return mixed

        return network

    def _condition(self, features_BNC: Tensor) -> Tensor:
        return self.norm(features_BNC.to(self.null.dtype))  # type: ignore[no-any-return]

    def _products(self) -> AbstractContextManager[Any]:
        """Where weights are bfloat16, as while they are trained so, all that meets them is brought to it."""
        if self.null.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.null.device.type, self.null.dtype)

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        """The least size in whole units of the backbone that covers an image."""
        unit = self.backbone.unit
        return -(-height // unit) * unit, -(-width // unit) * unit

    def _pad(self, features_BNC: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Features of the padded grid: those of the last row and column are repeated."""
        height, width = self._padded(grid[0] * self.settings.stride, grid[1] * self.settings.stride)
        padded = (height // self.settings.stride, width // self.settings.stride)
        if padded == grid:
            return features_BNC, grid
        features_BCHW = features_BNC.mT.reshape(len(features_BNC), -1, *grid)
        return pad_to(features_BCHW, padded).flatten(2).mT, padded

    def _beside(self, latents: Tensor, sources: Tensor | None) -> Tensor:
        """Channels beside the noisy latents: the sources', zeros where there are none, or no channels at all."""
        if not self.takes_sources:
            if sources is not None:
                raise UserError("This detokenizer has not learned to see sources; train it with source_condition.")
            return latents[:, :0]
        return torch.zeros_like(latents) if sources is None else sources

    def own_weights(self) -> dict[str, Tensor]:
        """The weights that neither the autoencoder nor a transformer of diffusers holds."""
        others = ("codec.", f"backbone.{FOLDER}.")
        return {name: value.contiguous() for name, value in self.state_dict().items() if not name.startswith(others)}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that holds all but the visual tokenizer."""
        from safetensors.torch import save_file

        folder = Path(folder)
        self.codec.save_pretrained(folder / "autoencoder")
        self.backbone.save_pretrained(folder)
        save_file(self.own_weights(), folder / WEIGHTS_NAME)
        record = configs.to_dict(self.settings)
        (folder / CONFIG_NAME).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Detokenizer":
        """Load such a folder, frozen and in evaluation mode."""
        from safetensors.torch import load_file

        folder = Path(folder)
        settings = configs.from_dict(Settings, json.loads((folder / CONFIG_NAME).read_text()))
        weights = folder if (folder / FOLDER).is_dir() else None
        detokenizer = cls(LatentCodec.from_pretrained(folder / "autoencoder"), settings, weights)
        own = load_file(folder / WEIGHTS_NAME)
        if own.keys() != detokenizer.own_weights().keys():
            raise IntegrityError(f"{folder}/{WEIGHTS_NAME} does not hold the weights that {CONFIG_NAME} names.")
        detokenizer.load_state_dict(own, strict=False)
        return detokenizer.eval().requires_grad_(False)


def null_features(features_BNC: Tensor, null_C: Tensor, dropped_B: Tensor) -> Tensor:
    """Replace the features of the dropped images by the learned null vector."""
    return torch.where(dropped_B[:, None, None], null_C.to(features_BNC), features_BNC)
