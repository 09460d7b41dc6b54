"""GEdit-Bench: 606 edits of 11 groups, in English and in Chinese, judged with VIEScore's prompts.

results     <model>_<group>_gpt_score.csv     source_image, edited_image, instruction, sementics_score, quality_score,
                                              intersection_exist, instruction_language
            or one CSV with a column `group`; or *.jsonl with uid, group, language, sc_reply, pq_reply

G_SC, G_PQ and G_O are means over the 11 group means, O = √(SC · PQ) of each edit. lmms-eval takes the mean over edits and
0 for failures: another number. A judge's noise is about 0.1 and drifts: the protocol should name its date.
Source: github.com/stepfun-ai/Step1X-Edit, GEdit-Bench/calculate_statistics.py (Apache-2.0, written anew).
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Row, Source, need, row_of
from arm.evaluation.benchmarks.result import CHECKED, Failure, Published, Result, Scored, failed, make_result
from arm.evaluation.benchmarks.viescore import judge as judge_pair
from arm.evaluation.benchmarks.viescore import minimum, parse
from arm.evaluation.statistics import Estimate

GROUPS = (
    "background_change", "color_alter", "material_alter", "motion_change", "ps_human", "style_change", "subject-add",
    "subject-remove", "subject-replace", "text_change", "tone_transfer",
)  # fmt: skip
MEASURES = {"semantics": "SC", "quality": "PQ", "overall": "O"}
SUFFIX = "_gpt_score.csv"
INTERSECTION = "intersection"
NONE = "nan, nan, nan"
"""What numpy prints for the means of nothing."""
FALSE = ("none", "false", "0", "0.0")
"""What the program takes for false in `intersection_exist`; an empty cell, which pandas reads as nan, is true there."""
PER_LANGUAGE = 606
LANGUAGES = {"en": ("en",), "cn": ("cn", "zh")}
"""The program's flag is called zh, the data say cn."""
PUBLISHED = Published(
    name="gedit_en", headline="overall", aggregation="mean of the 11 group means of √(SC · PQ)",
    published_items=PER_LANGUAGE, checked={"all": CHECKED},
)  # fmt: skip
RESULTS = Source(
    what="the judge's scores or replies an edit", names=(f"*{SUFFIX}", "*scores*.csv", "*.csv", "*.jsonl", "*.parquet"),
    where="test_gedit_score.py, or a judge of your own", licence="yours",
)  # fmt: skip


def judge(row: Row, number: int = 0) -> Scored:
    """One edit, from scores or from the judge's two replies."""
    group = str(row.get("group", ""))
    uid = str(row.get("uid") or row.get("key") or row.get("edited_image") or number)
    values = [
        _value(row, name, reply) for name, reply in (("sementics_score", "sc_reply"), ("quality_score", "pq_reply"))
    ]
    if group not in GROUPS:
        return failed(uid, group, f"there is no group {group!r}")
    flags = () if str(row.get("intersection_exist")).lower() in FALSE else (INTERSECTION,)
    found = judge_pair(uid, values[0], values[1], group)
    return found if found.outcome != "ok" else Scored(
        uid=uid, group=group, outcome="ok", score=found.score, answer=found.answer, numbers=found.numbers, flags=flags
    )  # fmt: skip


def aggregate(items: Sequence[Scored], intervals: Intervals) -> dict[str, Estimate]:
    """SC, PQ and O: the mean of the group means, by group, and the same of the edits that every compared model finished."""
    found: dict[str, Estimate] = {}
    for prefix, members in (("", items), (f"{INTERSECTION}/", [item for item in items if INTERSECTION in item.flags])):
        for measure, short in MEASURES.items():
            groups = {
                group: [item.numbers[short] for item in members if item.group == group and item.outcome == "ok"]
                for group in GROUPS
            }
            groups = {group: values for group, values in groups.items() if values}
            if not groups:
                continue
            means = {group: float(np.mean(values)) for group, values in groups.items()}
            found[f"{prefix}{measure}"] = intervals.groups(groups, "macro", value=float(np.mean(list(means.values()))))
            for group, values in groups.items():
                found[f"{prefix}{measure}/{group}"] = intervals.mean(values, value=means[group])
    return found


def score(results: Files, data: Files, config: ScoreConfig, language: str = "en") -> Result:
    """Score the edits of one language."""
    rows = [
        row
        for row in read_rows(results)
        if str(row.get("instruction_language", row.get("language"))) in LANGUAGES[language]
    ]
    items = [judge(row, number) for number, row in enumerate(rows)]
    estimates = aggregate(items, Intervals(config))
    absent = [group for group in GROUPS if not any(item.group == group for item in items)]
    published = PUBLISHED if language == "en" else Published(
        name="gedit_cn", headline=PUBLISHED.headline, aggregation=PUBLISHED.aggregation,
        published_items=PUBLISHED.published_items, checked=PUBLISHED.checked,
    )  # fmt: skip
    return make_result(
        published, config, items=items, estimates=estimates, num_expected=max(len(items) + len(absent), PER_LANGUAGE),
        details={"printed": printed(estimates)}, notes=[f"no edits of {group}" for group in absent],
    )  # fmt: skip


score_cn = partial(score, language="cn")
"""The Chinese instructions."""


def printed(estimates: dict[str, Estimate]) -> list[str]:
    """The table that the official program prints: group, then the average, SC, PQ, O to three decimals; twice.

    A group without edits, or without edits of the intersection, is nan there, and so is the average.
    """
    lines: list[str] = []
    for prefix, title in (("", "Average"), (f"{INTERSECTION}/", "Average Intersection")):
        lines += [f"{group}: {_three(estimates, prefix, f'/{group}')}" for group in GROUPS]
        whole = all(f"{prefix}overall/{group}" in estimates for group in GROUPS)
        lines.append(f"{title}: {_three(estimates, prefix, '') if whole else NONE}")
    return lines


def read_rows(results: Files) -> list[Row]:
    """The rows of the official files, one a group, or of one file with a column `group`."""
    by_group = results.matching([f"*{SUFFIX}"])
    rows: list[Row] = []
    for name in by_group or [results.find(RESULTS)]:
        group = next((group for group in GROUPS if name.endswith(f"_{group}{SUFFIX}")), None)
        for number, row in enumerate(results.rows(name)):
            need(row, () if group else ("group",), row_of(number, results.place(name)))
            rows.append({"group": group, **row} if group else row)
    return rows


def _value(row: Row, name: str, reply: str) -> float | Failure:
    if isinstance(row.get(reply), str):
        return minimum(parse(row[reply]))
    try:
        value = float(row[name])
    except (KeyError, TypeError, ValueError):
        return Failure(f"neither {name} nor {reply}")
    return minimum({"score": [value]}) if math.isfinite(value) else Failure(f"{name} is empty")


def _three(estimates: dict[str, Estimate], prefix: str, suffix: str) -> str:
    found = [estimates.get(f"{prefix}{measure}{suffix}") for measure in MEASURES]
    return ", ".join(f"{one.value:.3f}" for one in found if one) or NONE
