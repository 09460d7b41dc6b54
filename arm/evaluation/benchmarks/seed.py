"""SEED-Bench-1: 14,233 questions about images and 3,764 about videos, four options, accuracy.

results     GPT-4V.json        {"question_id": "101669", "prediction": "A", "gt_answer": "A"}, one a line
            results.json       {"q_id": "101669", "prediction": "A", "gt": "A", "q_type_id": 1}, as eval.py writes them
questions   SEED-Bench.json    {"questions": [{"question_id": ..., "answer": "A", "data_type": "image", "question_type_id": 1}, ...],
                                "question_type": {"Scene Understanding": 1, ...}}

official compares prediction and answer as they stand; corrected reads a letter out of "(A)", "A." or "A. a dog" and calls
anything else failed. Some ids come twice, in the authors' own results too; the second is `4312#2` here.

headline    `image`, the number of most papers, where questions or dimensions are known: those up to 9 are of images. Videos
            are expected only where some are answered, and only then there are `video` and `all`.
            `all` of the 17,997 where results do not say which question is which
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from arm.evaluation.benchmarks.config import Mode, ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source, need, row_of
from arm.evaluation.benchmarks.result import (
    NOT_CHECKED,
    OWN_ANSWERS,
    Failure,
    Published,
    Result,
    Scored,
    failed,
    make_result,
    strangers,
)
from arm.evaluation.losses import NO_ANSWER
from arm.evaluation.statistics import Estimate

IMAGES, VIDEOS = 14_233, 3_764
PUBLISHED = Published(
    name="seed", headline="all", aggregation="share of right letters", published_items=IMAGES + VIDEOS,
    checked={"all": NOT_CHECKED},
)  # fmt: skip
"""Where questions and dimensions are not known."""
RESULTS = Source(
    what="a prediction a question", names=("*seed-bench-1*", "*prediction*", "*result*.json*", "*.jsonl", "*.json", "*.parquet"),
    where="the model, in the layout of github.com/AILab-CVC/SEED-Bench, evaluate_result/", licence="yours",
    besides=("SEED-Bench.json",),
)  # fmt: skip
DATA = Source(
    what="the questions", names=("SEED-Bench.json",), where="huggingface.co/datasets/AILab-CVC/SEED-Bench",
    licence="CC BY-NC 4.0",
)  # fmt: skip
NAMES = {"q_id": "question_id", "gt": "gt_answer", "q_type_id": "question_type_id"}
"""What eval.py calls the fields of its results."""
LAST_OF_IMAGES = 9
"""The dimensions 1 to 9 are asked of images, 10 to 12 of videos."""
LETTER = re.compile(r"\(?([A-D])\)?(?:[.:)]|\s|$)")


def parse(reply: str, mode: Mode = "official") -> str | Failure:
    """The letter: as it stands (official), or read out of the first word (corrected)."""
    if mode == "official":
        return reply
    found = LETTER.match(reply.strip())
    return found[1] if found else Failure(f"no letter A to D in {reply[:40]!r}")


def judge(uid: str, wanted: str, reply: object, *, group: str = "all", mode: Mode = "official") -> Scored:
    """One question."""
    if not isinstance(reply, str):
        return failed(uid, group, NO_ANSWER, wanted)
    answer = parse(reply, mode)
    if isinstance(answer, Failure):
        return failed(uid, group, answer.reason, wanted)
    right = answer == wanted
    return Scored(
        uid=uid, group=group, outcome="ok", strict=right, score=float(right), answer=answer, wanted=wanted,
        reasons=() if right else (f"answered {answer!r}, expected {wanted!r}",),
    )  # fmt: skip


def aggregate(items: Sequence[Scored], intervals: Intervals) -> dict[str, Estimate]:
    """Over images, over videos, and by dimension where the questions are known; over all, unless only images were asked."""
    parts: dict[str, list[float]] = {}
    for item in items:
        if item.outcome == "ok":
            kind, _, dimension = item.group.partition("/")
            names = {"all", kind, f"dimension/{dimension}" if dimension else "all"}
            for name in sorted(names):
                parts.setdefault(name, []).append(item.score)
    if "video" not in parts and "image" in parts:
        del parts["all"]
    return {name: intervals.mean(values, value=sum(values) / len(values)) for name, values in sorted(parts.items())}


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score predictions against their own `gt_answer`, or against the questions where those are given."""
    questions = _questions(data)
    name = results.find(RESULTS)
    predictions = by_id(results.rows(name), results.place(name))
    for number, row in enumerate(predictions.values()):
        need(row, ("prediction",) if questions else ("prediction", "gt_answer"), row_of(number, results.place(name)))
    items = [
        judge(uid, _answer(questions.get(uid), row), row["prediction"], group=_group(questions.get(uid, row)), mode=config.mode)
        for uid, row in predictions.items() if uid in questions or not questions
    ]  # fmt: skip
    published, num_expected, note = _expected(questions, predictions)
    notes = [*filter(None, (note,)), *(strangers(predictions, questions) if questions else [OWN_ANSWERS])]
    return make_result(
        published, config, items=items, estimates=aggregate(items, Intervals(config)), notes=notes,
        num_expected=num_expected,
    )  # fmt: skip


