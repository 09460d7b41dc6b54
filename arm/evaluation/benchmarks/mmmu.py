"""MMMU, validation: 900 questions of 30 subjects, micro accuracy.

results     <subject>/output.json       [{"id", "question_type", "answer", "all_choices", "index2ans", "response"}, ...]
            or *.jsonl                  the same rows, subjects joined
            or total_val_output.json    {"validation_Art_1": "B", ...}, answers parsed already, with
answers     answer_dict_val.json        {"validation_Art_1": {"question_type": ..., "ground_truth": "B"}, ...}
            or the data set's own Parquet or JSON lines, {"id": "validation_Art_1", "answer": "B", ...}

Where answers are given, their questions are expected; without them all 900, and the responses' own answers count.

The official parser draws a letter at random (seed 42, in the order of the subjects) where it finds none: such rows are
flagged `random fallback`. corrected calls them failed.
"""

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.mmmu_answers import (
    draw_choice,
    is_right_choice,
    is_right_open,
    parse_choice,
    parse_open,
)
from arm.evaluation.benchmarks.reading import Files, Row, Source, need, only, row_of
from arm.evaluation.benchmarks.result import (
    CHECKED,
    OWN_ANSWERS,
    Published,
    Result,
    Scored,
    failed,
    make_result,
    strangers,
)
from arm.evaluation.statistics import Estimate

SEED = 42
DOMAINS: Mapping[str, tuple[str, ...]] = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy", "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech and Engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power",
        "Materials", "Mechanical_Engineering",
    ),
}  # fmt: skip
PUBLISHED = Published(
    name="mmmu", headline="overall", aggregation="share of right answers over all questions", published_items=900,
    checked={"all": CHECKED},
)  # fmt: skip
SPLIT = "validation_"
"""How the ids of the split begin."""
PARSED = ("total_val_output.json", "total_*output.json")
RESULTS = Source(
    what="a response a question", names=("output.json", "*responses*.jsonl", "*.jsonl", *PARSED),
    where="the model, in the layout of github.com/MMMU-Benchmark/MMMU, mmmu/example_outputs/", licence="yours",
)  # fmt: skip
RESPONSES = dataclasses.replace(RESULTS, names=("*responses*.jsonl", "*.jsonl"))
QUESTIONS = Source(
    what="the questions of the validation split, a folder a subject",
    names=("validation-*.parquet", "*validation*.parquet", "*.jsonl"), where="huggingface.co/datasets/MMMU/MMMU",
    licence="Apache-2.0",
)  # fmt: skip
DATA = Source(
    what="the right answers", names=("answer_dict_val.json", "answer_dict*.json"),
    where="github.com/MMMU-Benchmark/MMMU, mmmu/", licence="Apache-2.0",
)  # fmt: skip


def judge(row: Row, random: Random | None = None) -> Scored:
    """One question; `random` draws where no letter is found, without it such a row is failed."""
    uid = str(row["id"])
    if not isinstance(row.get("response"), str):
        return failed(uid, subject_of(uid), "no response", said(row["answer"]))
    if row["question_type"] != "multiple-choice":
        answers = parse_open(row["response"])
        return _scored(uid, is_right_open(row["answer"], answers), answers, row["answer"])
    letters, options = row["all_choices"], row["index2ans"]
    answer = parse_choice(row["response"], letters, options)
    if answer is None and random is None:
        reason = f"no option can be read from {row['response'][:60]!r}"
        return failed(uid, subject_of(uid), reason, said(row["answer"]))
    drawn = answer is None
    letter = answer if answer is not None else draw_choice(letters, random or Random(SEED))
    flags = ("random fallback",) if drawn else ()
    return _scored(uid, is_right_choice(row["answer"], letter), letter, row["answer"], flags)


def judge_parsed(uid: str, truth: Mapping[str, Any], answer: object) -> Scored:
    """One answer that was parsed before: choices are letters, open answers are read once more."""
    wanted = truth["ground_truth"]
    if not isinstance(answer, str):
        return failed(uid, subject_of(uid), "no answer", said(wanted))
    if truth["question_type"] == "multiple-choice":
        return _scored(uid, is_right_choice(wanted, answer), answer, wanted)
    answers = parse_open(answer)
    return _scored(uid, is_right_open(wanted, answers), answers, wanted)


