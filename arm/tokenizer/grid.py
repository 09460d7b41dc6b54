"""Rows of images of one size as one picture."""

from itertools import islice

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from arm.storage import Folder


def save_grid(output: Folder, name: str, *rows: Tensor, enlarge: int = 4) -> None:
    """Publish images (N, 3, H, W) in [0, 1] as one PNG, a row each."""
    lines = [torch.cat(list(islice(row, len(row))), dim=2) for row in rows]
    pixels = (torch.cat(lines, dim=1).permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    enlarged = pixels.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    with output.publish(name) as path:
        PIL.Image.fromarray(np.ascontiguousarray(enlarged)).save(path, "png")
