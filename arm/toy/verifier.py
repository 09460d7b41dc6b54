"""Reads an image of the toy world: what is in it, and whether that is what was asked.

    read_image(image)                -> (Seen(shape="circle", color="red", size="large", x=6.2, y=5.9, score=.97), …)
    check_prompt(image, meta)        -> Verdict(strict=True, score=1.0, reasons=())
    check_edit(image, source, meta)  -> Verdict(strict=False, score=0.0, reasons=("no red circle",))

Reading: pixels of high chroma → connected components → a colour vote → coverage per pixel → the nearest of soft shape
templates (size and sub-pixel place free). What fits no shape or colour is debris and counts as one more object.
Strict means: every requested object, and nothing else.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy import ndimage  # type: ignore[import-untyped]

from arm.toy.rendering import PALETTE, STEPS, WINDOW, coverage
from arm.toy.scene import CELL, CELLS, COLORS, SHAPES, SIDE

UNKNOWN = "unknown"
CHROMA = 50.0
"""Max minus min of RGB above which a pixel belongs to an object: grounds stay below 35, half-covered edges lie above."""
MIN_PIXELS = 5
"""Smaller spots are noise; the smallest object has 20 pixels."""
CORE_START = 0.4
"""The duller two fifths of an object's pixels are edges; its colour is the median of the rest."""
MIN_FIT = 0.88
"""Worst template fit that still is a shape."""
MAX_AMBIGUITY = 0.75
"""Misfit of the best shape over that of the second best: hybrids, near 1, are debris."""
MAX_HUE_DISTANCE = 0.36
"""In saturated RGB, where neighbouring colours of the palette lie 0.7 to 1 apart."""
SPLIT_SHARE = 0.25
"""A component with this share of a second colour is two objects that touch."""
RADII = (3.0, 3.4, 3.8, 4.2, 4.6, 5.0)
BLURS = (0.0, 0.7)
"""Pixels (sigma): what a detokenizer renders is softer than what the world draws."""
OFFSET_STEP = 0.25
CENTRE_SLACK = 0.15
MIDDLE_RADIUS = 4.0
MAX_CANDIDATES = 6
"""Of an image full of debris only the best few are tried for a prompt's objects; all count as extras."""
NEAR_PIXELS = 4.0
MIN_REACH_PIXELS = 4.0
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One thing that was seen; `shape` or `color` is 'unknown' for debris. `x`, `y`: its centre in pixels."""

    shape: str
    color: str
    size: str
    x: float
    y: float
    score: float
    """Fit of the best template, at most 1."""

    @property
    def place(self) -> str:
        """The name of the cell that holds the centre."""
        column, row = (min(max(int(value // CELL), 0), 2) for value in (self.x, self.y))
        return CELLS[row * 3 + column]

    @property
    def known(self) -> bool:
        """Whether it is an object of the world, not debris."""
        return UNKNOWN not in (self.shape, self.color)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an image is what was asked for."""

    strict: bool
    """Every requested object, and nothing else."""
    score: float
    """Between 0 and 1: the share of the request that holds."""
    reasons: tuple[str, ...]
    """What is wrong; empty when strict."""


def read_image(image: npt.NDArray[np.uint8]) -> tuple[Seen, ...]:
    """Say what is in an image (H, W, 3), any square size, in reading order of the places."""
    pixels = _toy_sized(image).astype(np.float32)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    mask = chroma > CHROMA
    labels, count = ndimage.label(mask)
    if not count:
        return ()
    ground = np.median(pixels[~mask], axis=0) if not mask.all() else np.full(3, 220.0, np.float32)
    seen = [
        _read_component(pixels, chroma, ground, own, mask)
        for index in range(1, count + 1)
        for own in _split(pixels, labels == index)
    ]
    return tuple(sorted((item for item in seen if item), key=lambda item: (CELLS.index(item.place), item.y, item.x)))


def check_prompt(image: npt.NDArray[np.uint8], meta: dict[str, Any]) -> Verdict:
    """Compare an image with a prompt's GenEval-style meta: {"include": [{"class", "count", "color"?, …}, …]}."""
    return judge(read_image(image), expand(meta["include"]))


def check_edit(image: npt.NDArray[np.uint8], source_image: npt.NDArray[np.uint8], meta: dict[str, Any]) -> Verdict:
    """Compare an edited image with the scene it should show; the score of an untouched source is 0, of the target 1."""
    wanted = [
        {"class": item["shape"], "color": item["color"], "near": (item["x"], item["y"], item["place"])}
        for item in meta["target"]["objects"]
    ]
    verdict = judge(read_image(image), wanted)
    untouched = min(judge(read_image(source_image), wanted).score, 0.99)
    score = max(0.0, (verdict.score - untouched) / (1 - untouched))
    return Verdict(strict=verdict.strict, score=score, reasons=verdict.reasons)


