"""POPE's three files with made-up questions."""

import json
from pathlib import Path

import PIL.Image


def save_pope(folder: Path, image: str = "val2014/COCO_val2014_000000000001.jpg") -> None:
    """Two questions in each set about one image, one right answer yes, one no."""
    path = folder / image
    path.parent.mkdir(parents=True)
    PIL.Image.new("RGB", (8, 8)).save(path)
    for name in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": number, "image": path.name, "text": "Is there a dog in the image?", "label": label}
            for number, label in enumerate(("yes", "no"))
        ]
        (folder / f"coco_pope_{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
