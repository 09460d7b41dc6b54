"""Images between pixels, floats and codes: sizes, batches, and pictures of many images.

Legend: B batch, C channels, H height, W width in pixels; h, w in codes.
"""

import io
from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from arm.evaluation.items import Pixels
from arm.tokenizer.config import ResolutionConfig
from arm.tokenizer.resolution import target_size

Grid = tuple[int, int]
"""Height and width of an image in codes."""


def grid_of(height: int, width: int, resolution: ResolutionConfig, stride: int) -> Grid:
    """The grid at which training reads an image of height × width, so that no side is one that it never saw.

    36 × 36, (36, 36), stride 12 -> 3 × 3        3000 × 4000, (512, 1024), stride 16 -> 48 × 64
    """
    rows, columns = target_size(height, width, resolution, stride)
    return rows // stride, columns // stride


def square_grid(side: int, stride: int) -> Grid:
    """The grid of an image drawn from a text alone: a square of `side` pixels."""
    return grid_of(side, side, ResolutionConfig.within(side), stride)


def fit(pixels: Pixels, grid: Grid, stride: int) -> Pixels:
    """Resize an image to the grid's pixels: by area when it shrinks, bicubic when it grows; the same image when it fits."""
    height, width = grid[0] * stride, grid[1] * stride
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    how = PIL.Image.Resampling.BOX if shrinks else PIL.Image.Resampling.BICUBIC
    return np.asarray(PIL.Image.fromarray(pixels).resize((width, height), how))


def resize_like(pixels: Pixels, other: Pixels) -> Pixels:
    """The image at the size of another, by Lanczos; the same image when it has it."""
    height, width = other.shape[:2]
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.LANCZOS))


def by_grid(grids: Sequence[Grid], batch_size: int) -> Iterator[tuple[Grid, list[int]]]:
    """Indexes of images of one grid, at most `batch_size` at once; grids in increasing order."""
    for grid in sorted(set(grids)):
        same = [index for index, other in enumerate(grids) if other == grid]
        for start in range(0, len(same), batch_size):
            yield grid, same[start : start + batch_size]


def to_floats(images: Sequence[Pixels]) -> torch.Tensor:
    """Images (H, W, 3) uint8 of one size -> (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(255)


def to_pixels(images_BCHW: torch.Tensor) -> list[Pixels]:
    """(B, 3, H, W) in [0, 1] -> images (H, W, 3) uint8."""
    rounded = images_BCHW.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG bytes without time or software name: the same pixels give the same bytes."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "png", compress_level=9)
    return buffer.getvalue()


def enlarge(pixels: Pixels, side: int) -> Pixels:
    """Enlarge a small image by a whole factor, pixels left sharp; shrink a large one to fit a square of `side`."""
    factor = side // max(pixels.shape[:2])
    if factor >= 1:
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    picture = PIL.Image.fromarray(pixels)
    picture.thumbnail((side, side), PIL.Image.Resampling.BOX)
    return np.asarray(picture)


def sheet(rows: Sequence[Sequence[Pixels]], *, side: int = 108, gap: int = 6) -> Pixels:
    """Images in rows on a light ground, each in a square of `side` pixels: (H, W, 3) uint8."""
    columns = max(map(len, rows))
    canvas = np.full((len(rows) * (side + gap) + gap, columns * (side + gap) + gap, 3), 245, dtype=np.uint8)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            tile = enlarge(image, side)
            top, left = row * (side + gap) + gap, column * (side + gap) + gap
            canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return canvas
