"""Features for the Fréchet distance: from files, or from a vision model of the user's that transformers loads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from arm.errors import UserError
from arm.outside import outside_files

Features = npt.NDArray[np.float64]
SIZE = 224
"""Pixels where the preprocessor's config names no size."""


def read_features(path: str) -> Features:
    """Features (N, D) of a .npy file, or of a .safetensors file of one tensor."""
    (file,) = list(outside_files(path).values())[:1]
    try:
        found = _load(file)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as features ({error}).") from None
    if found.ndim != 2 or len(found) < 2 or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise UserError(
            f"{path} holds {found.dtype} of the shape {found.shape}; features are finite numbers (images, channels)."
        )
    return found.astype(np.float64)


def _load(file: Path) -> Features:
    if file.suffix != ".safetensors":
        return np.asarray(np.load(file, allow_pickle=False))
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ValueError(error) from None
    if len(tensors) != 1:
        raise ValueError(f"{len(tensors)} tensors, not one")
    return np.asarray(next(iter(tensors.values())))


class FeatureBackbone:
    """A vision model with its preprocessing: images (B, 3, H, W) in [0, 1] to features (B, D).

    Images are resized (bicubic, antialiased) to the size of preprocessor_config.json without a crop, and normalised by its
    mean and std. Features are the pooled output, or the mean over positions. Distances compare within one backbone only.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        from transformers import AutoModel

        files = outside_files(path)
        if "config.json" not in files or "preprocessor_config.json" not in files:
            raise UserError(f"{path} holds no config.json or no preprocessor_config.json: not a vision model.")
        folder = files["config.json"].parent
        try:
            model: Any = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
            settings = json.loads(files["preprocessor_config.json"].read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be loaded as a vision model ({error}).") from None
        self.model = getattr(model, "vision_model", model).eval().requires_grad_(False).to(device)
        self.size = _size(settings)
        self.mean, self.std = (
            torch.tensor(settings.get(name, [0.5] * 3), device=device).view(1, 3, 1, 1)
            for name in ("image_mean", "image_std")
        )

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Features (B, D) float64."""
        resized = F.interpolate(images_BCHW.to(self.mean), self.size, mode="bicubic", antialias=True).clamp(0, 1)
        outputs = self.model(pixel_values=(resized - self.mean) / self.std)
        pooled = getattr(outputs, "pooler_output", None)
        if pooled is None:
            states = outputs.last_hidden_state
            pooled = states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))
        return pooled.flatten(1).double().cpu()  # type: ignore[no-any-return]


def _size(settings: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of {"height": 384, "width": 384}, {"shortest_edge": 224} or 224."""
    size = settings.get("size", SIZE)
    if isinstance(size, int):
        return size, size
    shortest = size.get("shortest_edge", SIZE)
    return int(size.get("height", shortest)), int(size.get("width", shortest))
