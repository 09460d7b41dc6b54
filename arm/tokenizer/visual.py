"""The visual tokenizer: frozen encoder, projection in, FSQ, projection out (section 3.1).

    images (B, 3, H, W) in [0, 1]  --encode-->  codes (B, H/P, W/P)  --embed-->  features z_q (B, N, C)

A folder written by `save_pretrained` is self-contained:
    visual_tokenizer.json     config, index order, fingerprint
    projections.safetensors   trained weights
    encoder/                  the frozen encoder as Hugging Face saves it
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm import config as configs
from arm.errors import IntegrityError
from arm.tokenizer.blocks import Blocks
from arm.tokenizer.config import QuantizerConfig
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.fsq import FSQ, INDEX_ORDER

CONFIG_NAME = "visual_tokenizer.json"
WEIGHTS_NAME = "projections.safetensors"


@dataclasses.dataclass(frozen=True, slots=True)
class Quantized:
    """What the objectives need of one forward pass."""

    features_BNC: Tensor
    """z_q, with gradient through the straight-through estimator."""
    bounded_BND: Tensor
    """Values in (-1, 1) before rounding."""
    values_BND: Tensor
    """Rounded values."""
    target_BNC: Tensor
    """The encoder's own features after the post-layernorm."""


class VisualTokenizer(nn.Module):
    """Images to codes and codes to features."""

    def __init__(self, encoder: FrozenEncoder, config: QuantizerConfig) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        inner = {"width": config.width, "num_blocks": config.num_blocks, "heads": config.num_heads}
        dims = len(config.levels)
        self.mixers = nn.ModuleList(_mixer(encoder.width) for _ in config.encoder_layers)
        self.project_in = Blocks(width_in=encoder.width, width_out=dims, scope=config.projection_attention, **inner)
        self.quantizer = FSQ(config.levels, norm=config.pre_quantizer_norm)
        self.project_out = Blocks(width_in=dims, width_out=encoder.width, scope=config.projection_attention, **inner)
        self._fingerprint = ""

    @property
    def num_codes(self) -> int:
        """Size of the codebook."""
        return self.quantizer.num_codes

    @property
    def levels(self) -> tuple[int, ...]:
        """FSQ levels of the digits behind a code."""
        return self.quantizer.levels

    @property
    def width(self) -> int:
        """Channels C of the features: the encoder's, before and after the codes."""
        return self.encoder.width

    @property
    def stride(self) -> int:
        """Pixels per code and side."""
        return self.encoder.patch

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.project_in.inward.weight.device

    @property
    def fingerprint(self) -> str:
        """sha256 over config, index order and every weight: equal fingerprints mean equal codes."""
        return self._fingerprint or _fingerprint(self)

    def forward(self, images_BCHW: Tensor) -> Quantized:
        """Features with gradients, for training."""
        states = self.encoder(images_BCHW.to(self.device))
        values, bounded = self.quantizer(self._project(states))
        features = self.project_out(values, self.encoder.grid(images_BCHW))
        return Quantized(features, bounded, values, states[-1])

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Images (B, 3, H, W) float32 in [0, 1] to codes (B, H/P, W/P) int64."""
        images_BCHW, grid = images_BCHW.to(self.device), self.encoder.grid(images_BCHW)
        shallow = set(self.config.encoder_layers) == {0}
        states = (self.encoder.embed(images_BCHW),) if shallow else self.encoder(images_BCHW)
        codes_BN: Tensor = self.quantizer.encode(self._project(states))
        return codes_BN.view(len(codes_BN), *grid)

    @torch.no_grad()
    def embed(self, codes_BHW: Tensor) -> Tensor:
        """Codes (B, rows, columns) to features z_q (B, N, C)."""
        grid = (codes_BHW.shape[1], codes_BHW.shape[2])
        return self.project_out(self.quantizer.decode(codes_BHW.to(self.device).flatten(1)), grid)  # type: ignore[no-any-return]

    def pool(self, features_BNC: Tensor) -> Tensor:
        """One image vector (B, C), by the encoder's frozen attention-pooling head."""
        return self.encoder.pool(features_BNC)

    def trained_state(self) -> dict[str, Tensor]:
        """Every weight and statistic but the frozen encoder's."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("encoder.")}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a self-contained folder."""
        from safetensors.torch import save_file

        folder = Path(folder)
        self.encoder.model.save_pretrained(folder / "encoder")
        save_file({name: value.contiguous() for name, value in self.trained_state().items()}, folder / WEIGHTS_NAME)
        record = {
            "quantizer": configs.to_dict(self.config),
            "index_order": INDEX_ORDER,
            "fingerprint": _fingerprint(self),
        }
        (folder / CONFIG_NAME).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "VisualTokenizer":
        """Load such a folder, frozen and in evaluation mode; another index order or altered weights are refused."""
        from safetensors.torch import load_file

        folder = Path(folder)
        record = json.loads((folder / CONFIG_NAME).read_text())
        if record["index_order"] != INDEX_ORDER:
            raise IntegrityError(
                f"{folder} was written with index order {record['index_order']}; this program reads {INDEX_ORDER}."
            )
        config = configs.from_dict(QuantizerConfig, record["quantizer"])
        tokenizer = cls(FrozenEncoder.from_pretrained(folder / "encoder"), config)
        tokenizer.load_state_dict(load_file(folder / WEIGHTS_NAME), strict=False)
        tokenizer.eval().requires_grad_(False)
        tokenizer._fingerprint = _fingerprint(tokenizer)
        if tokenizer._fingerprint != record["fingerprint"]:
            raise IntegrityError(
                f"{folder} does not hold the weights of its fingerprint {record['fingerprint'][:12]}…."
            )
        return tokenizer

    def _project(self, states: tuple[Tensor, ...]) -> Tensor:
        """Chosen hidden states to inputs of the quantizer (B, N, D)."""
        chosen = (mix(states[layer]) for mix, layer in zip(self.mixers, self.config.encoder_layers, strict=True))
        return self.project_in(torch.stack(list(chosen)).sum(0))  # type: ignore[no-any-return]


def _mixer(width: int) -> nn.Module:
    """Brings hidden states of different scale to one: a norm without parameters and a linear map."""
    return nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, width))


def _fingerprint(tokenizer: VisualTokenizer) -> str:
    digest = hashlib.sha256(configs.to_json(tokenizer.config).encode() + bytes([INDEX_ORDER]))
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_raw(value))
    return digest.hexdigest()


def _raw(value: Tensor) -> Any:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
