"""GQA, testdev balanced: 12,578 questions, exact match after the final period is stripped and the case lowered.

questions     testdev_balanced_questions.json     {"2000": {"answer": "no", "isBalanced": true, "types": {...}}, ...}
predictions   *predictions*.json                  [{"questionId": "2000", "prediction": "No."}, ...]

The conversion is LLaVA's (scripts/convert_gqa_for_eval.py); `raw` is without it. Only balanced questions count. The
official eval.py was not available: these numbers were not checked against it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Source, need, only
from arm.evaluation.benchmarks.result import NOT_CHECKED, Published, Result, Scored, failed, make_result, strangers
from arm.evaluation.losses import NO_ANSWER
from arm.evaluation.statistics import Estimate

PUBLISHED = Published(
    name="gqa", headline="accuracy", aggregation="share of the balanced questions, times 100",
    published_items=12_578, checked={"all": NOT_CHECKED},
)  # fmt: skip
DATA = Source(
    what="the questions with their answers", names=("testdev_balanced_questions.json", "*questions*.json", "*.parquet"),
    where="cs.stanford.edu/people/dorarad/gqa/download.html", licence="CC BY 4.0",
)  # fmt: skip
RESULTS = Source(
    what="the model's answers", names=("testdev_balanced_predictions.json", "*predictions*.json*", "*answers*.jsonl"),
    where="the model", licence="yours",
)  # fmt: skip


def parse(reply: str) -> str:
    """The answer as LLaVA converts it: "Yes." -> "yes"; blanks stay."""
    return reply.rstrip(".").lower()


def judge(uid: str, question: Mapping[str, Any], reply: object) -> Scored:
    """One question; `raw` holds whether the reply is right as it stands."""
    group = str((question.get("types") or {}).get("structural", "all"))
    wanted = question["answer"]
    if not isinstance(reply, str):
        return failed(uid, group, NO_ANSWER, str(wanted))
    answer = parse(reply)
    right = answer == wanted
    return Scored(
        uid=uid, group=group, outcome="ok", strict=right, score=float(right), answer=answer, wanted=str(wanted),
        reasons=() if right else (f"answered {answer!r}, expected {wanted!r}",),
        numbers={"raw": float(reply == wanted)},
    )  # fmt: skip


def aggregate(items: Sequence[Scored], intervals: Intervals) -> dict[str, Estimate]:
    """Accuracy over all, open (query) and binary questions and by structural type, converted and raw."""
    scored = [item for item in items if item.outcome == "ok"]
    parts: dict[str, list[Scored]] = {"accuracy": scored}
    for item in scored:
        parts.setdefault("open" if item.group == "query" else "binary", []).append(item)
        parts.setdefault(f"structural/{item.group}", []).append(item)
    found: dict[str, Estimate] = {}
    for name, members in parts.items():
        if members:
            found[name] = _percent([item.score for item in members], intervals)
            found[f"raw/{name}"] = _percent([item.numbers["raw"] for item in members], intervals)
    return found


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score the predictions of the balanced questions."""
    questions, predictions = _read(results, data)
    balanced = {uid: question for uid, question in questions.items() if question.get("isBalanced", True)}
    items = [judge(uid, question, predictions[uid]) for uid, question in balanced.items() if uid in predictions]
    return make_result(
        PUBLISHED, config, items=items, estimates=aggregate(items, Intervals(config)), num_expected=len(balanced),
        notes=strangers(predictions, questions),
    )  # fmt: skip


def _read(results: Files, data: Files) -> tuple[dict[str, Mapping[str, Any]], dict[str, object]]:
    name = data.find(DATA)
    questions = data.json(name) if name.endswith(".json") else {}
    if not name.endswith(".json"):
        questions = only(data.rows(name), "id", name)
    elif set(questions) == {"questions", "predictions"}:  # both in one file
        return questions["questions"], _by_id(questions["predictions"], name)
    for uid, question in questions.items():
        need(question, ("answer",), f"question {uid} of {name}")
    path = results.find(RESULTS)
    return questions, _by_id(results.rows(path), path)


def _by_id(rows: Sequence[dict[str, Any]], name: str) -> dict[str, object]:
    """Official rows name the id `questionId`; LLaVA's answers `question_id` and `text`."""
    key = "questionId" if rows and "questionId" in rows[0] else "question_id"
    return {uid: row.get("prediction", row.get("text")) for uid, row in only(rows, key, name).items()}


def _percent(values: Sequence[float], intervals: Intervals) -> Estimate:
    return intervals.mean(values, factor=100, value=sum(values) / len(values) * 100)
