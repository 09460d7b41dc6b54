"""GenEval's rule: detected boxes and a prompt's meta data in, a verdict with its reasons out (arXiv 2310.11513).

    include [{"class": "donut", "count": 4}]            at least 4 boxes, the 4 surest are looked at
    include [… {"color": "red"}]                        as many of them red
    include [a, {…, "position": ["left of", 0]}]        each of them left of each of group 0
    exclude [{"class": "donut", "count": 5}]            fewer than 5 boxes

Boxes are (x0, y0, x1, y1, score), y downward. No network runs here: a detector and a colour classifier are plug-ins.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Box = Sequence[float]
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
COLOR_PROMPTS = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
"""What CLIP ViT-L/14 compares the box with, on a background of #999."""
BACKGROUND = (0x99, 0x99, 0x99)
THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9
MAX_BOXES = 16
POSITION_MARGIN = 0.1


def keep_boxes(detections: Mapping[str, Sequence[Box]], tag: str) -> dict[str, list[Box]]:
    """The boxes of each class that count: above the threshold, the 16 surest, in order of score; nothing suppressed."""
    threshold = COUNTING_THRESHOLD if tag == "counting" else THRESHOLD
    kept: dict[str, list[Box]] = {}
    for name, boxes in detections.items():
        order = np.argsort(np.array([box[4] for box in boxes]))[::-1]
        if sure := [boxes[index] for index in order if boxes[index][4] > threshold]:
            kept[name] = sure[:MAX_BOXES]
    return kept


def relations(first: Box, second: Box) -> tuple[str, ...]:
    """Where the first box is, seen from the second: none, one or two of left of, right of, above, below.

    A tenth of both sizes is taken off the offset of the centres; what is left is measured against the whole offset.
    """
    boxes = np.array([first[:4], second[:4]], dtype=np.float64).reshape(2, 2, 2)
    centers, sizes = boxes.mean(axis=1), np.abs(boxes[:, 1] - boxes[:, 0])
    offset = centers[0] - centers[1]
    beyond = np.maximum(np.abs(offset) - POSITION_MARGIN * (sizes[0] + sizes[1]), 0) * np.sign(offset)
    if np.all(np.abs(beyond) < 1e-3):
        return ()
    x, y = beyond / np.linalg.norm(offset)
    held = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return tuple(name for name, true in held.items() if true)


def check(
    kept: Mapping[str, Sequence[Box]], metadata: Mapping[str, Any], color_of: Callable[[str, Box], str]
) -> tuple[bool, list[str]]:
    """Whether the kept boxes fulfil every clause, and what each broken clause expected and found."""
    reasons: list[str] = []
    groups: list[Sequence[Box] | None] = []
    for clause in metadata.get("include", []):
        found = kept.get(clause["class"], [])[: clause["count"]]
        reason = _broken(clause, found, groups, color_of)
        reasons += [reason] if reason else []
        groups.append(None if reason else found)
    for clause in metadata.get("exclude", []):
        count = len(kept.get(clause["class"], []))
        if count >= clause["count"]:
            reasons.append(f"expected {clause['class']}<{clause['count']}, found {count}")
    return not reasons, reasons


def _broken(
    clause: Mapping[str, Any],
    found: Sequence[Box],
    groups: Sequence[Sequence[Box] | None],
    color_of: Callable[[str, Box], str],
) -> str | None:
    """Why a clause of `include` does not hold: first the count, then the colour, then the position."""
    name, count = clause["class"], clause["count"]
    if len(found) < count:
        return f"expected {name}>={count}, found {len(found)}"
    if "color" in clause:
        colors = [color_of(name, box) for box in found]
        right = colors.count(clause["color"])
        if right < count:
            listed = ", ".join(f"{colors.count(color)} {color}" for color in COLORS if color in colors)
            return f"expected {clause['color']} {name}>={count}, found {right} {clause['color']}; and {listed}"
    if "position" not in clause:
        return None
    wanted, index = clause["position"]
    group = groups[index]
    if group is None:
        return f"no target for {name} to be {wanted}"
    for box in found:
        for target in group:
            if wanted not in (held := relations(box, target)):
                return f"expected {name} {wanted} target, found {' and '.join(held)} target"
    return None
