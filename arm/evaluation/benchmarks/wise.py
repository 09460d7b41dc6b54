"""WISE: 1,000 prompts that need knowledge of the world, in two versions that are not comparable.

legacy      {"prompt_id": 1, "consistency": 2, "realism": 1, "aesthetic_quality": 0}   WiScore (.7 C + .2 R + .1 A) / 2
verified    {"prompt_id": 1, "score": 1}                                               the default since April 2026
            or the judge's text in `evaluation`

Categories are ranges of ids; the overall score weighs their means. The paper's .50 and .56 are legacy. 999 and 9.9, which
the programs write where the judge's text did not parse, are failed, not scores.
Source: github.com/PKU-YuanGroup/WISE, WISE_legacy/Calculate.py and calculate_verified.py (no licence: written anew).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source, need, only, row_of
from arm.evaluation.benchmarks.result import (
    CHECKED,
    NOT_CHECKED,
    Failure,
    Published,
    Result,
    Scored,
    failed,
    make_result,
    scores_by_group,
)
from arm.evaluation.statistics import Estimate

PROMPTS = 1_000
NAMES = ("consistency", "realism", "aesthetic_quality")
LABELLED = re.compile(r"\*{0,2}(Consistency|Realism|Aesthetic Quality)\*{0,2}\s*:?\s*(\d)", re.IGNORECASE)
BARE_LINE = re.compile(r"(?m)^\s*([0-2])\s*$")
BINARY = re.compile(r"\*{0,2}Score\*{0,2}\s*:?\s*([01])\b", re.IGNORECASE)
BARE_BINARY = re.compile(r"(?m)^\s*([01])\s*$")
RESULTS = Source(
    what="the judge's scores or text a prompt", names=("*scores*.jsonl", "*.jsonl", "*scores*.json", "*.json"),
    where="the official gpt_eval.py, or a judge of your own", licence="yours",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Version:
    """One version of WISE."""

    published: Published
    ranges: Mapping[str, range]
    weights: Mapping[str, float]


LEGACY = Version(
    Published(
        name="wise", headline="overall", aggregation="weighted sum of the category means of (.7 C + .2 R + .1 A) / 2",
        published_items=PROMPTS, checked={"all": CHECKED},
    ),
    {
        "culture": range(1, 401), "time": range(401, 568), "space": range(568, 701), "biology": range(701, 801),
        "physics": range(801, 901), "chemistry": range(901, 1001),
    },
    {"culture": 0.4, "time": 0.167, "space": 0.133, "biology": 0.1, "physics": 0.1, "chemistry": 0.1},
)  # fmt: skip
VERIFIED = Version(
    Published(
        name="wise_verified", headline="overall", aggregation="weighted sum of the category means of 0 or 1",
        published_items=PROMPTS, checked={"all": NOT_CHECKED},
    ),
    {
        "culture": range(1, 401), "time": range(401, 521), "space": range(521, 641), "biology": range(641, 761),
        "physics": range(761, 881), "chemistry": range(881, 1001),
    },
    {"culture": 0.4, "time": 0.12, "space": 0.12, "biology": 0.12, "physics": 0.12, "chemistry": 0.12},
)  # fmt: skip


def parse(reply: str) -> dict[str, float]:
    """Legacy: what the judge's text names, `Consistency: 2`, or three bare lines of 0 to 2; `**Consistency:** 2` is nothing."""
    found = {name.lower().replace(" ", "_"): float(value) for name, value in LABELLED.findall(reply)}
    if found:
        return found
    lines = BARE_LINE.findall(reply)
    return dict(zip(NAMES, map(float, lines[:3]), strict=True)) if len(lines) >= len(NAMES) else {}


def parse_verified(reply: str) -> int | Failure:
    """Verified: the first `Score: 0` or `Score: 1`, else the only line that is a bare 0 or 1; `**Score:** 1` is nothing."""
    found = BINARY.findall(reply)[:1] or BARE_BINARY.findall(reply)
    return int(found[0]) if len(found) == 1 else Failure(f"no score of 0 or 1 in {reply[:60]!r}")


def category_of(prompt: int, version: Version) -> str | None:
    """culture, time, space, biology, physics or chemistry."""
    return next((name for name, ids in version.ranges.items() if prompt in ids), None)


