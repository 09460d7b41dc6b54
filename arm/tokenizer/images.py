"""Pixels brought to a size, and to tensors."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from arm.data.images import BadImageError, decode_image
from arm.errors import IntegrityError
from arm.records import Image

Pixels = npt.NDArray[np.uint8]


def to_images(pixels_NHWC: Pixels) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [0, 1]."""
    return torch.tensor(pixels_NHWC).permute(0, 3, 1, 2).float() / 255


def decode_curated(image: Image, uid: str, path: Path) -> Pixels:
    """The pixels of a curated image: what cannot be decoded was dropped before, so a bad one here is damage."""
    try:
        return decode_image(image)
    except BadImageError as error:
        raise IntegrityError(f"An image of {uid} in {path} cannot be used: {error}.") from None


def fit_pixels(pixels_HWC: Pixels, height: int, width: int) -> Pixels:
    """Resize to cover the bucket (area average down, bicubic up) and centre-crop: (height, width, 3)."""
    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    picture = PIL.Image.fromarray(pixels_HWC)
    scale = max(height / picture.height, width / picture.width)
    size = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    picture = picture.resize(size, PIL.Image.Resampling.BOX if scale < 1 else PIL.Image.Resampling.BICUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.asarray(picture.crop((left, top, left + width, top + height)))
