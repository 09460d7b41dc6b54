"""Several evaluations in one table: what the pipeline `experiment` ends in.

| mixture | text_to_image/mean | questions/accuracy |
|---|---|---|
| paper   | 0.412 | 0.655 |
| even    | 0.377 | 0.701 |
"""

import json
from collections.abc import Sequence

from arm import manifest as manifests
from arm.errors import UserError
from arm.storage import open_folder


def compare_evaluations(evaluations: Sequence[str], names: Sequence[str], folder: str, path: str) -> None:
    """Write the scores of several evaluations as one Markdown table, to `folder/comparison.md` and to `path`."""
    if len(evaluations) != len(names):
        raise UserError(f"{len(evaluations)} evaluations cannot be named by {len(names)} names: {', '.join(names)}.")
    table = to_table({name: _scores(url) for name, url in zip(names, evaluations, strict=True)})
    open_folder(folder).write("comparison.md", table.encode())
    with open(path, "w") as stream:
        stream.write(table)


def to_table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown: one row a name, one column a metric; a metric that an evaluation lacks is a dash."""
    metrics = sorted({metric for scores in rows.values() for metric in scores})
    lines = [f"| mixture | {' | '.join(metrics)} |", f"|{'---|' * (len(metrics) + 1)}"]
    for name, scores in rows.items():
        cells = [f"{scores[metric]:.3f}" if metric in scores else "–" for metric in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _scores(url: str) -> dict[str, float]:
    """Every number of `scores.json`, named `stage/metric`; the stage is left out where there is only one."""
    evaluation = manifests.load(url)
    stages = json.loads(evaluation.local("scores.json").read_text())
    flat = {
        f"{stage}/{metric}": float(value)
        for stage, scores in stages.items()
        for metric, value in scores.items()
        if isinstance(value, int | float)
    }
    return flat if len(stages) > 1 else {name.partition("/")[2]: value for name, value in flat.items()}
