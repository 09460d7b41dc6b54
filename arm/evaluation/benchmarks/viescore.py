"""VIEScore (arXiv 2312.14867): a judge gives lists of scores 0 to 10; semantics and quality are their minima.

    SC = min([success, over-edit])     PQ = min([naturalness, artefacts])     O = √(SC · PQ) of each item, then the mean

The root of the means is another number: 5.24 where the mean of the roots is 4.62. Replies are read as the official
mllm_output_to_dict reads them (github.com/TIGER-AI-Lab/VIEScore, viescore/utils.py, MIT; written anew), but for its draw of
random scores where a second try does not parse either: ours is failed.

results     SC.json, PQ.json     {"sample_1.jpg": {"score": [8, 7], "reasoning": "…"}, …}, or the judge's text in `reply`
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Source
from arm.evaluation.benchmarks.result import NOT_CHECKED, Failure, Published, Result, Scored, failed, make_result
from arm.evaluation.statistics import Estimate

HIGHEST = 10
RATE_LIMIT = "rate_limit_exceeded"
DELIMITER = "||V^=^V||"
LIST_OF_TWO = re.compile(r"\[\d+, ?\d+\]")
BARE_KEY = re.compile(r"(\w+):")
ENTRY = re.compile(r"(\".*?\"):(.*?)(,|})")
NUMBER = re.compile(r"-?\d+(\.\d+)?$")
WORD = re.compile(r"(true|false|null)$", re.IGNORECASE)
PUBLISHED = Published(
    name="viescore", headline="overall", aggregation="mean over items of √(SC · PQ)", published_items=0,
    checked={"all": NOT_CHECKED, "parser": "checked against the official program"},
)  # fmt: skip
SC = Source(
    what="the judge's replies on semantics", names=("SC.json", "*SC*.json"), where="a VIEScore judge", licence="yours"
)
PQ = Source(
    what="the judge's replies on quality", names=("PQ.json", "*PQ*.json"), where="a VIEScore judge", licence="yours"
)


def parse(reply: str) -> dict[str, Any] | Failure:
    """The judge's reply as {"score": [...], "reasoning": ...}.

    {"score": [8, 7], …} in prose or a code block; {score: 7, …} unquoted; [6, 0] alone; 7 alone. An object without a score,
    {} or {"marks": 7}, passes as it does there; `minimum` fails it.
    """
    if reply == RATE_LIMIT:
        return Failure("rate limit exceeded")
    if reply.count(DELIMITER) == 2:
        return _read(reply[reply.find(DELIMITER) + len(DELIMITER) : reply.rfind(DELIMITER)])
    start, end = reply.find("{"), reply.rfind("}") + 1
    if start >= 0 and end > 0:
        return _read(reply[start:end]) if start != end else Failure("no score")
    listed = reply[reply.find("[") : reply.rfind("]") + 1]
    if LIST_OF_TWO.fullmatch(listed):
        try:
            return {"score": json.loads(listed), "reasoning": "System: output is simply a list of scores"}
        except ValueError:  # [07, 1]: the program stops
            return Failure(f"the list {listed[:60]} is not JSON")
    try:
        number = int(reply)
    except ValueError:
        return Failure(f"no scores in {reply[:60]!r}")
    if not 0 <= number <= HIGHEST:
        return Failure(f"the number {number} is not 0 to 10")
    return {"score": [number], "reasoning": "System: output is simply a number"}


def minimum(parsed: Mapping[str, Any] | Failure) -> float | Failure:
    """The lowest score of a reply that was parsed; scores that are no numbers, or none, or outside 0 to 10 fail."""
    if isinstance(parsed, Failure):
        return parsed
    if "score" not in parsed:
        return Failure(f"no score among {list(parsed)}")
    scores = parsed["score"]
    scores = scores if isinstance(scores, list) else [scores]
    if not scores:
        return Failure("the list of scores is empty")
    if not all(isinstance(score, int | float) and not isinstance(score, bool) for score in scores):
        return Failure(f"the scores {scores!r} are not numbers")
    if not all(0 <= score <= HIGHEST for score in scores):
        return Failure(f"the scores {scores!r} are not all 0 to 10")
    return float(min(scores))


def judge(uid: str, semantics: float | Failure, quality: float | Failure, group: str = "all") -> Scored:
    """One item: SC, PQ and O in `numbers`, O / 10 as its score."""
    for name, value in (("SC", semantics), ("PQ", quality)):
        if isinstance(value, Failure):
            return failed(uid, group, f"{name}: {value.reason}")
    assert not isinstance(semantics, Failure)
    assert not isinstance(quality, Failure)
    overall = math.sqrt(semantics * quality)
    return Scored(
        uid=uid, group=group, outcome="ok", score=overall / HIGHEST, answer={"SC": semantics, "PQ": quality},
        numbers={"SC": float(semantics), "PQ": float(quality), "O": overall},
    )  # fmt: skip


def aggregate(items: Sequence[Scored], intervals: Intervals) -> dict[str, Estimate]:
    """Mean SC, PQ and O, and the root of the means for comparison."""
    scored = [item for item in items if item.outcome == "ok"]
    if not scored:
        return {}
    names = {"semantics": "SC", "quality": "PQ", "overall": "O"}
    found = {}
    for name, short in names.items():
        values = [item.numbers[short] for item in scored]
        found[name] = intervals.mean(values, value=sum(values) / len(values))
    return found


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score the items that either file names; one that the other lacks is missing."""
    semantics, quality = (results.json(results.find(source)) for source in (SC, PQ))
    for name, found in (("SC.json", semantics), ("PQ.json", quality)):
        if not isinstance(found, dict):
            raise UserError(f"{name} is not an object of items; it should be {{uid: {{score: [...]}}}}.")
    uids = list(dict.fromkeys([*semantics, *quality]))
    items = [
        judge(uid, _value(semantics[uid]), _value(quality[uid])) for uid in uids if uid in semantics and uid in quality
    ]
    estimates = aggregate(items, Intervals(config))
    details = {}
    if estimates:
        details["root_of_means"] = math.sqrt(estimates["semantics"].value * estimates["quality"].value)
    return make_result(
        PUBLISHED, config, items=items, estimates=estimates, num_expected=len(uids), details=details,
    )  # fmt: skip


