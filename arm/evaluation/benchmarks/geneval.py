"""GenEval: 553 prompts, 4 images each; the mean of the six tag means.

Results are the official `results.jsonl` (one row an image, with `tag` and `correct`), or rows with what a detector saw:

    {"prompt_index": 0, "sample": 1, "metadata": {"tag": "single_object", "include": [...], "prompt": "a photo of a cow"},
     "detections": {"cow": [[x0, y0, x1, y1, score], ...]}, "colors": {"[x0, y0, x1, y1, score]": "brown"}}

Items are images, `00003/0001`; intervals resample prompts within a tag. Source: arXiv 2310.11513.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.geneval_rule import Box, check, keep_boxes
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source
from arm.evaluation.benchmarks.result import (
    CHECKED,
    OWN_ANSWERS,
    Failure,
    Published,
    Result,
    Scored,
    failed,
    make_result,
)
from arm.evaluation.statistics import Estimate

PROMPTS, SAMPLES = 553, 4
PUBLISHED = Published(
    name="geneval", headline="overall", aggregation="mean of the tag means over images",
    published_items=PROMPTS * SAMPLES, checked={"all": CHECKED},
)  # fmt: skip
RESULTS = Source(
    what="one row an image with `correct` and `tag`, or with `detections` and `metadata`",
    names=("results.jsonl", "*detections*.jsonl", "*.jsonl", "*.parquet"),
    where="the official evaluation/evaluate_images.py, or a detector of your own", licence="yours",
)  # fmt: skip
DATA = Source(
    what="the prompts with their meta data", names=("evaluation_metadata.jsonl", "*metadata*.jsonl"),
    where="github.com/djghosh13/geneval, prompts/", licence="MIT",
)  # fmt: skip
TEMPLATE = "a photo of "


def parse(reply: Row) -> Mapping[str, list[Box]] | Failure:
    """The boxes of a detector's reply that count."""
    detections = reply.get("detections")
    if not isinstance(detections, dict):
        return Failure(str(reply.get("failed") or "no detections"))
    if any(len(box) != 5 for boxes in detections.values() for box in boxes):
        return Failure("a box is not [x0, y0, x1, y1, score]")
    return keep_boxes(detections, metadata_of(reply).get("tag", ""))


def judge(row: Row, number: int = 0) -> Scored:
    """The verdict on one image, from the detector's boxes or from the official program's own verdict."""
    metadata = metadata_of(row)
    uid, tag = uid_of(row, number), str(row.get("tag") or metadata.get("tag") or "")
    if "detections" not in row and isinstance(row.get("correct"), bool):
        reasons = tuple(str(row.get("reason") or "").split("\n"))
        return _scored(uid, tag, row["correct"], tuple(filter(None, reasons)), row.get("details"))
    kept = parse(row)
    if isinstance(kept, Failure):
        return failed(uid, tag, kept.reason)
    colors = row.get("colors") or {}
    try:
        correct, reasons_found = check(kept, metadata, lambda _, box: colors[str(list(box))])
    except KeyError as error:
        return failed(uid, tag, f"no colour was given for the box {error}")
    except (TypeError, IndexError, ValueError) as error:
        return failed(uid, tag, f"the meta data cannot be read ({error})")
    counts = {name: [list(box) for box in boxes] for name, boxes in kept.items()}
    return _scored(uid, tag, correct, tuple(reasons_found), counts)


def aggregate(items: Sequence[Scored], intervals: Intervals) -> dict[str, Estimate]:
    """Share of correct images by tag, the mean of the tags, and the shares of images and of prompts."""
    scored = [item for item in items if item.outcome == "ok"]
    tags: dict[str, dict[str, list[float]]] = {}
    for item in scored:
        tags.setdefault(item.group, {}).setdefault(item.uid.partition("/")[0], []).append(float(item.strict))
    if not tags:
        return {}
    by_prompt = {tag: [_mean(images) for images in prompts.values()] for tag, prompts in tags.items()}
    exact = {tag: _mean([value for images in prompts.values() for value in images]) for tag, prompts in tags.items()}
    found = {tag: intervals.mean(by_prompt[tag], value=exact[tag]) for tag in tags}
    found["overall"] = intervals.groups(by_prompt, "macro", value=_mean(list(exact.values())))
    found["images"] = intervals.groups(by_prompt, "micro", value=_mean([float(item.strict) for item in scored]))
    any_right = {tag: [float(any(images)) for images in prompts.values()] for tag, prompts in tags.items()}
    found["prompts"] = intervals.groups(any_right, "micro")
    return found


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score every image that is there; each prompt is expected to have as many as were asked for."""
    items = [judge(row, number) for number, row in enumerate(results.rows(results.find(RESULTS)))]
    if len({item.uid for item in items}) < len(items):
        raise UserError(f"{results.folder.url} holds an image twice; leave one of each.")
    prompts = data.rows(named) if (named := data.look(DATA)) else []
    places = [(int(prompt), int(sample)) for prompt, _, sample in (item.uid.partition("/") for item in items)]
    a_prompt = max([config.images_a_prompt, *(sample + 1 for _, sample in places)])
    return make_result(
        PUBLISHED, config, items=items, estimates=aggregate(items, Intervals(config)),
        num_expected=max([len(prompts) or PROMPTS, *(prompt + 1 for prompt, _ in places)]) * a_prompt,
        notes=_notes(a_prompt, prompts, places),
    )  # fmt: skip


def metadata_of(row: Row) -> dict[str, Any]:
    """The prompt's meta data, which the official program writes as JSON text."""
    found = row.get("metadata")
    if isinstance(found, str):
        with contextlib.suppress(json.JSONDecodeError):
            found = json.loads(found)
    return found if isinstance(found, dict) else {}


def uid_of(row: Row, number: int) -> str:
    """`…/00003/samples/0001.png` or prompt 3, sample 1  ->  00003/0001"""
    if "prompt_index" in row:
        return f"{int(row['prompt_index']):05d}/{int(row.get('sample', 0)):04d}"
    named = re.search(r"(\d+)/(?:samples/)?(\d+)\.\w+$", str(row.get("filename", "")))
    return f"{int(named[1]):05d}/{int(named[2]):04d}" if named else f"{number:05d}/0000"


def _scored(uid: str, tag: str, correct: bool, reasons: tuple[str, ...], answer: Any) -> Scored:
    return Scored(
        uid=uid, group=tag, outcome="ok", strict=correct, score=float(correct), reasons=reasons, answer=answer
    )


def _notes(a_prompt: int, prompts: Sequence[Row], places: Sequence[tuple[int, int]]) -> list[str]:
    notes = [] if a_prompt == SAMPLES else [f"{a_prompt} images a prompt; the published protocol has {SAMPLES}"]
    if any(not str(row.get("prompt", "")).startswith(TEMPLATE) for row in prompts):
        notes.append("prompts lengthened or written by others: another number than GenEval's")
    if not prompts:
        return [*notes, OWN_ANSWERS]
    unknown = sum(prompt >= len(prompts) for prompt, _ in places)
    notes += [f"{unknown:,} images of prompts that the data do not have"] if unknown else []
    return notes


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
