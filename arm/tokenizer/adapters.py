"""Image tokenizers that transformers ships, behind `ImageTokenizer`: one learned codebook, a convolutional encoder.

    class              stride   codes    features C   decoder
    Emu3VQVAE          8        32,768   4            yes
    ChameleonVQVAE     16       8,192    256          not in transformers: train a detokenizer on its codes
    JanusVQVAE         16       16,384   8            yes

(the published checkpoints). Users of the language model and of RL can skip both trainings with them. Codes are those of
the class's own `encode`, features the codebook vectors that its decoder reads. Weights are read from safetensors alone
and computed with in float32.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.data.image_tokenizers import RECORD_NAME, TokenizerCheckpoint, read_checkpoint, read_json
from arm.errors import IntegrityError, UserError

CLASSES = {"emu3_vqgan": "Emu3VQVAE", "chameleon_vqgan": "ChameleonVQVAE", "janus_vqgan": "JanusVQVAE"}
"""`model_type` -> class of transformers."""


class PretrainedTokenizer(nn.Module):
    """One of the classes above, frozen."""

    levels: tuple[int, ...] = ()
    """Codes of a learned codebook have no digits."""
    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, checkpoint: TokenizerCheckpoint, fingerprint: str) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.model_type, self.fingerprint = checkpoint.model_type, fingerprint
        self.num_codes, self.stride = checkpoint.num_codes, checkpoint.stride
        self.width: int = model.quantize.embedding.weight.shape[1]
        pixels = checkpoint.normalisation
        self.scale = pixels.scale
        self.register_buffer("mean", torch.tensor(pixels.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).view(3, 1, 1), persistent=False)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "PretrainedTokenizer":
        """Load a local checkpoint, of the tokenizer alone or of the whole model; altered weights are refused."""
        folder = Path(folder)
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        checkpoint = read_checkpoint(files, str(folder))
        fingerprint = checkpoint.fingerprint()
        if RECORD_NAME in files and read_json(files, RECORD_NAME, str(folder)).get("fingerprint") != fingerprint:
            raise IntegrityError(f"{folder} does not hold the weights of the fingerprint in its {RECORD_NAME}.")
        return cls(_load_model(checkpoint, str(folder)), checkpoint, fingerprint)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.quantize.embedding.weight.device  # type: ignore[no-any-return]

    @property
    def has_decoder(self) -> bool:
        """Whether `render` works."""
        return hasattr(self.model, "decoder")

    def train(self, mode: bool = True) -> "PretrainedTokenizer":
        """Frozen: always in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Images (B, 3, H, W) float32 in [0, 1] to codes (B, H/stride, W/stride) int64."""
        height, width = images_BCHW.shape[-2:]
        if height % self.stride or width % self.stride:
            raise UserError(f"An image of {height}x{width} pixels does not divide into patches of {self.stride}.")
        pixels = self.normalise(images_BCHW.to(self.device))
        if self.model_type == "emu3_vqgan":
            sizes = torch.tensor([[height, width]] * len(pixels))
            return torch.stack(list(self.model.encode(pixels, sizes, return_dict=True).image_tokens))
        codes: Tensor = self.model.encode(pixels, return_dict=True).image_tokens
        return codes.view(len(pixels), height // self.stride, width // self.stride)

    @torch.no_grad()
    def embed(self, codes_BHW: Tensor) -> Tensor:
        """Codes (B, h, w) to the codebook vectors (B, h x w, C) that the decoder reads: Janus's have unit length."""
        vectors: Tensor = self.model.quantize.embedding(codes_BHW.to(self.device).flatten(1))
        return nn.functional.normalize(vectors, dim=-1) if self.model_type == "janus_vqgan" else vectors

    @torch.no_grad()
    def render(self, codes_BHW: Tensor) -> Tensor:
        """Codes (B, h, w) to images (B, 3, H, W) in [0, 1] by the class's own decoder, at any grid."""
        if not self.has_decoder:
            name = CLASSES[self.model_type]
            raise UserError(f"{name} has no decoder in transformers; train a detokenizer on its codes.")
        if self.model_type == "emu3_vqgan":
            return self.denormalise(self.model.decode(codes_BHW.to(self.device)))
        vectors_BCHW = self.embed(codes_BHW).mT.reshape(len(codes_BHW), self.width, *codes_BHW.shape[1:])
        return self.denormalise(self.model.decoder(self.model.post_quant_conv(vectors_BCHW)))

    def normalise(self, images_BCHW: Tensor) -> Tensor:
        """Images in [0, 1] to what the class was trained on, [-1, 1] as a rule."""
        return (images_BCHW * self.scale - self.mean) / self.std

    def denormalise(self, pixels_BCHW: Tensor) -> Tensor:
        """The inverse of `normalise`, clipped to [0, 1]."""
        return ((pixels_BCHW * self.std + self.mean) / self.scale).clamp(0, 1)


class OwnDecoder:
    """A detokenizer without weights of its own: the tokenizer whose codes it gets has a decoder."""

    takes_sources = False

    def __init__(self, tokenizer_fingerprint: str) -> None:
        self.tokenizer_fingerprint = tokenizer_fingerprint

    def to(self, device: torch.device, /) -> "OwnDecoder":
        """The tokenizer's decoder lies where the tokenizer lies."""
        return self

    def render(
        self, codes_BHW: Tensor, tokenizer: Any, *, seeds: Sequence[int], steps: int | None = None,
        guidance: float | None = None, sources_BCHW: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Codes (B, h, w) of that tokenizer to images (B, 3, H, W) in [0, 1]; no noise is drawn."""
        if tokenizer.fingerprint != self.tokenizer_fingerprint:
            raise UserError(
                f"The detokenizer belongs to tokenizer {self.tokenizer_fingerprint[:12]}…, not {tokenizer.fingerprint[:12]}…."
            )
        if steps is not None or guidance is not None or sources_BCHW is not None:
            raise UserError("An imported tokenizer's decoder has no steps, guidance or sources; leave them empty.")
        if len(seeds) != len(codes_BHW):
            raise UserError(f"render has {len(codes_BHW)} images but {len(seeds)} seeds.")
        return tokenizer.render(codes_BHW)  # type: ignore[no-any-return]


def _load_model(checkpoint: TokenizerCheckpoint, name: str) -> Any:
    """The class with the checkpoint's weights; shapes are compared before any memory is taken for them."""
    import transformers

    model_class = getattr(transformers, CLASSES[checkpoint.model_type])
    try:
        with torch.device("meta"):
            model = model_class(model_class.config_class(**checkpoint.config))
    except (ValueError, IndexError) as error:
        raise UserError(f"{name}/config.json describes no {model_class.__name__} ({error}).") from None
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tensor.shape for key, tensor in checkpoint.tensors.items()}
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        raise UserError(
            f"{name}'s weights do not fit its config.json: {len(wrong)} tensors differ, such as {wrong[0]}."
        )
    model.load_state_dict(_read_weights(checkpoint), assign=True)
    return model


def _read_weights(checkpoint: TokenizerCheckpoint) -> dict[str, Tensor]:
    """Every weight in float32."""
    from safetensors import safe_open

    weights: dict[str, Tensor] = {}
    for path in sorted({tensor.path for tensor in checkpoint.tensors.values()}):
        with safe_open(path, framework="pt") as opened:
            here = {name: tensor.key for name, tensor in checkpoint.tensors.items() if tensor.path == path}
            weights |= {name: opened.get_tensor(key).float() for name, key in here.items()}
    return weights
