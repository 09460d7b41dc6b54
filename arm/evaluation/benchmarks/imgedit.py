"""ImgEdit-Bench: 737 edits of nine types, a judge's three scores from 1 to 5, the mean by type.

results      result.json         {"12": "Brief reasoning: …\\nPrompt Compliance: 4\\nVisual Naturalness: 3\\n…", …}
edits        basic_edit.json     {"12": {"id": …, "prompt": …, "edit_type": "add"}, …}

official averages the lines that end in `: ` and digits, however few they are: a heading in bold ("**Prompt Compliance:** 4")
or "3.5" drops out of the mean unseen. corrected needs three scores from 1 to 5, reads bold and decimals, and calls
anything else failed. Both round an item and a type to two decimals, as the official program does.
Source: github.com/PKU-YuanGroup/ImgEdit, Benchmark/Basic/step1_get_avgscore.py and step2_typescore.py (no licence: written anew).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from arm.evaluation.benchmarks.config import Mode, ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Source
from arm.evaluation.benchmarks.result import CHECKED, Failure, Published, Result, Scored, failed, make_result, strangers
from arm.evaluation.statistics import Estimate

HIGHEST = 5
NUM_SCORES = 3
PUBLISHED = Published(
    name="imgedit", headline="overall", aggregation="mean of the nine type means, each to two decimals",
    published_items=737, checked={"all": CHECKED},
)  # fmt: skip
DATA = Source(
    what="the edits with their types", names=("basic_edit.json", "*edit*.json", "*judge_outputs*.json"),
    where="huggingface.co/datasets/sysuyy/ImgEdit, Benchmark.tar", licence="the repository names none",
)  # fmt: skip
RESULTS = Source(
    what="the judge's text an edit", names=("result.json", "*result*.json", "*judge*.json"),
    where="basic_bench.py, or a judge of your own", licence="yours",
)  # fmt: skip
LINE = re.compile(r"\W*[A-Za-z][A-Za-z &]*\W*:\W*(\d+(?:\.\d+)?)\s*(?:/\s*5)?\W*")


def parse(reply: str, mode: Mode = "official") -> list[float] | Failure:
    """The scores of a judge's text, line by line."""
    if mode == "official":
        parts = [line.strip().split(": ") for line in reply.splitlines()]
        found: list[float] = [int(part[1]) for part in parts if len(part) == 2 and part[1].isdecimal()]
        return found or Failure(f"no score in {reply[:60]!r}")
    lines = [LINE.fullmatch(line.strip()) for line in reply.splitlines()]
    found = [float(line[1]) for line in lines if line]
    if len(found) != NUM_SCORES or not all(1 <= value <= HIGHEST for value in found):
        return Failure(f"not three scores from 1 to 5: {found}")
    return found


def judge(uid: str, kind: str, reply: object, mode: Mode = "official") -> Scored:
    """One edit; `mean` is its average to two decimals."""
    if not isinstance(reply, str):
        return failed(uid, kind, "no reply")
    scores = parse(reply, mode)
    if isinstance(scores, Failure):
        return failed(uid, kind, scores.reason)
    mean = round(sum(scores) / len(scores), 2)
    flags = () if len(scores) == NUM_SCORES else (f"mean of {len(scores)} scores",)
    return Scored(
        uid=uid, group=kind, outcome="ok", score=mean / HIGHEST, answer=scores, numbers={"mean": mean}, flags=flags
    )


def aggregate(items: Sequence[Scored], intervals: Intervals) -> dict[str, Estimate]:
    """The mean of each type, of the types (`overall`) and of the edits (`items`); the program prints the types alone."""
    types: dict[str, list[float]] = {}
    for item in items:
        if item.outcome == "ok":
            types.setdefault(item.group, []).append(item.numbers["mean"])
    if not types:
        return {}
    means = {kind: round(sum(values) / len(values), 2) for kind, values in types.items()}
    every = [value for values in types.values() for value in values]
    return {
        **{f"type/{kind}": intervals.mean(values, value=means[kind]) for kind, values in types.items()},
        "overall": intervals.groups(types, "macro", value=sum(means.values()) / len(means)),
        "items": intervals.groups(types, "micro", value=sum(every) / len(every)),
    }


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score the judge's text of every edit, in the order of the replies: a type's mean may lie between two hundredths, and
    then the order of its sum decides which way it is rounded."""
    edits, replies = _read(results, data)
    items = [
        judge(uid, str(edits[uid].get("edit_type", "unknown")), reply, config.mode)
        for uid, reply in replies.items() if uid in edits
    ]  # fmt: skip
    return make_result(
        PUBLISHED, config, items=items, estimates=aggregate(items, Intervals(config)), num_expected=len(edits),
        notes=strangers(replies, edits),
    )  # fmt: skip


def _read(results: Files, data: Files) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, object]]:
    found = results.json(results.find(RESULTS))
    if {"meta", "judge_text"} <= found.keys():  # both in one file
        return found["meta"], found["judge_text"]
    return data.json(data.find(DATA)), found
