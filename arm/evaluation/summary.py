"""What `arm evaluate-model` prints of an evaluation: each headline, or that it is refused, with what has no score and why.

model/pope                       mean_f1 0.8123 (0.8010 to 0.8236)     9,000 ok, 0 failed, 0 missing
model/geneval                    overall refused                       2,204 ok, 2 failed, 6 missing
                                 6 × CUDA out of memory
                                 2 × no detections
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from arm.evaluation.official.config import FOLDER
from arm.manifest import Manifest

MAX_REASONS = 4
Record = Mapping[str, Any]


def lines(evaluation: Manifest) -> Iterator[str]:
    """A line a subject and benchmark, and one for each of the most frequent reasons."""
    for name, record in _records(evaluation):
        headline = record["headline"]
        found = record["estimates"].get(headline)
        said = "refused" if record["refused"] else "not measured"
        if found and not record["refused"]:
            said = f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})"
        counts = f"{record['num_scored']:,} ok, {record['num_failed']:,} failed, {record['num_missing']:,} missing"
        yield f"{name:32} {f'{headline} {said}':37} {counts}"
        reasons = list(record["unscored"].items())
        for reason, number in reasons[:MAX_REASONS]:
            yield f"{'':32} {number:,} × {reason}"
        if rest := sum(number for _, number in reasons[MAX_REASONS:]):
            yield f"{'':32} {rest:,} × other reasons"


def _records(evaluation: Manifest) -> Iterator[tuple[str, Record]]:
    """`<subject>/<benchmark>` -> its headline and counts: of the pipeline's own benchmarks, then of other authors'."""
    folder = evaluation.folder
    for subject, found in json.loads(folder.read("protocols.json")).items():
        yield from ((f"{subject}/{name}", record) for name, record in found.items())
    for entry in evaluation.select(f"{FOLDER}/", "/scores.json"):
        row = json.loads(folder.read(entry.path))
        yield entry.path.removeprefix(f"{FOLDER}/").removesuffix("/scores.json"), {**row["protocol"], **row}