def _value(entry: Any) -> float | Failure:
    if isinstance(entry, str):
        return minimum(parse(entry))
    if isinstance(entry, dict) and "score" not in entry and isinstance(entry.get("reply"), str):
        return minimum(parse(entry["reply"]))
    return minimum(entry) if isinstance(entry, dict) else Failure("no reply")


def _read(text: str) -> dict[str, Any] | Failure:
    """JSON, or JSON after repair; a single score becomes a list, in the first case only, as in the official program."""
    text = text.strip().replace("\n", "")
    if not text:
        return Failure("nothing between the delimiters")
    try:
        value = json.loads(text)
        if not isinstance(value["score"], list):
            value["score"] = [value["score"]]
        return dict(value)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    try:
        value = json.loads(repair(text))
    except (ValueError, RecursionError):
        return Failure(f"no JSON with a score in {text[:60]!r}")
    return value if isinstance(value, dict) else Failure(f"no object in {text[:60]!r}")


def repair(text: str) -> str:
    """Quotes around bare keys and texts, brackets around numbers: {score: 7, why: bad} -> {"score": [7], "why": "bad"}"""

    def entry(found: re.Match[str]) -> str:
        key, value, behind = found[1], found[2].strip(), found[3]
        if NUMBER.match(value):
            value = f"[{value}]"
        elif not WORD.match(value):
            value = f'"{value}"'
        return f"{key}: {value}{behind}"

    return ENTRY.sub(entry, BARE_KEY.sub(r'"\1":', text))