def _expected(questions: Mapping[str, Row], predictions: Mapping[str, Row]) -> tuple[Published, int, str]:
    """What the headline is, how many questions were to be answered, and a note on those that were not."""
    answered = {_kind(questions.get(uid, row)) for uid, row in predictions.items() if uid in questions or not questions}
    if not questions and "all" in answered:
        note = f"image ({IMAGES:,}) and video ({VIDEOS:,}) apart need SEED-Bench.json as --data"
        return PUBLISHED, max(PUBLISHED.published_items, len(predictions)), note
    videos = sum(_kind(row) == "video" for row in questions.values()) if questions else VIDEOS
    num_questions = len(questions) or max(PUBLISHED.published_items, len(predictions))
    published = dataclasses.replace(PUBLISHED, headline="image")
    if "video" in answered or not videos:
        return published, num_questions, ""
    published = dataclasses.replace(published, published_items=IMAGES)
    note = f"questions about videos were not asked ({videos:,}): no number of videos, none of all questions"
    return published, num_questions - videos, note


def by_id(rows: Sequence[Row], name: str) -> dict[str, Row]:
    """Rows by id: 7, 7, 8 -> 7, 7#2, 8"""
    found: dict[str, Row] = {}
    seen: Counter[str] = Counter()
    for number, own in enumerate(rows):
        row = {NAMES.get(key, key): value for key, value in own.items()}
        need(row, ("question_id",), row_of(number, name))
        uid = str(row["question_id"])
        seen[uid] += 1
        found[uid if seen[uid] == 1 else f"{uid}#{seen[uid]}"] = row
    return found


def _questions(data: Files) -> Mapping[str, Row]:
    """Id -> question; `dimension` is the name of its type, or its number where the file names none."""
    name = data.look(DATA)
    if name is None:
        return {}
    found = data.json(name)
    titles = {number: title for title, number in found.get("question_type", {}).items()}
    rows = by_id(found["questions"], data.place(name))
    numbers = {uid: row.get("question_type_id", "") for uid, row in rows.items()}
    return {uid: {**row, "dimension": titles.get(numbers[uid], numbers[uid])} for uid, row in rows.items()}


def _answer(question: Mapping[str, Any] | None, row: Row) -> str:
    return str(question["answer"] if question else row["gt_answer"])


def _group(row: Mapping[str, Any]) -> str:
    kind = _kind(row)
    return kind if kind == "all" else f"{kind}/{row.get('dimension', row.get('question_type_id', ''))}"


def _kind(row: Mapping[str, Any]) -> str:
    """image or video of a question, or of a result that names its dimension; else `all`."""
    dimension = str(row.get("question_type_id", ""))
    if "data_type" in row or not dimension.isdecimal():
        return str(row.get("data_type", "all"))
    return "image" if int(dimension) <= LAST_OF_IMAGES else "video"
