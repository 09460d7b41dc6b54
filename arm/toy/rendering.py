"""Scenes as pixels: antialiased shapes from precomputed coverage templates, a tinted sloping ground, pixel noise.

    render([scene], seeds=[7])  ->  uint8 (1, 36, 36, 3)

Each image depends on its scene and seed alone. The same seed gives the same noise, so an edit's target equals its
source outside the edited objects.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from arm.toy.scene import COLORS, RADIUS, SHAPES, SIDE, SIZES, Object, Scene

Floats = npt.NDArray[np.floating]

PALETTE = np.array(
    [(215, 40, 45), (235, 200, 30), (40, 165, 60), (40, 195, 205), (45, 80, 215), (165, 55, 185)], dtype=np.float32
)
"""RGB of COLORS, in that order: hues about 60 degrees apart."""

WINDOW = 14
"""Side of a template in pixels: an object of extent 9.2 at any sub-pixel offset."""
STEPS = 8
"""Sub-pixel positions per axis, and samples per pixel edge."""
MARGIN = 3
"""Pixels of canvas around the image: a template lies inside for centres from 3 to 31, more than objects reach."""
CHUNK = 256
"""Images composed at a time, so that the canvas stays in the cache."""


def render(scenes: Sequence[Scene], seeds: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Draw scenes as images (B, 36, 36, 3); `seeds` choose the noise."""
    images = np.empty((len(scenes), SIDE, SIDE, 3), np.uint8)
    for start in range(0, len(scenes), CHUNK):
        part = slice(start, start + CHUNK)
        images[part] = _render_chunk(scenes[part], seeds[part])
    return images


def shape_mask(shape: str, radius: float, x: Floats, y: Floats) -> npt.NDArray[np.bool_]:
    """Which points (x right, y down, from the centre) lie inside a shape of that radius (half its extent)."""
    if shape == "circle":
        return np.asarray(x * x + y * y <= radius * radius)
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) <= 0.9 * radius
    if shape == "triangle":
        return (np.abs(y) <= 0.95 * radius) & (np.abs(x) <= (y + 0.95 * radius) * (0.5 / 0.95))
    arm, long = 0.32 * radius, radius
    near = np.minimum(np.abs(x), np.abs(y)) <= arm
    return near & (np.maximum(np.abs(x), np.abs(y)) <= long)


def coverage(shape: str, radius: float) -> Floats:
    """Pixel coverage in [0, 1] at every sub-pixel offset: (STEPS y, STEPS x, WINDOW, WINDOW); centre at 6 + offset."""
    axis = (np.arange((WINDOW + 1) * STEPS, dtype=np.float32) + 0.5) / STEPS - 7
    inside = shape_mask(shape, radius, axis[None, :], axis[:, None]).astype(np.float32)
    out = np.empty((STEPS, STEPS, WINDOW, WINDOW), np.float32)
    for row in range(STEPS):
        for column in range(STEPS):
            top, left = STEPS - row, STEPS - column
            fine = inside[top : top + WINDOW * STEPS, left : left + WINDOW * STEPS]
            out[row, column] = fine.reshape(WINDOW, STEPS, WINDOW, STEPS).mean((1, 3))
    return out


_TEMPLATES = np.stack([np.stack([coverage(shape, RADIUS[size]) for size in SIZES]) for shape in SHAPES])
_SPAN = np.arange(WINDOW)
_RAMP = (np.arange(SIDE + 2 * MARGIN, dtype=np.float32) - MARGIN + 0.5) / SIDE - 0.5


def _render_chunk(scenes: Sequence[Scene], seeds: Sequence[int]) -> npt.NDArray[np.uint8]:
    slopes = np.array([scene.background.slope for scene in scenes], np.float32)
    canvas = slopes[:, 0, None, None] * _RAMP[None, None, :] + slopes[:, 1, None, None] * _RAMP[None, :, None]
    canvas = canvas[..., None] + np.array([scene.background.tint for scene in scenes], np.float32)[:, None, None, :]
    for slot in range(max((len(scene.objects) for scene in scenes), default=0)):
        present = [(index, scene.objects[slot]) for index, scene in enumerate(scenes) if len(scene.objects) > slot]
        _compose(canvas, np.array([index for index, _ in present]), [item for _, item in present])
    inner = canvas[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    for image, scene, seed in zip(inner, scenes, seeds, strict=True):
        noise = np.random.Generator(np.random.SFC64(seed)).standard_normal(image.shape, dtype=np.float32)
        image += noise * np.float32(scene.background.noise)
    return np.clip(np.rint(inner), 0, 255).astype(np.uint8)


def _compose(canvas: Floats, images: npt.NDArray[np.int64], objects: Sequence[Object]) -> None:
    """Blend one object into each of the given images of a canvas (B, 42, 42, 3)."""
    corner = np.array([(item.y, item.x) for item in objects], np.float64)
    steps = np.rint(corner * STEPS).astype(np.int64)
    whole, offset = steps // STEPS, steps % STEPS
    shape = np.array([SHAPES.index(item.shape) for item in objects])
    size = np.array([SIZES.index(item.size) for item in objects])
    alpha = _TEMPLATES[shape, size, offset[:, 0], offset[:, 1]][..., None]
    color = PALETTE[[COLORS.index(item.color) for item in objects]]
    color = color * np.array([item.shade for item in objects], np.float32)[:, None]
    where = (
        images[:, None, None],
        (whole[:, 0] - 6 + MARGIN)[:, None, None] + _SPAN[None, :, None],
        (whole[:, 1] - 6 + MARGIN)[:, None, None] + _SPAN[None, None, :],
    )
    canvas[where] += alpha * (color[:, None, None, :] - canvas[where])
