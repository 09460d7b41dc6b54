"""VQAv2: 214,354 questions with ten answers each; min(1, matches among the other nine / 3), averaged over the ten.

annotations     v2_mscoco_val2014_annotations.json     {"annotations": [{"question_id", "question_type", "answer_type", "answers": [...]}]}
results         *results.json                          [{"question_id": 1000, "answer": "no"}, ...]

official keeps the program's quirks: answers are normalised only where the ten differ, the others are the answers that are
not equal to the one left out (answer, confidence and id), `none` is 0, numbers are rounded to two decimals. corrected
normalises always, leaves one out by place, and keeps `none`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks.config import Mode, ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source, need, only
from arm.evaluation.benchmarks.result import CHECKED, Published, Result, Scored, failed, make_result, strangers
from arm.evaluation.benchmarks.vqa_normalise import normalise, normalise_corrected, trim
from arm.evaluation.losses import NO_ANSWER
from arm.evaluation.statistics import Estimate

PUBLISHED = Published(
    name="vqav2", headline="overall", aggregation="mean over questions, times 100, two decimals",
    published_items=214_354, checked={"all": CHECKED},
)  # fmt: skip
DATA = Source(
    what="the annotations", names=("v2_mscoco_val2014_annotations.json", "*annotations*.json"),
    where="visualqa.org/download.html", licence="CC BY 4.0",
)  # fmt: skip
RESULTS = Source(
    what="the model's answers", names=("*_results.json", "*results*.json*", "*answers*.json*"), where="the model",
    licence="yours",
)  # fmt: skip
Annotation = Mapping[str, Any]


def parse(reply: str, differ: bool = True, mode: Mode = "official") -> str:
    """The answer that is compared; `differ`: whether the ten annotators' answers differ."""
    if mode == "corrected":
        return normalise_corrected(trim(reply))
    return normalise(trim(reply)) if differ else trim(reply)


def accuracy(annotation: Annotation, reply: str, mode: Mode = "official") -> tuple[float, str]:
    """Accuracy of one question, 0 to 1, and the answer that was compared."""
    answers = [{**entry, "answer": trim(entry["answer"])} for entry in annotation["answers"]]
    differ = len({entry["answer"] for entry in answers}) > 1
    if differ or mode == "corrected":
        read: Callable[[str], str] = normalise if mode == "official" else normalise_corrected
        answers = [{**entry, "answer": read(entry["answer"])} for entry in answers]
    answer = parse(reply, differ, mode)
    matches = [entry["answer"] == answer for entry in answers]
    if not any(matches):
        return 0.0, answer
    shares = [min(1, _matches_beside(place, answers, matches, mode) / 3) for place in range(len(answers))]
    return sum(shares) / len(shares), answer


def judge(annotation: Annotation, reply: object, mode: Mode = "official") -> Scored:
    """One question, the score in hundredths as the official program rounds it in `numbers`."""
    uid, group = str(annotation["question_id"]), str(annotation.get("answer_type", "all"))
    if not isinstance(reply, str):
        return failed(uid, group, NO_ANSWER, said(annotation))
    found, answer = accuracy(annotation, reply, mode)
    return Scored(
        uid=uid, group=group, outcome="ok", strict=found == 1, score=found, answer=answer, wanted=said(annotation),
        numbers={"percent": round(100 * found, 2)},
        reasons=() if found else (f"nobody answered {answer!r}",),
    )  # fmt: skip


def said(annotation: Annotation) -> str:
    """What the ten people answered, as they wrote it, the most frequent first: red × 7, maroon × 3"""
    counted = Counter(str(entry["answer"]) for entry in annotation["answers"])
    return ", ".join(f"{text} × {number}" for text, number in counted.most_common())


def aggregate(
    items: Sequence[Scored], intervals: Intervals, types: Mapping[str, str] | None = None
) -> dict[str, Estimate]:
    """Overall, by answer type and by question type, rounded as the official program rounds."""
    parts: dict[str, list[float]] = {}
    for item in items:
        if item.outcome == "ok":
            names = ["overall", f"answer_type/{item.group}"]
            names += [f"question_type/{types[item.uid]}"] if types and item.uid in types else []
            for name in names:
                parts.setdefault(name, []).append(item.score)
    return {
        name: intervals.mean(values, factor=100, value=round(100 * float(sum(values)) / len(values), 2))
        for name, values in parts.items()
    }


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score the answers to every annotated question."""
    annotations, answers = _read(results, data)
    items = [judge(entry, answers[uid], config.mode) for uid, entry in annotations.items() if uid in answers]
    types = {uid: str(entry["question_type"]) for uid, entry in annotations.items() if "question_type" in entry}
    return make_result(
        PUBLISHED, config, items=items, estimates=aggregate(items, Intervals(config), types),
        num_expected=len(annotations), notes=strangers(answers, annotations),
    )  # fmt: skip


def _matches_beside(place: int, answers: Sequence[Annotation], matches: Sequence[bool], mode: Mode) -> int:
    """Matches among the others: those unlike this answer (official), or those at another place (corrected)."""
    if mode == "corrected":
        return sum(matches) - matches[place]
    return sum(match for entry, match in zip(answers, matches, strict=True) if match and entry != answers[place])


def _read(results: Files, data: Files) -> tuple[dict[str, Annotation], dict[str, object]]:
    name = data.find(DATA)
    whole = data.json(name)
    annotations = _annotations(whole, data.place(name))
    if "results" in whole:  # both in one file
        rows = only(whole["results"], "question_id", name)
    else:
        path = results.find(RESULTS)
        rows = only(results.rows(path), "question_id", path)
    return dict(annotations), {uid: row.get("answer") for uid, row in rows.items()}


def _annotations(whole: Any, name: str) -> dict[str, Row]:
    """Question -> its annotation, each with ten answers of which each has a text."""
    if not isinstance(whole, Mapping) or not isinstance(whole.get("annotations"), list):
        raise UserError(f"{name} has no list `annotations`.")
    annotations = only(whole["annotations"], "question_id", name)
    for uid, entry in annotations.items():
        need(entry, ("answers",), f"question {uid} of {name}")
        if not all(
            isinstance(answer, Mapping) and isinstance(answer.get("answer"), str) for answer in entry["answers"]
        ):
            raise UserError(
                f"An answer to question {uid} of {name} has no text in 'answer': {entry['answers']!r:.200}."
            )
    return annotations


def annotated(data: Files) -> frozenset[str]:
    """The questions that have annotations."""
    name = data.find(DATA)
    return frozenset(_annotations(data.json(name), data.place(name)))
