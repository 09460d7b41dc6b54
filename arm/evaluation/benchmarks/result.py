"""What a scorer returns: items, numbers, and the protocol that says how they came about.

    {"uid": "00003/0001", "group": "counting", "outcome": "ok", "strict": false, "score": 0.0,
     "answer": {"donut": 3}, "wanted": "", "reasons": ["expected donut>=4, found 3"], "flags": [], "numbers": {}}

A reply that does not parse is failed: never guessed, never 0, never dropped. While an item is missing or failed the
headline is refused.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arm.evaluation.benchmark import Scores
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.items import Verdict
from arm.evaluation.jsonl import to_json, to_lines
from arm.evaluation.losses import NO_ANSWER, account, reasons_of
from arm.evaluation.statistics import Estimate
from arm.storage import Folder

CHECKED = "checked against the official program"
NOT_CHECKED = "not checked against the official program"
OWN_ANSWERS = "the right answers are those that the results themselves name"
PRINTED = "printed"
"""The detail that holds what the official program prints."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that does not parse, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Verdict):
    """The verdict on one item, with what was read from the reply."""

    answer: Any = None
    """What the parser found: a letter, yes or no, the scores of a judge."""
    wanted: str = ""
    """The right answer as the data set has it; empty where there is none."""
    flags: tuple[str, ...] = ()
    """What a reader should know of the item: `random fallback`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a number came about, so that nobody compares two that were not measured alike."""

    benchmark: str
    mode: str
    revision: str
    judge: str
    judge_date: str
    prompt_sha256: str
    """Of the prompt that was given; empty when nobody said which."""
    prompt_style: str = ""
    """In whose wording questions were put, by name in `prompts.STYLES`; empty when nobody said."""
    aggregation: str
    num_expected: int
    num_scored: int
    num_failed: int
    num_missing: int
    unscored: Mapping[str, int] = field(default_factory=dict)
    """Why items have no score: reason -> how many, the most frequent first."""
    checked: Mapping[str, str]
    """Part of the benchmark, or `all` -> whether this scorer was run beside the authors' program."""
    interval: str
    flags: Mapping[str, int] = field(default_factory=dict)
    """Flag -> items that carry it."""
    notes: tuple[str, ...] = ()
    """What makes this number another one than the published."""
    data_files: Mapping[str, str] = field(default_factory=dict)
    """The data set's files that were read -> first digits of their sha256; images in files of their own are one entry."""
    results: Mapping[str, str] = field(default_factory=dict)
    """The same of the results that were scored."""
    judge_settings: Mapping[str, Any] = field(default_factory=dict)
    """What fixes the judge's answers beside its name: kind, digest of its weights, thresholds, rubrics with their versions."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Who was asked: kind, name, digest of its weights, settings; empty where nobody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One benchmark, scored."""

    scores: Scores
    items: tuple[Scored, ...]
    protocol: Protocol
    details: Mapping[str, Any] = field(default_factory=dict)
    """What has no interval: counts, tables, the lines that the official program prints."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """Reason -> items that failed before the scorer saw them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What its authors publish of a benchmark, and whether our scorer was run beside their program."""

    name: str
    headline: str
    """Name of the estimate that stands for the benchmark."""
    aggregation: str
    published_items: int
    """Items of the published set, another number is noted; 0 where there is no such set."""
    checked: Mapping[str, str]


def scores_by_group(items: Iterable[Scored]) -> dict[str, list[float]]:
    """Group -> the scores of its items, those that failed left out."""
    groups: dict[str, list[float]] = {}
    for item in items:
        if item.outcome == "ok":
            groups.setdefault(item.group, []).append(item.score)
    return groups


def make_result(
    benchmark: Published,
    config: ScoreConfig,
    *,
    items: Sequence[Scored],
    estimates: Mapping[str, Estimate],
    num_expected: int,
    details: Mapping[str, Any] | None = None,
    notes: Iterable[str] = (),
) -> Result:
    """Count what was expected, scored and failed, and put the protocol beside the numbers."""
    outcomes = Counter(item.outcome for item in items)
    failures = [item for item in items if item.outcome == "failed"]
    scores = Scores(
        benchmark=benchmark.name, headline=benchmark.headline, estimates=estimates, num_expected=num_expected,
        num_scored=outcomes["ok"], num_failed=outcomes["failed"], aggregation=benchmark.aggregation,
    )  # fmt: skip
    size = f"{num_expected:,} items; the published set has {benchmark.published_items:,}"
    protocol = Protocol(
        benchmark=benchmark.name, mode=config.mode, revision=config.revision, judge=config.judge,
        judge_date=config.judge_date, prompt_sha256=prompt_hash(config.prompt),
        aggregation=benchmark.aggregation, num_expected=num_expected, num_scored=outcomes["ok"],
        num_failed=outcomes["failed"], num_missing=scores.num_missing,
        unscored=account(reasons_of(failures), len(failures) + scores.num_missing),
        checked=benchmark.checked if config.mode == "official" else {"all": NOT_CHECKED},
        interval=f"95%, bootstrap over items within a group, {config.num_bootstraps} resamples",
        flags=dict(sorted(Counter(flag for item in items for flag in item.flags).items())),
        notes=(*([size] if benchmark.published_items not in (0, num_expected) else []), *notes),
    )  # fmt: skip
    return Result(scores=scores, items=tuple(items), protocol=protocol, details=details or {})


def prompt_hash(prompt: str) -> str:
    """The sha256 of a prompt, or nothing for none."""
    return hashlib.sha256(prompt.encode()).hexdigest() if prompt else ""


def with_lost(result: Result, lost: Mapping[str, int]) -> Result:
    """The same result, whose protocol also says what was lost before the scorer saw it: reason -> items.

    Lost items stand among the missing, or failed for want of an answer; those that the scorer did not expect are missing, too.
    """
    protocol, scores = result.protocol, result.scores
    reasons = reasons_of(item for item in result.items if item.outcome == "failed")
    unexpected = max(0, sum(lost.values()) - reasons.count(NO_ANSWER) - protocol.num_missing)
    scores = dataclasses.replace(scores, num_expected=scores.num_expected + unexpected)
    protocol = dataclasses.replace(
        protocol, num_expected=scores.num_expected, num_missing=scores.num_missing,
        unscored=account(reasons, scores.num_failed + scores.num_missing, lost),
    )  # fmt: skip
    return dataclasses.replace(result, scores=scores, protocol=protocol, lost=lost)


def strangers(answers: Iterable[str], known: Container[str]) -> list[str]:
    """The note on answers with ids that the data set does not have, which are left out; none where there are none."""
    number = sum(uid not in known for uid in answers)
    return [f"{number:,} answers to questions that the data do not have"] if number else []


def failed(uid: str, group: str, reason: str, wanted: str = "") -> Scored:
    """An item whose reply does not parse."""
    return Scored(uid=uid, group=group, outcome="failed", reasons=(reason,), wanted=wanted)


def item_row(item: Scored) -> dict[str, Any]:
    """An item as plain JSON values, its numbers unrounded."""
    row = dataclasses.asdict(item)
    return row | {"reasons": list(item.reasons), "flags": list(item.flags), "numbers": dict(item.numbers)}


def scores_row(result: Result) -> dict[str, Any]:
    """The numbers and the protocol of a result as plain JSON values.

    A refused headline is left out, with the reason, and so are the lines that the official program prints: it stands there.
    """
    hidden = (PRINTED,) if result.scores.refused else ()
    return {
        "benchmark": result.scores.benchmark,
        "headline": result.scores.headline,
        "refused": result.scores.refused,
        "estimates": {name: dataclasses.asdict(found) for name, found in result.scores.published().items()},
        "details": {name: value for name, value in result.details.items() if name not in hidden},
        "protocol": {key: plain(value) for key, value in _fields(result.protocol).items()},
    }


def write_result(result: Result, folder: Folder, beside: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write items.jsonl and scores.json; `beside` has more fields of an item, by uid."""
    rows = (item_row(item) | dict((beside or {}).get(item.uid, {})) for item in result.items)
    folder.write("items.jsonl", to_lines(rows))
    folder.write("scores.json", to_json(scores_row(result), indent=1))


def plain(value: Any) -> Any:
    """Mappings as dicts and tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def _fields(record: Protocol) -> dict[str, Any]:
    return {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
