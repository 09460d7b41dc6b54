"""POPE: is there a …? Three sets of 3,000 questions, the mean of three F1.

questions   coco_pope_random.json        {"question_id": 1, "image": ..., "text": ..., "label": "yes"}, one a line
            or Hugging Face's Parquet, which calls the text `question` and the label `answer`
answers     *random*.jsonl               {"question_id": 1, "answer": "Yes, there is."}

The first sentence, commas removed, split at blanks: no where `No`, `not` or `no` is among the words, else yes. So "yes, no
doubt" is no, and "NO", "nope" and an empty answer are yes; what says neither is flagged. Source: github.com/AoiDragon/POPE, evaluate.py (MIT).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from arm.errors import UserError
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source, check_filled, need, only, row_of
from arm.evaluation.benchmarks.result import (
    CHECKED,
    NOT_CHECKED,
    Published,
    Result,
    Scored,
    failed,
    make_result,
    strangers,
)
from arm.evaluation.losses import NO_ANSWER
from arm.evaluation.statistics import Estimate

SETS = ("random", "popular", "adversarial")
PUBLISHED = Published(
    name="pope", headline="mean_f1", aggregation="mean of the F1 of yes over random, popular and adversarial",
    published_items=9_000, checked={"random": CHECKED, "popular": CHECKED, "adversarial": NOT_CHECKED},
)  # fmt: skip
QUESTIONS = tuple(
    Source(
        what=f"the questions of POPE {name}", names=(f"coco_pope_{name}.json", f"*{name}*.parquet"), is_part=True,
        where="github.com/AoiDragon/POPE, output/coco/; images of COCO val2014", licence="MIT",
    )
    for name in SETS
)  # fmt: skip
"""In the order of the sets."""
SAID = re.compile(r"\b(?:yes|no|not)\b", re.IGNORECASE)
Answer = Literal["yes", "no"]
Confusion = tuple[int, int, int, int]
"""TP, FP, TN, FN: yes is positive."""


def parse(reply: str) -> Answer:
    """yes or no; every reply is one of them."""
    words = reply.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def judge(uid: str, group: str, label: str, reply: object) -> Scored:
    """One question: every label but `no` counts as yes, as the official program has it."""
    wanted = "no" if label == "no" else "yes"
    if not isinstance(reply, str):
        return failed(uid, group, NO_ANSWER, wanted)
    answer = parse(reply)
    right = answer == wanted
    return Scored(
        uid=uid, group=group, outcome="ok", strict=right, score=float(right), answer=answer, wanted=wanted,
        reasons=() if right else (f"answered {answer}, expected {wanted}",),
        flags=() if SAID.search(reply) else ("neither yes nor no",),
    )  # fmt: skip


def confusion(items: Sequence[Scored]) -> Confusion:
    """TP, FP, TN, FN of scored items."""
    pairs = [(item.answer == "yes", item.strict) for item in items if item.outcome == "ok"]
    return (
        pairs.count((True, True)),
        pairs.count((True, False)),
        pairs.count((False, True)),
        pairs.count((False, False)),
    )


def measures(found: Confusion) -> dict[str, float]:
    """Accuracy, precision, recall, F1 and the share of yes; 0 where nothing was positive (the official program stops)."""
    tp, fp, tn, fn = found
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    return {
        "accuracy": (tp + tn) / sum(found),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "yes_ratio": (tp + fp) / sum(found),
    }


def printed(found: Confusion) -> str:
    """The lines that the official program prints."""
    tp, fp, tn, fn = found
    numbers = measures(found)
    names = {
        "Accuracy": "accuracy",
        "Precision": "precision",
        "Recall": "recall",
        "F1 score": "f1",
        "Yes ratio": "yes_ratio",
    }
    lines = [f"{title}: {numbers[name]}" for title, name in names.items()]
    return "\n".join(["TP\tFP\tTN\tFN\t", f"{tp}\t{fp}\t{tn}\t{fn}", *lines]) + "\n"


def aggregate(items: Sequence[Scored], intervals: Intervals) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """F1 and accuracy of each set, the mean F1, and F1 over all questions together."""
    tables = {name: confusion([item for item in items if item.group == name]) for name in SETS}
    tables = {name: table for name, table in tables.items() if sum(table)}
    if not tables:
        return {}, {}
    estimates: dict[str, Estimate] = {}
    for name, table in tables.items():
        for measure in ("f1", "accuracy"):
            estimates[f"{name}/{measure}"] = _estimate(intervals, [table], measure)
    estimates["mean_f1"] = _estimate(intervals, list(tables.values()), "f1")
    pooled: Confusion = tuple(map(sum, zip(*tables.values(), strict=True)))  # type: ignore[assignment]
    estimates["pooled/f1"] = _estimate(intervals, [pooled], "f1")
    estimates["pooled/accuracy"] = _estimate(intervals, [pooled], "accuracy")
    return estimates, {"printed": {name: printed(table) for name, table in tables.items()}}


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score the three sets; a set without answers is missing whole."""
    items: list[Scored] = []
    num_expected, unknown = 0, list[str]()
    for name, source in zip(SETS, QUESTIONS, strict=True):
        questions, answers = read_questions(data, data.find(source)), _answers(results, name)
        found, strange = _judge_set(name, questions, answers)
        items += found
        unknown += strange
        num_expected += len(questions)
    estimates, details = aggregate(items, Intervals(config))
    return make_result(
        PUBLISHED, config, items=items, estimates=estimates, num_expected=num_expected, details=details,
        notes=strangers(unknown, ()),
    )  # fmt: skip


