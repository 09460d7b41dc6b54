"""Draws or edits every image of a layout that is not there yet.

    <output>/00000/samples/0000.png …     the layout
             protocol.json                model, settings, digest of the prompts, seeds
             failures.jsonl               {"path", "reason"}: what the model could not do this time; gone when all is made

images_expected = images_there + images_made + images_failed
"""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

import numpy as np

from arm.errors import UserError
from arm.evaluation.imaging import encode_png
from arm.evaluation.items import Pixels
from arm.evaluation.jsonl import to_lines
from arm.evaluation.models.model import Drawing, Failed, Model
from arm.evaluation.production.layouts import Layout, Picture, lay_out
from arm.evaluation.production.pictures import Pictures, read_picture
from arm.evaluation.production.protocol import batches_to_make, claim
from arm.evaluation.production.rows import Row, digest_of
from arm.progress import Progress
from arm.storage import Folder

PROTOCOL, FAILURES = "protocol.json", "failures.jsonl"


def make_images(
    model: Model,
    kind: str,
    rows: Sequence[Row],
    layout: tuple[str, Layout],
    output: Folder,
    *,
    num_seeds: int,
    batch_size: int,
    sources: Pictures | None = None,
) -> dict[str, int]:
    """Make what is missing; returns the counts. Who calls holds a lock: what a killed run left half-written is removed."""
    pictures = lay_out(rows, layout[1], num_seeds)
    edits = any(request.source is not None for picture in pictures for request in picture.requests)
    asked = sorted({(item.uid, item.prompt) for picture in pictures for item in picture.requests})
    output.sweep()
    claim(output, PROTOCOL, {
        "kind": kind, "model": model.name, "settings": model.protocol(), "layout": layout[0], "seeds": num_seeds,
        "task": "edit" if edits else "generate", "prompts": {"count": len(rows), "digest": digest_of(asked)},
    })  # fmt: skip
    there = set(output.list())
    size = max(1, batch_size // max(len(picture.requests) for picture in pictures))
    batches = batches_to_make(pictures, lambda item: item.path not in there, size, independent=model.independent)
    progress = Progress("draw images", total=len(pictures), done=sum(picture.path in there for picture in pictures))
    failures = _make(model.edit if edits else model.generate_images, batches, there, output, sources, progress)
    _write_failures(failures, output)
    num_missing = sum(picture.path not in there for picture in pictures)
    return {
        "images_expected": len(pictures), "images_there": len(pictures) - num_missing,
        "images_made": num_missing - len(failures), "images_failed": len(failures),
    }  # fmt: skip


def _make(
    draw: Callable[[Sequence[Drawing]], list[Pixels | Failed]],
    batches: Iterable[Sequence[Picture]],
    there: Set[str],
    output: Folder,
    sources: Pictures | None,
    progress: Progress,
) -> dict[str, str]:
    """Draw a batch at a time and publish what is not there; path -> reason of what failed."""
    failures: dict[str, str] = {}
    for batch in batches:
        made = iter(draw([_drawing(request, sources) for picture in batch for request in picture.requests]))
        for picture in batch:
            parts = [next(made) for _ in picture.requests]
            reasons = [part.reason for part in parts if isinstance(part, Failed)]
            if picture.path in there:
                continue
            if reasons:
                failures[picture.path] = reasons[0]
                continue
            for name, data in picture.beside.items():
                output.write_if_absent(name, data)
            output.write(picture.path, encode_png(grid([part for part in parts if not isinstance(part, Failed)])))
        progress.advance(sum(picture.path not in there for picture in batch))
    progress.close()
    return failures


def grid(images: Sequence[Pixels]) -> Pixels:
    """Images of one size in rows of two, row by row; one alone stays as it is.

    1 2 3 4  ->  1 2
                 3 4
    """
    if len(images) == 1:
        return images[0]
    if len({image.shape for image in images}) > 1:
        raise UserError("The images of one prompt have different sizes and fit no grid; give an image_size.")
    rows = [np.concatenate(images[start : start + 2], axis=1) for start in range(0, len(images), 2)]
    return np.concatenate(rows, axis=0)


def _drawing(request: Any, sources: Pictures | None) -> Drawing:
    source = None if request.source is None else read_picture(request.source, sources)
    return Drawing(uid=request.uid, number=request.number, prompt=request.prompt, seed=request.seed, source=source)


def _write_failures(failures: dict[str, str], output: Folder) -> None:
    if not failures:
        output.delete(FAILURES)
        return
    output.write(FAILURES, to_lines({"path": path, "reason": reason} for path, reason in failures.items()))
