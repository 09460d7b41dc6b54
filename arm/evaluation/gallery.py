"""Pictures of what the model sees and makes, with the words beside them.

    images/reconstruction.png           row 1 originals, row 2 their reconstructions
    images/<stage>.text_to_image.png    row 1 drawn images, one category after the other
    images/<stage>.editing.png          row 1 sources, row 2 the edited images
    images/captions.json                {file: {rows, side, gap, entries: [{prompt, group, strict, reasons}]}}

The columns are the same items at every stage. Deterministic bytes.
"""

import json
from collections.abc import Mapping
from typing import Any

from arm.evaluation.evaluation_set import spread_over_groups
from arm.evaluation.imaging import encode_png, sheet
from arm.evaluation.items import Item, Pixels
from arm.evaluation.runner import Result, read_drawn
from arm.storage import Folder

GAP = 6
ROWS = {
    "reconstruction": ("original", "reconstruction"),
    "text_to_image": ("generated",),
    "editing": ("source", "edited"),
}
"""Benchmark -> what each row of its picture shows."""


def write_gallery(results: Mapping[str, Mapping[str, Result]], num_images: int, output: Folder) -> None:
    """Write a picture for every subject (a stage, or `reference`) and benchmark that draws."""
    captions: dict[str, Any] = {}
    for subject, found in results.items():
        for benchmark, result in found.items():
            if benchmark in ROWS:
                name = f"{benchmark}.png" if subject == "reference" else f"{subject}.{benchmark}.png"
                captions[name] = _write_picture(subject, benchmark, result, num_images, name, output)
    output.write("images/captions.json", (json.dumps(captions, indent=1, sort_keys=True) + "\n").encode())


def _write_picture(
    subject: str, benchmark: str, result: Result, num_images: int, name: str, output: Folder
) -> dict[str, Any]:
    chosen = spread_over_groups(result.items, num_images)
    drawn = read_drawn(subject, benchmark, output)
    verdicts = {verdict.uid: verdict for verdict in result.verdicts}
    rows: list[list[Pixels]] = [[drawn[item.uid] for item in chosen]]
    if len(ROWS[benchmark]) == 2:
        rows.insert(0, [item.source for item in chosen if item.source is not None])
    side = tile_side(rows[0][0])
    output.write(f"images/{name}", encode_png(sheet(rows, side=side, gap=GAP)))
    entries = [_entry(item, verdicts[item.uid].strict, verdicts[item.uid].reasons) for item in chosen]
    return {"rows": ROWS[benchmark], "side": side, "gap": GAP, "entries": entries}


def tile_side(image: Pixels) -> int:
    """Pixels of a tile: a small image is shown at twice its size, a large one at 160."""
    longest = max(image.shape[:2])
    return 2 * longest if longest <= 80 else 160


def _entry(item: Item, strict: bool, reasons: tuple[str, ...]) -> dict[str, Any]:
    return {"uid": item.uid, "prompt": item.prompt, "group": item.group, "strict": strict, "reasons": list(reasons)}
