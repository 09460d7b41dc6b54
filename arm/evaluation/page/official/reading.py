"""What an evaluation artifact holds of other authors' benchmarks: numbers, items, and what was asked.

benchmarks/<subject>/<benchmark>/scores.json  items.jsonl  replies.jsonl  made/…        arm/evaluation/official
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from arm.evaluation.page.official.targets import Target, place_of, target_of
from arm.evaluation.page.scores import REFERENCE, STAGES
from arm.evaluation.page.store import Step, read_lines

FOLDER = "benchmarks"
ELSEWHERE = "model"
"""The subject that is no stage: the model that the config names."""
NUMBERS = ("value", "low", "high")
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One benchmark of one subject."""

    step: Step
    subject: str
    benchmark: str
    record: Row
    """scores.json."""

    @property
    def folder(self) -> str:
        """Its folder in the artifact."""
        return f"{FOLDER}/{self.subject}/{self.benchmark}"

    @property
    def target(self) -> Target:
        """How it stands on the page."""
        return target_of(self.benchmark, self.record)

    @property
    def protocol(self) -> Row:
        """How the numbers came about."""
        found: Row = self.record["protocol"]
        return found

    @cached_property
    def items(self) -> list[dict[str, Any]]:
        """One verdict an item; rows of another shape are left out."""
        rows = read_lines(self.step, f"{self.folder}/items.jsonl")
        return [row for row in rows if {"uid", "group", "outcome", "strict", "score"} <= row.keys()]

    @cached_property
    def asked(self) -> dict[str, Row]:
        """Item -> the row of the answers that were given to it; empty where images were made.

        answers_coco_pope_random.jsonl, question 7  ->  random/7         answers_count.jsonl, line 3  ->  count/0001/1
        """
        found: dict[str, Row] = {}
        for entry in self.step.manifest.select(f"{self.folder}/made/answers_", ".jsonl"):
            part = entry.path.rpartition("/answers_")[2].removesuffix(".jsonl")
            for row in read_lines(self.step, entry.path):
                found |= dict.fromkeys(_names(part, str(row.get("uid"))), row)
        return found

    @cached_property
    def replies(self) -> dict[str, Row]:
        """Item -> rubric -> what the judge wrote; empty without a judge."""
        rows = read_lines(self.step, f"{self.folder}/replies.jsonl")
        return {str(row.get("uid")): row["replies"] for row in rows if isinstance(row.get("replies"), dict)}

    def estimate(self, metric: str) -> Row | None:
        """A number with its interval, or without one where it is a detail; None where it is refused or was not measured."""
        found = self.record["estimates"].get(metric)
        if found is None and is_number(detail := self.record.get("details", {}).get(metric)):
            return {"value": detail}
        return dict(found) if found else None

    def categories(self) -> dict[str, Row]:
        """Category -> its number, in the scorer's order."""
        named = ((self.target.category_of(metric), found) for metric, found in self.record["estimates"].items())
        return {name: found for name, found in named if name}

    def prompt_of(self, item: Row) -> str:
        """What was asked for an item; empty where the artifact does not say."""
        uid = str(item["uid"])
        metadata = f"{self.folder}/made/{uid.partition('/')[0]}/metadata.jsonl"
        read = self.step.read_json(metadata) if self.step.has(metadata) else None
        places = (item, self.asked.get(uid, {}), read if isinstance(read, dict) else {})
        return next((str(row[name]) for row in places for name in ("question", "prompt") if row.get(name)), "")

    def picture_of(self, item: Row) -> str:
        """The path of an item's image in the artifact, or below the benchmark's own folder; empty where there is none."""
        path = str(item.get("image", ""))
        return next((name for name in (path, f"{self.folder}/{path}") if path and self.step.has(name)), "")


def read_measured(evaluation: Step | None) -> tuple[list[Measured], list[str]]:
    """What was measured, benchmark by benchmark, and the files that cannot be read."""
    found: list[Measured] = []
    damaged: list[str] = []
    for entry in evaluation.manifest.select(f"{FOLDER}/", "/scores.json") if evaluation else ():
        parts = entry.path.split("/")
        if evaluation is None or len(parts) != 4:
            continue
        record = evaluation.read_json(entry.path)
        if is_record(record):
            found.append(Measured(step=evaluation, subject=parts[1], benchmark=parts[2], record=record))
        else:
            damaged.append(entry.path)
    return sorted(found, key=lambda item: (place_of(item.benchmark), place_of_subject(item.subject))), damaged


def subjects_of(measured: list[Measured]) -> list[str]:
    """The subjects, stages in the order of training."""
    return sorted({item.subject for item in measured}, key=place_of_subject)


def name_of(subject: str, evaluation: Step) -> str:
    """A stage by its name, the model from elsewhere by the last part of its own.

    model, {"model": {"model": "weights/janus-pro"}}  ->  janus-pro
    """
    config = evaluation.manifest.config.get("model")
    named = str(config.get("model", "")) if isinstance(config, dict) else ""
    given = named.rstrip("/").rpartition("/")[2]
    return given if subject == ELSEWHERE and given else subject.replace("_", " ")


def place_of_subject(subject: str) -> tuple[int, str]:
    """The reference first, then stages in their order, then others by name."""
    order = (REFERENCE, *STAGES)
    return (order.index(subject) if subject in order else len(order)), subject


def is_record(found: Any) -> bool:
    """Whether a parsed scores.json has what the page reads."""
    if not isinstance(found, dict) or not isinstance(found.get("headline"), str):
        return False
    estimates, protocol = found.get("estimates"), found.get("protocol")
    if not isinstance(estimates, dict) or not isinstance(protocol, dict):
        return False
    numbers = (row.get(name) if isinstance(row, dict) else None for row in estimates.values() for name in NUMBERS)
    counts = (protocol.get(name) for name in ("num_expected", "num_scored", "num_failed"))
    return all(map(is_number, numbers)) and all(isinstance(count, int) for count in counts)


def is_number(value: Any) -> bool:
    """A finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0


def _names(part: str, uid: str) -> Iterator[str]:
    """What the scorers call a question of one part: by its id, by set and id (POPE), by task and line (MME)."""
    yield uid
    yield f"{part.rpartition('_')[2]}/{uid}"
    if uid.isdecimal():
        yield f"{part}/{int(uid) // 2:04d}/{int(uid) % 2}"