def _judge_set(name: str, questions: Sequence[Row], answers: Sequence[Row]) -> tuple[list[Scored], list[str]]:
    """The verdicts, and the ids of answers to no question.

    Answers meet questions by id where both have ids, else in order, as the official program has it.
    """
    numbered = all("question_id" in row for row in [*questions, *answers])
    if not numbered and answers and len(answers) != len(questions):
        raise UserError(
            f"POPE {name} has {len(questions)} questions and {len(answers)} answers without question_id; give one each."
        )
    by_id = only(answers, "question_id", f"POPE {name}") if numbered else {str(n): row for n, row in enumerate(answers)}
    found = []
    for number, question in enumerate(questions):
        uid = str(question["question_id"]) if numbered else str(number)
        if uid in by_id:
            found.append(judge(f"{name}/{uid}", name, question["label"], by_id.pop(uid)["answer"]))
    return found, list(by_id)


def read_questions(files: Files, name: str) -> list[Row]:
    """The questions of one file, each with its `label`, whatever the file calls it."""
    rows = [
        {"label" if key == "answer" and "label" not in row else key: value for key, value in row.items()}
        for row in files.rows(name)
    ]
    check_filled(rows, ("label",), files.place(name))
    return rows


def _answers(results: Files, name: str) -> list[Row]:
    """The answers to one set; none where no file carries its name."""
    named = results.look(Source(
        what=f"the answers to POPE {name}", names=(f"*{name}*.json*",), besides=("coco_*",), where="the model", licence="yours",
    ))  # fmt: skip
    rows = results.rows(named) if named else []
    for number, row in enumerate(rows):
        need(row, ("answer",), row_of(number, results.place(named or "")))
    return rows


def _estimate(intervals: Intervals, tables: Sequence[Confusion], measure: str) -> Estimate:
    def average(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = np.mean([_vectorised(group)[measure] for group in drawn], axis=0)
        return shares

    found = intervals.of_counts(tables, average)
    exact = sum(measures(table)[measure] for table in tables) / len(tables)
    return Estimate(value=exact, low=found.low, high=found.high, num_items=found.num_items)


def _vectorised(tables: NDArray[np.int64]) -> Mapping[str, NDArray[np.float64]]:
    """F1 = 2 TP / (2 TP + FP + FN) and accuracy of many tables (N, 4)."""
    tp, fp, tn, fn = np.moveaxis(tables.astype(np.float64), -1, 0)
    return {"f1": 2 * tp / np.maximum(2 * tp + fp + fn, 1), "accuracy": (tp + tn) / (tp + fp + tn + fn)}
