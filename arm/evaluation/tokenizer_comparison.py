"""Several tokenizers in one report: what the pipeline `tokenizer-ablation` ends in.

report.html       the table with mean ± spread and every seed's value, the paper's row beside each, curves, pictures
ablation.json     the same numbers: {rows: [{losses, seeds, metrics: {name: {mean, spread, values}}, paper}]}
ablation.md       the table as text
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from arm import manifest as manifests
from arm.evaluation.ablation import Row, gather, summarise, to_table
from arm.evaluation.page.ablation import render_ablation
from arm.storage import open_folder
from arm.tracking.recording import record_comparison


def compare_tokenizers(*, tokenizers: Sequence[str], evaluations: Sequence[str], folder: str, path: str) -> None:
    """Write the report, its numbers and its table into `folder`, the table to `path` too, and tell the tracker."""
    rows = gather([manifests.load(url) for url in tokenizers], [manifests.load(url) for url in evaluations])
    numbers, table = summarise(rows), to_table(rows)
    output = open_folder(folder)
    output.write("ablation.json", (json.dumps(numbers, indent=1, sort_keys=True) + "\n").encode())
    output.write("ablation.md", table.encode())
    output.write("report.html", render_ablation(rows).encode())
    with open(path, "w") as stream:
        stream.write(table)
    record_comparison(
        "compare-tokenizers", output.url, key=_key(rows), inputs=[run.tokenizer for row in rows for run in row.runs],
        metrics=_tracked(numbers), files=[output.fetch(name) for name in ("report.html", "ablation.json")],
    )  # fmt: skip


def _tracked(numbers: Mapping[str, Any]) -> dict[str, float]:
    """`caption+pixel/zero_shot` -> mean, with `/spread` behind it the spread."""
    tracked: dict[str, float] = {}
    for row in numbers["rows"]:
        for name, found in row["metrics"].items():
            label = f"{'+'.join(row['losses'])}/{name}"
            tracked |= {label: found["mean"], f"{label}/spread": found["spread"]}
    return tracked


def _key(rows: Sequence[Row]) -> str:
    digests = [item.digest for row in rows for run in row.runs for item in (run.tokenizer, *run.evaluations)]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()
