"""The frozen vision encoder: SigLIP and SigLIP2 checkpoints behind one interface.

`SiglipVisionModel` takes images; `Siglip2VisionModel` (the NaFlex variant) takes flattened patches with their grid.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arm.errors import UserError
from arm.tokenizer.blocks import patchify

CLASSES = ("siglip", "siglip2")


class FrozenEncoder(nn.Module):
    """Patch features of a frozen SigLIP-class model. Images are (B, 3, H, W) float32 in [0, 1]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.patch: int = model.config.patch_size
        self.width: int = model.config.hidden_size
        self.flexible: bool = model.config.model_type == "siglip2_vision_model"

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "FrozenEncoder":
        """Load the vision half of a SigLIP or SigLIP2 checkpoint, or a checkpoint of that half alone."""
        from transformers import AutoConfig, AutoModel

        name = AutoConfig.from_pretrained(folder).model_type.removesuffix("_vision_model")
        if name not in CLASSES:
            raise UserError(f"{folder} holds a {name!r} model; the encoder must be one of {', '.join(CLASSES)}.")
        model = AutoModel.from_pretrained(folder, dtype=torch.float32)  # not the file's: ours is float32 after it
        return cls(getattr(model, "vision_model", model))

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Frozen: always in evaluation mode."""
        return super().train(False)

    def grid(self, images_BCHW: Tensor) -> tuple[int, int]:
        """(rows, columns) of patches; a size that the patch does not divide is a UserError."""
        height, width = images_BCHW.shape[-2:]
        if height % self.patch or width % self.patch:
            raise UserError(f"An image of {height}x{width} pixels does not divide into patches of {self.patch}.")
        return height // self.patch, width // self.patch

    @torch.no_grad()
    def embed(self, images_BCHW: Tensor) -> Tensor:
        """The patch embeddings (B, N, C) alone, hidden state 0: no block is run."""
        inputs = self._inputs(images_BCHW * 2 - 1)
        inputs.pop("pixel_attention_mask", None)
        return self.model.embeddings(**inputs)  # type: ignore[no-any-return]

    @torch.no_grad()
    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Hidden states (B, N, C): [0] the patch embeddings, [i] after block i, [-1] after the post-layernorm."""
        outputs = self.model(**self._inputs(images_BCHW * 2 - 1), output_hidden_states=True)
        return (*outputs.hidden_states, outputs.last_hidden_state)

    def pool(self, features_BNC: Tensor) -> Tensor:
        """The image vector (B, C) that the frozen attention-pooling head makes of patch features."""
        return self.model.head(features_BNC)  # type: ignore[no-any-return]

    def _inputs(self, pixels_BCHW: Tensor) -> dict[str, Any]:
        rows, columns = self.grid(pixels_BCHW)
        if not self.flexible:
            fits = pixels_BCHW.shape[-2:] == (self.model.config.image_size,) * 2
            return {"pixel_values": pixels_BCHW, "interpolate_pos_encoding": not fits}
        batch = len(pixels_BCHW)
        return {
            "pixel_values": patchify(pixels_BCHW, self.patch),
            "pixel_attention_mask": torch.ones(batch, rows * columns, dtype=torch.int64, device=pixels_BCHW.device),
            "spatial_shapes": torch.tensor([[rows, columns]] * batch),
        }
