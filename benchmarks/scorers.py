"""Scoring whole benchmarks: 17,997 rows of SEED-Bench, 6,000 of POPE, 1,106 records of GenEval, read, scored, resampled.

The peer is the official arithmetic alone, as its programs have it: no items, no reasons, no intervals, no protocol. Ours
does all of these and must stay under 5 s of CPU each. Needs the official vectors: `../shared` beside the checkout.
`python benchmarks/scorers.py`
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from _pairs import compare

from arm.evaluation.benchmarks import registry
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.geneval_rule import check, keep_boxes
from arm.evaluation.benchmarks.reading import open_files

VECTORS = Path(__file__).resolve().parents[2] / "shared/evaldata"
PLACES = {
    "seed": ("seed/SEED-Bench-1_GPT-4V.json.txt", "seed/SEED-Bench-1_GPT-4V.json.txt"),
    "pope": ("pope", "pope"),
    "geneval": ("geneval/made_detections_official_verdicts.jsonl", "geneval/evaluation_metadata.jsonl"),
}
ROUNDS = 3


def ours(name: str) -> Callable[[], int]:
    """Score a benchmark as `arm score` does."""
    results, data = (str(VECTORS / place) for place in PLACES[name])

    def work() -> int:
        return len(registry.score(name, open_files(results), open_files(data), ScoreConfig()).items)

    return work


def seed() -> int:
    """Equality, row by row."""
    rows = [json.loads(line.rstrip(",\n")) for line in (VECTORS / PLACES["seed"][0]).open()]
    return len(rows) if sum(row["prediction"] == row["gt_answer"] for row in rows) else 0


def pope() -> int:
    """evaluate.py: the words of the first sentence."""
    scored = 0
    for name in ("random", "popular"):
        answers = [json.loads(line) for line in (VECTORS / f"pope/made_answers_{name}.jsonl").open()]
        labels = [json.loads(line)["label"] for line in (VECTORS / f"pope/coco_pope_{name}.json").open()]
        for answer, label in zip(answers, labels, strict=True):
            words = answer["answer"].split(".")[0].replace(",", "").split(" ")
            scored += (("No" in words or "not" in words or "no" in words) == (label == "no")) >= 0
    return scored


def geneval() -> int:
    """evaluate_images.py::evaluate on recorded boxes."""
    rows = [json.loads(line) for line in (VECTORS / PLACES["geneval"][0]).open()]
    for row in rows:
        colors = row["colors"]
        kept = keep_boxes(row["detections"], row["metadata"]["tag"])
        check(kept, row["metadata"], lambda _, box, colors=colors: colors[str(box)])
    return len(rows)


def main() -> None:
    """Print seconds of CPU, then rates beside the bare arithmetic."""
    for name, peer in (("seed", seed), ("pope", pope), ("geneval", geneval)):
        work = ours(name)
        work()
        started = time.process_time()
        rows = work()
        print(f"{name}: {rows:,} rows in {time.process_time() - started:.2f} s of CPU (limit 5)")
        compare(name, work, {"the arithmetic alone": peer}, rounds=ROUNDS, clock=time.process_time)


if __name__ == "__main__":
    main()
