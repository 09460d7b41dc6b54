"""Pictures to look at: images beside what became of them, of any sizes, on one sheet."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
from torch import Tensor

from arm.storage import Folder
from arm.tokenizer.images import Pixels

COLUMNS = 8
GAP = 4
SIDE = 144
"""Smaller images are enlarged by a whole factor up to about this."""


def save_sheet(output: Folder, name: str, *rows: Sequence[Tensor] | Tensor, apart: int = 0) -> None:
    """Publish one PNG: image i of each row below one another, eight columns, then, `apart` pixels lower, the next eight.

    rows: originals, then what was made of them: images (3, H, W) in [0, 1], equal in size where they stand in one column.
    """
    height, width = (max(image.shape[axis] for row in rows for image in row) for axis in (1, 2))
    factor = max(1, SIDE // max(height, width))
    groups = [[row[start : start + COLUMNS] for row in rows] for start in range(0, len(rows[0]), COLUMNS)]
    heights = [max(image.shape[1] for image in lines[0]) * factor + GAP for lines in groups]
    total = sum(height * len(rows) + apart for height in heights) - apart
    sheet = np.full((total, (width * factor + GAP) * min(COLUMNS, len(rows[0])), 3), 255, np.uint8)
    top = 0
    for lines, height in zip(groups, heights, strict=True):
        for row, line in enumerate(lines):
            for column, image in enumerate(line):
                _place(sheet, _pixels(image, factor), top + row * height, column * (width * factor + GAP))
        top += height * len(lines) + apart
    with output.publish(name) as path:
        PIL.Image.fromarray(sheet).save(path, "png")


def _place(sheet: Pixels, pixels: Pixels, top: int, left: int) -> None:
    sheet[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels


def _pixels(image: Tensor, factor: int) -> Pixels:
    pixels = (image.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
