"""The toy world's data sets: each sample is a pure function of (seed, data set, index).

captions    [image, caption]                        train        our tars
questions   [image, question, answer, …]            train        LLaVA-style JSON lines + a tar of images
edits       [source, instruction, target]           train        Parquet with Hugging Face image columns
pages       [text, image, text, image, text]        train        our tars
videos      [frame, text, frame, text, frame]       train        our tars
texts       [text]                                  train        JSON lines
prompts     [caption] and [source, instruction]     prompts      our tars
evaluation  all of these kinds                      evaluation   our tars
"""

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from arm.records import Image, Sample, Text, make_uid
from arm.toy.config import WorldConfig
from arm.toy.language import OPERATIONS, PLURALS, ask, describe, document, draw_captioned, edit, name_of
from arm.toy.png import encode_png
from arm.toy.rendering import render
from arm.toy.scene import CATEGORIES, CELL, SHAPES, SIDE, Object, Scene, Split, draw_distinct_scene, draw_scene

LICENCE = "CC0-1.0"
EDIT_TRIES = 20
"""Edits tried on one source before another is drawn: held-out targets are one in twenty."""
FULL_SHARE = 0.6
"""Of long captions, the share that tells sizes too."""
BATCH = 500
"""Samples drawn and rendered together."""
MOVES = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A sample whose images are still scenes. Scenes of one draft share their noise, so what is the same stays the same."""

    task: str
    parts: tuple[Scene | Text, ...]
    meta: dict[str, Any] = field(default_factory=dict)


Drawer = Callable[[random.Random, WorldConfig, int], Draft]


def draft(dataset: str, index: int, config: WorldConfig) -> Draft:
    """Draw the sample of that index."""
    return DRAWERS[dataset](random.Random(f"{config.seed}/{dataset}/{index}"), config, index)


def samples(dataset: str, first: int, count: int, config: WorldConfig) -> Iterator[Sample]:
    """Yield `count` samples from index `first` on, rendered."""
    for start in range(first, first + count, BATCH):
        indices = range(start, min(start + BATCH, first + count))
        drafts = [draft(dataset, index, config) for index in indices]
        images = iter(_images(drafts, [_noise_seed(config.seed, dataset, index) for index in indices]))
        for index, one in zip(indices, drafts, strict=True):
            parts = tuple(next(images) if isinstance(part, Scene) else part for part in one.parts)
            uid = make_uid("toy", str(config.seed), dataset, str(index))
            yield Sample(uid=uid, task=one.task, parts=parts, source=f"toy-{dataset}", licence=LICENCE, meta=one.meta)


def _images(drafts: Sequence[Draft], seeds: Sequence[int]) -> Iterator[Image]:
    scenes = [
        (part, seed) for one, seed in zip(drafts, seeds, strict=True) for part in one.parts if isinstance(part, Scene)
    ]
    for image in render([scene for scene, _ in scenes], [seed for _, seed in scenes]):
        yield Image(data=encode_png(image), format="png", height=SIDE, width=SIDE)


def _noise_seed(seed: int, dataset: str, index: int) -> int:
    return zlib.crc32(f"{seed}/{dataset}/{index}".encode())


def _caption(rng: random.Random, config: WorldConfig, index: int) -> Draft:
    """Three in four for text-to-image; the fourth says everything, for image-to-text."""
    if index % 4 != 3:
        scene, caption, meta = draw_captioned(rng, config.scene)
        return _captioned("text_to_image", scene, caption, meta, rng)
    scene = draw_scene(rng, config.scene)
    caption, meta = describe(scene, "full" if rng.random() < FULL_SHARE else "places", rng)
    return _captioned("caption", scene, caption, meta, rng)


def _captioned(task: str, scene: Scene, caption: str, meta: dict[str, Any], rng: random.Random) -> Draft:
    description, _ = describe(scene, "full", rng)
    meta = meta | {"description": description, "scene": scene.describe(), "scene_hash": scene.hash()}
    return Draft(task=task, parts=(scene, Text(text=caption, role="caption")), meta=meta)


def _question(rng: random.Random, config: WorldConfig, index: int, split: Split = "train") -> Draft:
    scene = draw_scene(rng, config.scene, split=split)
    asked = ask(scene, rng, config.questions_per_image)
    texts = [
        text
        for question, answer, _ in asked
        for text in (Text(text=question, role="question"), Text(text=answer, role="answer"))
    ]
    meta = {"kinds": [kind for _, _, kind in asked], "scene": scene.describe(), "scene_hash": scene.hash()}
    return Draft(task="question", parts=(scene, *texts), meta=meta)


def _edit(rng: random.Random, config: WorldConfig, index: int, split: Split = "train") -> Draft:
    operation = OPERATIONS[index % len(OPERATIONS)]
    while True:
        scene = draw_distinct_scene(rng, config.scene, split=split)
        for _ in range(EDIT_TRIES):
            try:
                instruction, target, meta = edit(scene, rng, config.scene, operation)
            except ValueError:
                break
            if target.split() == split:
                meta = meta | {"scene_hash": scene.hash(), "target_hash": target.hash()}
                return Draft(task="edit", parts=(scene, Text(text=instruction, role="instruction"), target), meta=meta)


def _page(rng: random.Random, config: WorldConfig, index: int) -> Draft:
    """A page about one shape: a title, two or three pictures, each after the text that tells what it shows."""
    shape, count = rng.choice(SHAPES), rng.choice((2, 2, 3))
    parts: list[Scene | Text] = []
    while len(parts) < 2 * count:
        scene = draw_scene(rng, config.scene)
        if shape in {item.shape for item in scene.objects}:
            opening = f"a page about {PLURALS[shape]}. " if not parts else ""
            caption = describe(scene, "places", rng)[0]
            parts += [Text(text=f"{opening}picture {len(parts) // 2 + 1}: {caption}."), scene]
    if rng.random() < 0.5:
        parts.append(Text(text=f"every picture has a {shape}."))
    return Draft(task="interleaved_web", parts=tuple(parts), meta={"shape": shape})


def _video(rng: random.Random, config: WorldConfig, index: int) -> Draft:
    """Three frames in which one object moves by a cell at a time: "the red circle moves right"."""
    while True:
        scene = draw_distinct_scene(rng, config.scene)
        item, direction = rng.choice(scene.objects), rng.choice(list(MOVES))
        frames = [scene, *(_moved(scene, item, direction, cells) for cells in (1, 2))]
        if all(frame is not None and frame.split() == "train" for frame in frames):
            text = Text(text=f"the {name_of(item)} moves {direction}.")
            first, second, third = (frame for frame in frames if frame is not None)
            meta = {"object": list(item.kind), "direction": direction}
            return Draft(task="interleaved_video", parts=(first, text, second, text, third), meta=meta)


def _moved(scene: Scene, item: Object, direction: str, cells: int) -> Scene | None:
    """The scene with one object moved by so many cells; None where it would leave the image or meet another."""
    across, down = MOVES[direction]
    x, y = item.x + CELL * cells * across, item.y + CELL * cells * down
    others = scene.without(item).objects
    inside = min(x, y) >= 5 and max(x, y) <= SIDE - 5
    if not inside or any(max(abs(o.x - x), abs(o.y - y)) < CELL - 2 for o in others):
        return None
    moved = Object(shape=item.shape, color=item.color, size=item.size, x=x, y=y, shade=item.shade)
    return scene.exchanged(item, moved)


def _text(rng: random.Random, config: WorldConfig, index: int) -> Draft:
    return Draft(task="text", parts=(Text(text=document(draw_scene(rng, config.scene), rng)),))


def _prompt(rng: random.Random, config: WorldConfig, index: int, split: Split = "prompts") -> Draft:
    """The six categories in turn, captions of held-out scenes."""
    category = CATEGORIES[index % len(CATEGORIES)]
    scene = draw_scene(rng, config.scene, category=category, split=split)
    prompt, meta = describe(scene, category, rng)
    meta = meta | {"scene_hash": scene.hash()}
    return Draft(task="text_to_image", parts=(Text(text=prompt, role="caption"),), meta=meta)


def _edit_prompt(rng: random.Random, config: WorldConfig, index: int) -> Draft:
    full = _edit(rng, config, index, "prompts")
    return Draft(task=full.task, parts=full.parts[:2], meta=full.meta)


def _held_out_caption(rng: random.Random, config: WorldConfig, index: int) -> Draft:
    scene = draw_scene(rng, config.scene, split=config.evaluation_split)
    caption, meta = describe(scene, "full", rng)
    return _captioned("caption", scene, caption, meta, rng)


DRAWERS: dict[str, Drawer] = {
    "captions": _caption,
    "questions": _question,
    "edits": _edit,
    "pages": _page,
    "videos": _video,
    "texts": _text,
    "prompts-t2i": _prompt,
    "prompts-edits": _edit_prompt,
    "evaluation-prompts": lambda rng, config, index: _prompt(rng, config, index, config.evaluation_split),
    "evaluation-questions": lambda rng, config, index: _question(rng, config, index, config.evaluation_split),
    "evaluation-edits": lambda rng, config, index: _edit(rng, config, index, config.evaluation_split),
    "evaluation-captions": _held_out_caption,
}
