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


def save_sheet(output: Folder, name: str, *rows: Sequence[Tensor] | Tensor) -> None:
    """Publish one PNG: image i of each row below one another, eight columns, then the next eight.

    rows: originals, then what was made of them: images (3, H, W) in [0, 1], equal in size where they stand in one column.
    """
    shapes = [image.shape[1:] for row in rows for image in row]
    height, width = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    factor = max(1, SIDE // max(height, width))
    cell = (height * factor + GAP, width * factor + GAP)
    lines = [row[start : start + COLUMNS] for start in range(0, len(rows[0]), COLUMNS) for row in rows]
    columns = min(COLUMNS, len(rows[0]))
    sheet = np.full((cell[0] * len(lines), cell[1] * columns, 3), 255, np.uint8)
    for row, line in enumerate(lines):
        for column, image in enumerate(line):
            pixels = _pixels(image, factor)
            top, left = row * cell[0], column * cell[1]
            sheet[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    with output.publish(name) as path:
        PIL.Image.fromarray(sheet).save(path, "png")


def _pixels(image: Tensor, factor: int) -> Pixels:
    pixels = (image.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
