"""The page's numbers for machines: `report/report.json`, the same bytes for the same artifacts.

    {"format": 1, "evaluation": {"name", "digest"},
     "subjects": {subject: {"name", "benchmarks": {benchmark: {"title", "group", "headline", "refused", "estimates",
                  "details", "categories", "departures", "protocol", "printed": {metric: {"title", "factor"}}}}}},
     "stages": protocols.json of our own benchmarks,
     "published": [{"model", "benchmark", "metric", "value", "printed", "source", "protocol", "judge", "doubt"}],
     "baseline": {"name", "digest"} | null, "comparisons": [{"subject", "benchmark", …, "differences": […]}] | null,
     "cost": cost.json | null, "contamination": contamination.json | null, "unreadable": [paths]}

A number is as the scorer gave it; times `factor` it is what the page prints, and what published numbers are printed as.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from arm.evaluation.page.official.comparisons import Compared
from arm.evaluation.page.official.published import PUBLISHED
from arm.evaluation.page.official.reading import Measured, name_of, subjects_of
from arm.evaluation.page.official.tables import columns_of
from arm.evaluation.page.official.targets import GROUPS, TARGETS, departures
from arm.evaluation.page.scores import read_protocols
from arm.evaluation.page.store import Step

FORMAT = 1


def write_numbers(
    evaluation: Step | None, measured: Sequence[Measured], unreadable: Sequence[str], baseline: Step | None,
    compared: Sequence[Compared] | None, beside: Mapping[str, Any],
) -> bytes:  # fmt: skip
    """The whole file."""
    found = {
        "format": FORMAT,
        "evaluation": _identity(evaluation),
        "subjects": {subject: _subject(subject, measured) for subject in subjects_of(list(measured))},
        "stages": read_protocols(evaluation),
        "published": _published(measured),
        "baseline": _identity(baseline),
        "comparisons": None if compared is None else [dataclasses.asdict(item) for item in compared],
        "unreadable": list(unreadable),
        **beside,
    }
    return (json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _identity(step: Step | None) -> dict[str, str] | None:
    return None if step is None else {"name": step.name, "digest": step.manifest.digest}


def _subject(subject: str, measured: Sequence[Measured]) -> dict[str, Any]:
    own = [item for item in measured if item.subject == subject]
    return {"name": name_of(subject, own[0].step), "benchmarks": {item.benchmark: _benchmark(item) for item in own}}


def _benchmark(item: Measured) -> dict[str, Any]:
    target, record = item.target, item.record
    return {
        "title": target.title, "group": target.group, "headline": record["headline"], "refused": record.get("refused"),
        "estimates": record["estimates"], "details": record.get("details", {}), "categories": item.categories(),
        "departures": departures(item.benchmark, item.protocol), "protocol": item.protocol,
        "printed": {measure.metric: {"title": measure.title, "factor": measure.factor} for measure in target.measures},
    }  # fmt: skip


def _published(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The published numbers that stand on the page: those of a group's columns."""
    columns = [
        column for group in GROUPS for column in columns_of([item for item in measured if item.target.group == group])
    ]
    doubts = {f"{name}/{measure.metric}": measure.published for name, _, measure in columns}
    return [
        {
            "model": row.model, "benchmark": key.partition("/")[0], "metric": key.partition("/")[2], "value": float(said),
            "printed": said, "source": row.source, "protocol": TARGETS[key.partition("/")[0]].protocol,
            "judge": TARGETS[key.partition("/")[0]].judge, "doubt": doubts[key],
        }
        for row in PUBLISHED
        for key, said in row.values.items()
        if key in doubts
    ]  # fmt: skip
