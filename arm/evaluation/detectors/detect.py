"""Looks at every image of a GenEval folder and writes what GenEval's rule reads.

    <images>/00000/metadata.jsonl  00000/samples/0000.png …
->  detections.jsonl     {"uid": "00000/samples/0000.png", "prompt_index": 0, "sample": 0, "metadata": {…},
                          "sha256": of the image, which is looked at anew when it is another, "size": [w, h],
                          "detections": {"bench": [[x0, y0, x1, y1, score], …]}, "colors": {"[x0, y0, x1, y1, score]": "red"}}

Colours are named for the boxes of classes whose clause asks for one. An image that cannot be read has `failed` instead.
"""

import json
from collections.abc import Callable
from pathlib import Path

from arm.errors import UserError
from arm.evaluation.detectors.colours import ColourNamer
from arm.evaluation.detectors.detector import Detector, Found
from arm.evaluation.inference import read_image
from arm.evaluation.production.journal import Journal, Row
from arm.evaluation.production.protocol import claim
from arm.progress import Progress
from arm.storage import open_folder, sha256_of

ROWS_AT_ONCE = 16
"""Rows that are kept together: what a kill can lose."""


def detect_objects(detector: Detector, namer: Callable[[], ColourNamer], images: Path, output: Path) -> dict[str, int]:
    """Detect what is not in the output yet; returns the counts. The namer is loaded if a prompt names a colour."""
    looks = [(path, meta) for folder, meta in read_geneval(images) for path in samples_of(folder)]
    if not looks:
        raise UserError(f"{images} holds no image at <number>/samples/<number>.png.")
    colours = namer() if any(coloured(meta) for _, meta in looks) else None
    protocol = {**detector.protocol(), **(colours.protocol() if colours else {})}
    claim(open_folder(str(output.parent)), f"{output.name}.protocol.json", protocol)
    journal = Journal(output)
    named = {_uid(path): (path, meta) for path, meta in looks}
    digests = {uid: sha256_of(path) for uid, (path, _) in named.items()}
    missing = [uid for uid in named if journal.rows.get(uid, {}).get("sha256") != digests[uid]]
    progress = Progress("detect objects", total=len(named), done=len(named) - len(missing))
    for start in range(0, len(missing), ROWS_AT_ONCE):
        some = missing[start : start + ROWS_AT_ONCE]
        journal.append([{**_row(uid, *named[uid], detector, colours), "sha256": digests[uid]} for uid in some])
        progress.advance(len(some))
    progress.close()
    journal.finish(list(named))
    failed = sum("failed" in journal.rows[uid] for uid in missing)
    return {
        "images_expected": len(named), "images_there": len(named) - len(missing),
        "images_detected": len(missing) - failed, "images_failed": failed,
    }  # fmt: skip


def read_geneval(images: Path) -> list[tuple[Path, Row]]:
    """(folder, metadata) of each prompt, in order of the numbers."""
    found = []
    for folder in sorted((path for path in images.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name)):
        try:
            meta = json.loads((folder / "metadata.jsonl").read_text())
            classes_of(meta)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{folder}/metadata.jsonl is no row of GenEval ({error}).") from None
        found.append((folder, meta))
    if not found:
        raise UserError(f"{images} holds no folder named by a number; give a folder of the layout geneval.")
    return found


def samples_of(folder: Path) -> list[Path]:
    """Images that are named by a number alone, as GenEval takes them: what a killed writer left is none."""
    return sorted(path for path in (folder / "samples").glob("*.png") if path.stem.isdecimal())


def classes_of(meta: Row) -> list[str]:
    """All classes that the metadata names, wanted or not."""
    return sorted({str(clause["class"]) for key in ("include", "exclude") for clause in meta.get(key, [])})


def _row(uid: str, path: Path, meta: Row, detector: Detector, namer: ColourNamer | None) -> Row:
    place = {"uid": uid, "prompt_index": int(path.parents[1].name), "sample": int(path.stem), "metadata": meta}
    try:
        image = read_image(path)
    except UserError as error:
        return {**place, "failed": str(error).removeprefix(f"{path} ")}
    found = detector.detect(image, classes_of(meta))
    colours: dict[str, str] = {}
    for name in coloured(meta):
        assert namer is not None
        items = found.get(name, [])
        colours.update(zip(map(_written_key, items), namer.name(image, name, items), strict=True))
    boxes = {name: [written(item) for item in items] for name, items in found.items()}
    size = [image.shape[1], image.shape[0]]
    return {**place, "size": size, "detections": boxes, "colors": colours}


def coloured(meta: Row) -> list[str]:
    """The classes whose colour the metadata asks for."""
    return sorted({str(clause["class"]) for clause in meta.get("include", []) if "color" in clause})


def written(found: Found) -> list[float]:
    """[x0, y0, x1, y1, score]; the score keeps its digits, since a threshold may lie close to it."""
    return [*(round(side, 4) for side in found.box), found.score]


def _written_key(found: Found) -> str:
    return str(written(found))


def _uid(path: Path) -> str:
    return f"{path.parents[1].name}/samples/{path.name}"