def expand(include: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One requirement an object: a count of 3 becomes three; "position": [relation, entry] points to an expanded one."""
    starts = [sum(int(entry["count"]) for entry in include[:index]) for index in range(len(include))]
    wanted = []
    for entry in include:
        one = {key: value for key, value in entry.items() if key != "count"}
        if "position" in one:
            one["position"] = (one["position"][0], starts[int(one["position"][1])])
        wanted += [one] * int(entry["count"])
    return wanted


def judge(seen: Sequence[Seen], wanted: Sequence[Mapping[str, Any]]) -> Verdict:
    """The best assignment of what was seen to what is wanted: the share of it that holds, extras in the denominator."""
    candidates = sorted(seen, key=lambda item: (not item.known, -item.score))[:MAX_CANDIDATES]
    slots: list[Seen | None] = [*candidates, *[None] * max(0, len(wanted) - len(candidates))]
    best: tuple[float, tuple[str, ...]] = (-1.0, ())
    for chosen in permutations(slots, len(wanted)):
        points, reasons = _compare(chosen, wanted)
        if points > best[0]:
            best = points, reasons
        if not reasons:
            break
    points, reasons = best
    extra = len(seen) - len(wanted)
    if extra > 0:
        reasons = (*reasons, f"{extra} more than asked for")
    return Verdict(strict=not reasons, score=points / max(len(seen), len(wanted), 1), reasons=reasons)


def _compare(chosen: Sequence[Seen | None], wanted: Sequence[Mapping[str, Any]]) -> tuple[float, tuple[str, ...]]:
    """Points (one for a requirement met in full, a share for a right shape) and what is missing."""
    points, reasons = 0.0, []
    for item, want in zip(chosen, wanted, strict=True):
        if item is None or item.shape != want["class"]:
            reasons.append(f"no {want.get('color', '')} {want['class']}".replace("  ", " "))
            continue
        held = [_holds(name, item, value, chosen) for name, value in want.items()]
        points += sum(held) / len(held)
        reasons += [
            f"{want['class']}: {name} is not {value}"
            for (name, value), ok in zip(want.items(), held, strict=True)
            if not ok
        ]
    return points, tuple(reasons)


def _holds(name: str, item: Seen, value: Any, chosen: Sequence[Seen | None]) -> bool:
    if name == "class":
        return bool(item.shape == value)
    if name == "position":
        other = chosen[value[1]]
        return bool(other is not None and is_related(item, other, value[0]))
    if name == "near":
        x, y, place = value
        return _lies_at(item, place) or max(abs(item.x - x), abs(item.y - y)) <= NEAR_PIXELS
    if name == "place":
        return _lies_at(item, value)
    return bool(getattr(item, name) == value)


def _lies_at(item: Seen, place: str) -> bool:
    """Whether the centre lies in the named cell, or less than a pixel outside of it."""
    row, column = divmod(CELLS.index(place), 3)
    off = max(abs(item.x - CELL * (column + 0.5)), abs(item.y - CELL * (row + 0.5)))
    return off <= CELL / 2 + 1


def is_related(item: Seen, other: Seen, relation: str) -> bool:
    """GenEval's rule: far enough apart, and the direction within 60 degrees of the relation's."""
    across, down = item.x - other.x, item.y - other.y
    reach = {"left of": -across, "right of": across, "above": -down, "below": down}[relation]
    return reach >= MIN_REACH_PIXELS and reach >= 0.5 * math.hypot(across, down)


def _toy_sized(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if image.shape[:2] == (SIDE, SIDE):
        return image
    return np.asarray(PIL.Image.fromarray(image).resize((SIDE, SIDE), PIL.Image.Resampling.BOX))


def _split(pixels: Floats, own: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.bool_]]:
    """The component itself, or its parts by colour when two objects touch; spots of noise are left out."""
    inside = pixels[own]
    if len(inside) < MIN_PIXELS:
        return
    hues = _nearest_color(inside)[0]
    counts = np.bincount(hues, minlength=len(COLORS))
    if sorted(counts.tolist())[-2] < SPLIT_SHARE * len(inside):
        yield own
        return
    for color in np.flatnonzero(counts >= MIN_PIXELS):
        part = np.zeros_like(own)
        part[own] = hues == color
        labels, count = ndimage.label(part)
        for index in range(1, count + 1):
            if (labels == index).sum() >= MIN_PIXELS:
                yield labels == index


def _saturated(colors: Floats) -> Floats:
    """RGB (N, 3) stretched so that the least channel is 0 and the greatest 1."""
    low, high = colors.min(1, keepdims=True), colors.max(1, keepdims=True)
    return np.asarray((colors - low) / np.maximum(high - low, 1e-6))


_HUES = _saturated(PALETTE)
_AXIS = np.arange(SIDE, dtype=np.float32) + 0.5


def _nearest_color(colors: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Index and distance of the nearest palette colour for each of (N, 3)."""
    apart = _saturated(colors)[:, None] - _HUES[None]
    squared = np.einsum("nkc,nkc->nk", apart, apart)
    return squared.argmin(1), np.sqrt(squared.min(1))


def _read_component(
    pixels: Floats, chroma: Floats, ground: Floats, own: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_]
) -> Seen:
    ordered = np.argsort(chroma[own])
    ink = np.median(pixels[own][ordered[int(CORE_START * len(ordered)) :]], axis=0)
    index, distance = _nearest_color(ink[None])
    near = _grown(own) & (own | ~mask)
    step = ink - ground
    cover = np.clip((pixels - ground) @ step / max(float(step @ step), 1.0), 0, 1) * near
    shape, size, x, y, fit = _fit_shape(cover)
    color = COLORS[int(index[0])] if distance[0] <= MAX_HUE_DISTANCE else UNKNOWN
    return Seen(shape=shape, color=color, size=size, x=x, y=y, score=fit)