def aggregate(items: Sequence[Scored], intervals: Intervals) -> dict[str, Estimate]:
    """Accuracy overall, by domain and by subject; unrounded, where the official program prints three decimals."""
    parts: dict[str, list[float]] = {}
    domains = {subject: domain for domain, subjects in DOMAINS.items() for subject in subjects}
    for item in items:
        if item.outcome == "ok":
            for name in ("overall", f"domain/{domains.get(item.group, 'other')}", f"subject/{item.group}"):
                parts.setdefault(name, []).append(item.score)
    return {name: intervals.mean(values, value=sum(values) / len(values)) for name, values in parts.items()}


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score responses, or answers that were parsed before."""
    names = results.matching(["output.json"])
    if not names and (alone := results.look(RESPONSES)):
        names = [alone]
    if names:
        truths = _truths(data) if data.is_given or data.folder.url != results.folder.url else {}
        every = _responses(results, names, config, truths)
        items = [item for item in every if item.uid in truths or not truths]
        num_expected = len(truths) or max(len(items), PUBLISHED.published_items)
        notes = strangers((item.uid for item in every), truths) if truths else [OWN_ANSWERS]
    else:
        items, num_expected, notes = _parsed(results, data)
    estimates = aggregate(items, Intervals(config))
    return make_result(
        PUBLISHED, config, items=items, estimates=estimates, num_expected=num_expected,
        details={"printed": printed(estimates)}, notes=notes,
    )  # fmt: skip


def printed(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """The table that the official program prints: subjects below their domains, three decimals.

    It sums accuracy times number, subject by subject in the order of their names, and prints a domain without answers as 0.
    """
    every = {
        subject: estimates[f"subject/{subject}"]
        for subject in sorted(subject for subjects in DOMAINS.values() for subject in subjects)
        if f"subject/{subject}" in estimates
    }
    table: dict[str, dict[str, float]] = {}
    for domain, subjects in DOMAINS.items():
        own = {subject: every[subject] for subject in subjects if subject in every}
        table[f"Overall-{domain}"] = _cell(list(own.values()))
        table |= {subject: _cell([found]) for subject, found in own.items()}
    return table | {"Overall": _cell(list(every.values()))}


def said(wanted: Any) -> str:
    """B  ->  B; ["1/2", "0.5"], an open answer that may be written in several ways  ->  1/2 or 0.5"""
    return " or ".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted)


def subject_of(uid: str) -> str:
    """validation_Art_Theory_12 -> Art_Theory"""
    return "_".join(uid.split("_")[1:-1])


def _responses(results: Files, names: Sequence[str], config: ScoreConfig, truths: Mapping[str, Any]) -> list[Scored]:
    """Rows in the order in which the official program draws: by subject, within one as they stand."""
    rows: list[Row] = []
    for name in names:
        found = results.rows(name)
        for number, row in enumerate(found):
            where = row_of(number, results.place(name))
            need(row, ("id", "question_type", "answer", "response"), where)
            if row["question_type"] == "multiple-choice":
                need(row, ("all_choices", "index2ans"), where)
        rows += [{**row, "answer": truths.get(str(row["id"]), row["answer"])} for row in found]
    random = Random(SEED) if config.mode == "official" else None
    return [judge(row, random) for uid, row in sorted(only(rows, "id", names[0]).items(), key=_subject)]


def _parsed(results: Files, data: Files) -> tuple[list[Scored], int, list[str]]:
    answers, truths = results.json(results.find(RESULTS)), data.json(data.find(DATA))
    items = [judge_parsed(uid, truths[uid], answers[uid]) for uid in truths if uid in answers]
    return items, len(truths), strangers(answers, truths)


def _truths(data: Files) -> dict[str, Any]:
    """Question of the split -> its right answer, from the data set; nothing where there are no data."""
    names = [] if data.is_alone else data.matching(QUESTIONS.names)
    rows = [row for name in names for row in _named(data, name)]
    if not rows and (name := data.look(DATA)):
        rows = _named(data, name)
    return {uid: answer for uid, answer in rows if uid.startswith(SPLIT)}


def _named(data: Files, name: str) -> list[tuple[str, Any]]:
    if name.endswith(".json"):
        return [(uid, truth["ground_truth"]) for uid, truth in data.json(name).items()]
    return [(uid, read_answer(row["answer"])) for uid, row in only(data.rows(name), "id", data.place(name)).items()]


def read_answer(text: Any) -> Any:
    """The right answer as the data set's Parquet holds it: "B" -> B; "['1/2', '0.5']", one written in several ways, -> a list."""
    try:
        found = ast.literal_eval(text) if isinstance(text, str) and text.startswith("[") else text
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # an open answer like [0, 1)
        return text
    return found


def _subject(entry: tuple[str, Row]) -> str:
    return subject_of(entry[0])


def _scored(uid: str, right: bool, answer: Any, wanted: Any, flags: tuple[str, ...] = ()) -> Scored:
    return Scored(
        uid=uid, group=subject_of(uid), outcome="ok", strict=right, score=float(right), answer=answer, flags=flags,
        wanted=said(wanted), reasons=() if right else (f"answered {answer!r}, expected {wanted!r}",),
    )  # fmt: skip


def _cell(found: Sequence[Estimate]) -> dict[str, float]:
    number = sum(one.num_items for one in found)
    return {"num": number, "acc": round(sum(one.value * one.num_items for one in found) / max(1, number), 3)}
