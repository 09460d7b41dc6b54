"""DPG-Bench: 1,065 long prompts, four images each in a 2×2 grid, yes/no questions that depend on each other.

questions    dpg_bench.csv          item_id, proposition_id, dependency ("0" or "1,2"), tuple, question_natural_language
answers      *_detail.txt           what the official program writes: image, crop, question, answer
             or *answers*.json      {item: {question: [answer of crop 1, …, 4]}}

A question is 1 where the VQA model answers `yes`; in order of the questions, one is 0 when a question that it depends on is 0
by now. Crop = mean over questions, item = mean over crops, score = 100 times the mean over items.

official drops the first row of the CSV, so that the first item mostly cannot be scored and is left out; its category scores
are the last crop's, without the dependencies. corrected keeps the row, and takes all crops with the dependencies.
Source: github.com/TencentQQGYLab/ELLA, dpg_bench/compute_dpg_bench.py (Apache-2.0, written anew).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from arm.errors import UserError
from arm.evaluation.benchmarks.config import Mode, ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source, check_filled, row_of, whole_number
from arm.evaluation.benchmarks.result import CHECKED, Published, Result, Scored, failed, make_result, strangers
from arm.evaluation.statistics import Estimate

CROPS = 4
DROPPED = "dropped by the official program"
PUBLISHED = Published(
    name="dpg", headline="score", aggregation="100 times the mean over items of the mean over crops, dependency-zeroed",
    published_items=1_065, checked={"all": CHECKED},
)  # fmt: skip
DATA = Source(
    what="the questions with their dependencies", names=("dpg_bench.csv", "*questions*.csv", "*.csv"),
    where="github.com/TencentQQGYLab/ELLA, dpg_bench/", licence="Apache-2.0",
)  # fmt: skip
RESULTS = Source(
    what="the VQA model's answer a crop and question", names=("*_detail.txt", "*answers*.json", "*.json"),
    where="compute_dpg_bench.py, or a VQA model of your own", licence="yours",
)  # fmt: skip
DETAIL = re.compile(r"(?P<image>.*?), (?P<crop>\(\d+, \d+, \d+, \d+\)), (?P<question>.*\?|.*), (?P<answer>.*)")
COLUMNS = ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language")
Answers = Mapping[str, Mapping[str, Sequence[str]]]
"""Item -> question -> the answers of its crops."""


@dataclass(slots=True)
class Questions:
    """The questions of one item by number, in the order of the CSV."""

    text: dict[int, str] = field(default_factory=dict)
    category: dict[int, str] = field(default_factory=dict)
    parents: dict[int, list[int]] = field(default_factory=dict)


def parse(reply: str) -> float:
    """1 for the word `yes`, and for nothing else."""
    return float(reply == "yes")


def read_questions(rows: Sequence[Row], mode: Mode, name: str) -> dict[str, Questions]:
    """Item -> questions. An item whose rows do not stand together starts anew each time, as in the official program."""
    check_filled(rows, COLUMNS, name)
    found: dict[str, Questions] = {}
    previous = ""
    for place, row in list(enumerate(rows))[1 if mode == "official" else 0 :]:
        item, number = str(row["item_id"]), whole_number(row, "proposition_id", row_of(place, name))
        if item != previous and (mode == "official" or item not in found):
            found[item] = Questions()
        found[item].text[number] = row["question_natural_language"]
        found[item].category[number] = row["tuple"].split("(")[0].strip()
        found[item].parents[number] = _parents(row["dependency"], row_of(place, name))
        previous = item
    return found


def _parents(dependency: str, where: str) -> list[int]:
    """Numbers of the questions that one depends on: "1,2" -> [1, 2], "0" -> []"""
    try:
        return [int(part) for part in dependency.split(",") if int(part)]
    except ValueError:
        raise UserError(f"{where} has {dependency!r} in 'dependency'; it must be numbers with commas, or 0.") from None


def judge(item: str, questions: Questions, answers: Mapping[str, Sequence[str]], mode: Mode = "official") -> Scored:
    """One item: its score, `crop/1` to `crop/4`, and by number the answers that the category scores are made of."""
    missing = [text for text in questions.text.values() if not answers.get(text)]
    crops = {len(answers[text]) for text in questions.text.values() if text not in missing}
    if missing or len(crops) != 1:
        return failed(item, "all", f"no answer to {missing[0]!r}" if missing else f"crops differ in number: {crops}")
    raw = [
        {number: parse(answers[text][crop]) for number, text in questions.text.items()} for crop in range(crops.pop())
    ]
    try:
        zeroed = [zero_dependents(scores, questions.parents) for scores in raw]
    except KeyError as error:
        reason = f"a question depends on question {error}, which is not there"
        lost = Scored(uid=item, group="all", outcome="unscorable", reasons=(reason,), flags=(DROPPED,))
        return lost if mode == "official" else failed(item, "all", reason)
    means = [sum(scores.values()) / len(scores) for scores in zeroed]
    value = sum(means) / len(means)
    return Scored(
        uid=item, group="all", outcome="ok", strict=value == 1, score=value,
        answer={"last_crop": raw[-1]} if mode == "official" else {"crops": zeroed},
        numbers={f"crop/{number + 1}": mean for number, mean in enumerate(means)},
    )  # fmt: skip


def zero_dependents(scores: Mapping[int, float], parents: Mapping[int, Sequence[int]]) -> dict[int, float]:
    """In order: a question is 0 when one that it depends on is 0 by now. {1: 0, 2: 1}, 2 depends on 1 -> {1: 0, 2: 0}"""
    found = dict(scores)
    for number, above in parents.items():
        if any(found[parent] == 0 for parent in above):
            found[number] = 0.0
    return found


def aggregate(items: Sequence[Scored], questions: Mapping[str, Questions], intervals: Intervals) -> dict[str, Estimate]:
    """The score, and the category scores: `entity` (level 1), `entity - whole` (level 2)."""
    scored = [item for item in items if item.outcome == "ok"]
    if not scored:
        return {}
    values = [item.score for item in scored]
    found = {"score": intervals.mean(values, factor=100, value=float(np.mean(values) * 100))}
    parts: dict[str, list[float]] = {}
    for item in scored:
        crops = item.answer.get("crops") or [item.answer["last_crop"]]
        for number, category in questions[item.uid].category.items():
            for name in (f"level 1/{category.split('-')[0].strip()}", f"level 2/{category}"):
                parts.setdefault(name, []).extend(crop[number] for crop in crops)
    for name, answers in sorted(parts.items()):
        found[name] = intervals.mean(answers, factor=100, value=float(np.mean(answers) * 100))
    return found


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score every item of the CSV."""
    name = data.find(DATA)
    rows = data.rows(name)
    questions = read_questions(rows, config.mode, data.place(name))
    answers = read_answers(results)
    items = [judge(item, asked, answers[item], config.mode) for item, asked in questions.items() if item in answers]
    dropped = sum(item.outcome == "unscorable" for item in items)
    notes = [f"the official program drops {dropped} of {len(questions)} items"] if dropped else []
    sizes = sorted({len(item.numbers) for item in items if item.outcome == "ok"} - {CROPS})
    notes += strangers(answers, {str(row["item_id"]) for row in rows})
    notes += [f"{size} images a prompt; the published protocol has {CROPS}" for size in sizes]
    return make_result(
        PUBLISHED, config, items=items, estimates=aggregate(items, questions, Intervals(config)), notes=notes,
        num_expected=len(questions) - dropped,
    )  # fmt: skip


def read_answers(results: Files) -> Answers:
    """The VQA model's answers from the official detail file or from JSON.

    The file has a line a crop and question: one that an item asks twice has two a crop, of which the last stays.
    """
    name = results.find(RESULTS)
    if not name.endswith(".txt"):
        found: Answers = results.json(name)
        return found
    items: dict[str, dict[str, dict[str, str]]] = {}
    for number, line in enumerate(results.text(name).splitlines()):
        read = DETAIL.fullmatch(line)
        if not read:
            raise UserError(f"Line {number + 1} of {name} is not `image, (crop), question, answer`: {line[:80]!r}.")
        item = read["image"].rpartition("/")[2].split(".")[0]
        items.setdefault(item, {}).setdefault(read["question"], {})[read["crop"]] = read["answer"]
    return {
        item: {question: list(crops.values()) for question, crops in asked.items()} for item, asked in items.items()
    }
