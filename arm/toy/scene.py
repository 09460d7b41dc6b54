"""Scenes of the toy world: what is in them, which split they belong to, and how one is drawn at random.

    Scene(objects=(Object(shape="circle", color="red", size="large", x=6.4, y=5.8), ...), background=...)

         0    12   24   36 pixels
       0 ┌────┬────┬────┐     top left     top      top right
         │ ●  │    │    │
      12 ├────┼────┼────┤     left         center   right
         │    │ ▲  │    │
      24 ├────┼────┼────┤     bottom left  bottom   bottom right
         │    │    │ ■  │
      36 └────┴────┴────┘

A scene's identity is its canonical form (shapes, colours, sizes, cells; no jitter, background or noise). Its hash sends
every scene for ever to one split, so training, prompts and evaluation never share a scene.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from arm.toy.config import DEFAULT, SceneConfig

SIDE = 36
CELL = 12
SHAPES = ("circle", "square", "triangle", "cross")
COLORS = ("red", "yellow", "green", "cyan", "blue", "purple")
SIZES = ("small", "large")
CELLS = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below")
CATEGORIES = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""GenEval's six."""

RADIUS = {"small": 3.4, "large": 4.6}
"""Half the extent of an object in pixels: two large ones in neighbouring cells stay 1.2 px apart at full jitter."""