def _grown(own: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of a component and their four neighbours."""
    grown = own.copy()
    grown[1:] |= own[:-1]
    grown[:-1] |= own[1:]
    grown[:, 1:] |= own[:, :-1]
    grown[:, :-1] |= own[:, 1:]
    return grown


def _fit_shape(cover: Floats) -> tuple[str, str, float, float, float]:
    """The best template for a coverage map (36, 36): shape or 'unknown', size, centre x and y, fit."""
    templates, norms, shapes, radii, offsets = _template_bank()
    total = float(cover.sum())
    y, x = float(cover.sum(1) @ _AXIS) / total, float(cover.sum(0) @ _AXIS) / total
    top, left = int(y) - WINDOW // 2, int(x) - WINDOW // 2
    padded = np.zeros((SIDE + 2 * WINDOW, SIDE + 2 * WINDOW), np.float32)
    padded[WINDOW:-WINDOW, WINDOW:-WINDOW] = cover
    window = padded[top + WINDOW : top + 2 * WINDOW + 1, left + WINDOW : left + 2 * WINDOW + 1].ravel()
    energy = float(cover.ravel() @ cover.ravel())
    fits = (2 * (templates @ window) - energy) / norms
    best = int(fits.argmax())
    rival = float(fits[shapes != shapes[best]].max())
    known = fits[best] >= MIN_FIT and 1 - fits[best] <= MAX_AMBIGUITY * (1 - rival)
    shape = SHAPES[shapes[best]] if known else UNKNOWN
    size = "small" if radii[best] < MIDDLE_RADIUS else "large"
    return shape, size, left + float(offsets[best, 1]), top + float(offsets[best, 0]), float(fits[best])


@lru_cache(maxsize=1)
def _template_bank() -> tuple[Floats, Floats, npt.NDArray[np.int64], Floats, Floats]:
    """Templates (N, 15·15) with squared norms, shape indices, radii and centres (y, x) inside the window."""
    rows: list[tuple[Floats, int, float, tuple[float, float]]] = []
    for index, shape in enumerate(SHAPES):
        for radius in RADII:
            fine = coverage(shape, radius)
            for blur in BLURS:
                for y, x in product(np.arange(5.0, 9.0, OFFSET_STEP), repeat=2):
                    window = _template(fine, y, x, blur)
                    if _centred(window):
                        rows.append((window.ravel(), index, radius, (y, x)))
    templates, shapes, radii, offsets = zip(*rows, strict=True)
    stacked = np.stack(templates).astype(np.float32)
    return stacked, (stacked * stacked).sum(1), np.array(shapes), np.array(radii), np.array(offsets)


def _template(fine: Floats, y: float, x: float, blur: float) -> Floats:
    """A coverage template of a shape whose centre lies at (y, x) in a window of 15 pixels."""
    side = WINDOW + 1
    canvas = np.zeros((side + 8, side + 8), np.float32)
    row, column = int(y * STEPS), int(x * STEPS)
    top, left = row // STEPS - 6 + 4, column // STEPS - 6 + 4
    canvas[top : top + WINDOW, left : left + WINDOW] = fine[row % STEPS, column % STEPS]
    if blur:
        canvas = ndimage.gaussian_filter(canvas, blur)
    return canvas[4 : 4 + side, 4 : 4 + side]


def _centred(window: Floats) -> bool:
    """Whether the centre of mass lies in the middle pixel, where `_fit_shape` puts it, give or take."""
    axis = np.arange(window.shape[0]) + 0.5
    y, x = float(window.sum(1) @ axis), float(window.sum(0) @ axis)
    middle, total = WINDOW / 2 + 0.5, float(window.sum())
    return max(abs(y / total - middle), abs(x / total - middle)) <= 0.5 + CENTRE_SLACK