def judge(row: Row, version: Version = LEGACY) -> Scored:
    """One prompt; its score is the WiScore."""
    uid = str(row["prompt_id"])
    category = category_of(int(uid), version) if uid.isdecimal() else None
    if category is None:
        return Scored(uid=uid, group="none", outcome="unscorable", reasons=(f"prompt_id {uid} is in no category",))
    found = _binary(row) if version is VERIFIED else _three(row)
    if isinstance(found, Failure):
        return failed(uid, category, found.reason)
    value = wiscore(**found) if version is LEGACY else found["score"]
    return Scored(uid=uid, group=category, outcome="ok", strict=value == 1, score=value, answer=found, numbers=found)


def wiscore(consistency: float, realism: float, aesthetic_quality: float) -> float:
    """2, 1, 0 -> .8"""
    return (0.7 * consistency + 0.2 * realism + 0.1 * aesthetic_quality) / 2


def aggregate(items: Sequence[Scored], intervals: Intervals, version: Version = LEGACY) -> dict[str, Estimate]:
    """By category, weighted (`overall`, only when every category has prompts) and over all prompts (`unweighted`)."""
    groups = scores_by_group(items)
    if not groups:
        return {}
    means = {name: sum(values) / len(values) for name, values in groups.items()}
    found = {name: intervals.mean(values, value=means[name]) for name, values in groups.items()}
    found["unweighted"] = intervals.groups(groups, "micro")
    if means.keys() == version.weights.keys():
        exact = sum(weight * means[name] for name, weight in version.weights.items())
        found["overall"] = intervals.weighted(groups, version.weights, value=exact)
    return found


def printed(estimates: Mapping[str, Estimate]) -> list[str]:
    """The lines that the official program prints at its end; none while a category is empty."""
    if "overall" not in estimates:
        return []
    cells = [f"{estimates[name].value:.2f}" for name in LEGACY.weights]
    overall = f"{estimates['overall'].value:.2f}"
    return [
        f"Overall WiScore: {overall}",
        "Cultural\tTime\tSpace\tBiology\tPhysics\tChemistry\tOverall",
        f"{cells[0]}\t\t{chr(9).join(cells[1:])}\t\t{overall}",
    ]


def score(results: Files, data: Files, config: ScoreConfig, version: Version = LEGACY) -> Result:
    """Score the prompts 1 to 1000 from every file of scores that is there."""
    names = results.matching(["*scores*.jsonl"]) or [results.find(RESULTS)]
    listed = [
        (row, row_of(number, results.place(name))) for name in names for number, row in enumerate(results.rows(name))
    ]
    for row, where in listed:
        need(row, ("prompt_id",), where)
    rows = only([row for row, _ in listed], "prompt_id", ", ".join(names))
    items = [judge(row, version) for row in rows.values()]
    estimates = aggregate(items, Intervals(config), version)
    return make_result(
        version.published, config, items=items, estimates=estimates, num_expected=PROMPTS,
        details={"printed": printed(estimates)},
    )  # fmt: skip


score_verified = partial(score, version=VERIFIED)
"""The version of April 2026."""


def _three(row: Row) -> dict[str, float] | Failure:
    found: Mapping[str, Any] = row
    if not any(name in row for name in NAMES):
        if not isinstance(row.get("evaluation"), str):
            return Failure("neither scores nor `evaluation`")
        found = parse(row["evaluation"])
    values: dict[str, Any] = {name: found.get(name) for name in NAMES}
    wrong = [name for name, value in values.items() if not _is_number(value) or not 0 <= value <= 2]
    return Failure(f"{', '.join(wrong)}: not 0 to 2") if wrong else {name: float(values[name]) for name in NAMES}


def _binary(row: Row) -> dict[str, float] | Failure:
    value: Any = row.get("score")
    if value is None and isinstance(row.get("evaluation"), str):
        parsed = parse_verified(row["evaluation"])
        if isinstance(parsed, Failure):
            return parsed
        value = parsed
    if not _is_number(value) or value not in (0, 1):
        return Failure(f"the score {value!r} is not 0 or 1")
    return {"score": float(value)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