Split = Literal["train", "prompts", "tuning", "evaluation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One coloured shape. `x`, `y`: its centre in pixels, x to the right and y down."""

    shape: str
    color: str
    size: str
    x: float
    y: float
    shade: float = 1.0
    """Brightness of this one object, about 0.9 to 1."""

    @property
    def cell(self) -> int:
        """Index into CELLS of the cell that holds the centre."""
        return min(int(self.y) // CELL, 2) * 3 + min(int(self.x) // CELL, 2)

    @property
    def place(self) -> str:
        """The cell's name: 'top left'."""
        return CELLS[self.cell]

    @property
    def kind(self) -> tuple[str, str]:
        """(shape, color)."""
        return self.shape, self.color


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """A light tinted ground: colour at the centre, slope in grey levels over the image's width and height, noise."""

    tint: tuple[float, float, float] = (220.0, 220.0, 220.0)
    slope: tuple[float, float] = (0.0, 0.0)
    noise: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Objects on a background."""

    objects: tuple[Object, ...]
    background: Background = Background()
    aligned: bool = True

    def canonical(self) -> tuple[tuple[str, ...], ...]:
        """What makes two scenes the same scene: ((shape, color, size, place), …) sorted; pixels when unaligned."""
        return tuple(sorted((o.shape, o.color, o.size, self._where(o)) for o in self.objects))

    def hash(self) -> str:
        """sha256 of the canonical form, as hex."""
        return hashlib.sha256(repr(self.canonical()).encode()).hexdigest()

    def split(self) -> Split:
        """The split that owns this scene: about 85% train and 5% each prompts, tuning and evaluation.

        An aligned scene of one object is one of 18 (2 sizes, 9 places) of its shape and colour, and each of the three
        held-out splits owns one of the 18: so their prompts name all 24 kinds of object, evenly.
        """
        if self.aligned and len(self.objects) == 1:
            item = self.objects[0]
            turn = SHAPES.index(item.shape) * len(COLORS) + COLORS.index(item.color)
            number = (5 * turn + 2 * item.cell + SIZES.index(item.size)) % 18
        else:
            number = int(self.hash()[:8], 16) % 20
        return {0: "evaluation", 1: "prompts", 2: "tuning"}.get(number, "train")  # type: ignore[return-value]

    def describe(self) -> dict[str, Any]:
        """Plain values for a sample's meta: {"objects": [{"shape", "color", "size", "place", "x", "y"}, …]}."""
        return {
            "objects": [
                {"shape": o.shape, "color": o.color, "size": o.size, "place": o.place, "x": round(o.x, 2), "y": round(o.y, 2)}
                for o in self.objects
            ]
        }  # fmt: skip

    def without(self, item: Object) -> "Scene":
        """The same scene less one object."""
        return replace(self, objects=tuple(o for o in self.objects if o is not item))

    def exchanged(self, item: Object, other: Object) -> "Scene":
        """The same scene with `other` in the place of `item`."""
        return replace(self, objects=tuple(other if o is item else o for o in self.objects))

    def _where(self, item: Object) -> str:
        return item.place if self.aligned else f"{round(item.x)},{round(item.y)}"


def draw_scene(
    rng: random.Random,
    config: SceneConfig = DEFAULT,
    *,
    category: str | None = None,
    split: Split | None = "train",
) -> Scene:
    """Draw a scene of the wanted split (None: any). With a GenEval category it holds what such a prompt asks, and no more.

        single_object, colors   one object
        counting                2 to 4 objects of one shape, colours free
        two_object, color_attr  two objects of different shapes and colours
        position                the same, side by side or one above the other
        None                    1 to 4 objects, all free
    """  # fmt: skip
    while True:
        shapes, colors = _draw_kinds(rng, config, category)
        centers = _draw_centers(rng, config, len(shapes), in_line=category == "position")
        objects = tuple(
            Object(shape=shape, color=color, size=rng.choice(SIZES), x=x, y=y, shade=rng.uniform(0.9, 1.0))
            for shape, color, (x, y) in zip(shapes, colors, centers, strict=True)
        )
        scene = Scene(objects=objects, background=_draw_background(rng, config), aligned=config.aligned)
        if split is None or scene.split() == split:
            return scene


def draw_distinct_scene(
    rng: random.Random, config: SceneConfig = DEFAULT, *, min_objects: int = 1, split: Split | None = "train"
) -> Scene:
    """Draw a scene where no two objects share shape and colour, so that 'the red circle' names one object."""
    while True:
        scene = draw_scene(rng, config, split=split)
        if len(scene.objects) >= min_objects and len({o.kind for o in scene.objects}) == len(scene.objects):
            return scene


def free_center(
    rng: random.Random, scene: Scene, config: SceneConfig, *, ignoring: Object | None = None
) -> tuple[float, float] | None:
    """A random centre where one more object fits, in an empty cell; None when every cell is taken."""
    taken = [o for o in scene.objects if o is not ignoring]
    cells = sorted(set(range(9)) - {o.cell for o in scene.objects})
    rng.shuffle(cells)
    for cell in cells:
        for _ in range(8):
            x, y = _in_cell(rng, config, cell)
            if config.aligned or all(_apart((x, y), (o.x, o.y)) for o in taken):
                return x, y
    return None


def _draw_kinds(rng: random.Random, config: SceneConfig, category: str | None) -> tuple[Sequence[str], Sequence[str]]:
    if category in ("single_object", "colors"):
        return (rng.choice(SHAPES),), (rng.choice(COLORS),)
    if category in ("two_object", "position", "color_attr"):
        return rng.sample(SHAPES, 2), rng.sample(COLORS, 2)
    if category == "counting":
        count = rng.randint(min(2, config.max_objects), config.max_objects)
        return (rng.choice(SHAPES),) * count, rng.choices(COLORS, k=count)
    if category is not None:
        raise ValueError(f"unknown category {category!r}; known: {', '.join(CATEGORIES)}")
    count = rng.randint(1, config.max_objects)
    return rng.choices(SHAPES, k=count), rng.choices(COLORS, k=count)


def _draw_centers(rng: random.Random, config: SceneConfig, count: int, *, in_line: bool) -> list[tuple[float, float]]:
    """Centres of `count` objects that do not touch; `in_line`: in one row or one column of the grid."""
    while True:
        cells = rng.sample(range(9), count)
        if in_line and cells[0] // 3 != cells[1] // 3 and cells[0] % 3 != cells[1] % 3:
            continue
        if config.aligned or in_line:
            return [_in_cell(rng, config, cell) for cell in cells]
        centers = [(rng.uniform(5.5, SIDE - 5.5), rng.uniform(5.5, SIDE - 5.5)) for _ in range(count)]
        if all(_apart(a, b) for i, a in enumerate(centers) for b in centers[:i]):
            return centers


def _in_cell(rng: random.Random, config: SceneConfig, cell: int) -> tuple[float, float]:
    reach = config.jitter_pixels
    middle_x, middle_y = CELL * (cell % 3) + CELL / 2, CELL * (cell // 3) + CELL / 2
    return middle_x + rng.uniform(-reach, reach), middle_y + rng.uniform(-reach, reach)


def _apart(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether two large objects at these centres leave a gap of a pixel."""
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= 2 * RADIUS["large"] + 1


def _draw_background(rng: random.Random, config: SceneConfig) -> Background:
    level = rng.uniform(195, 240)
    tint = tuple(level + rng.uniform(-10, 10) for _ in range(3))
    return Background(tint=tint, slope=(rng.uniform(-14, 14), rng.uniform(-14, 14)), noise=config.noise)  # type: ignore[arg-type]
