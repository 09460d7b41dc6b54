"""Table 7 over seeds: what each loss of the visual tokenizer brings.

    cap pix sig feat   zero-shot, 24 classes
     x   x              0.060 ± 0.017
     x   x   x   x      0.987 ± 0.006

A row is a set of losses; which one a tokenizer belongs to, and its seed, its own manifest says. An evaluation belongs to
the tokenizer whose digest it names. Standard library only.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arm.errors import UserError
from arm.manifest import Manifest

LOSSES = {"caption": "cap", "pixel": "pix", "sigmoid": "sig", "feature": "feat"}
"""Loss -> its column in Table 7."""
Losses = tuple[str, ...]
PAPER: dict[Losses, dict[str, float]] = {
    ("caption", "pixel"): {"zero_shot": 0.002, "pixel_psnr": 15.2, "usage": 0.694, "perplexity": 0.21},
    ("caption", "pixel", "sigmoid"): {"zero_shot": 0.794, "pixel_psnr": 9.3, "usage": 0.705, "perplexity": 0.24},
    ("caption", "pixel", "feature"): {"zero_shot": 0.581, "pixel_psnr": 17.1, "usage": 0.710, "perplexity": 0.24},
    tuple(LOSSES): {"zero_shot": 0.802, "pixel_psnr": 19.6, "usage": 0.756, "perplexity": 0.28},
}
"""Table 7 (arXiv 2606.11188): ImageNet top-1, PSNR in dB, code usage and perplexity / codebook."""


@dataclass(frozen=True, slots=True)
class Column:
    """A number of the table."""

    name: str
    title: str
    metric: str
    """Its name in the manifests."""
    digits: int = 3


COLUMNS = (
    Column("zero_shot", "zero-shot, 24 kinds", "zero_shot/kinds/top1"),
    Column("two_objects", "two objects, 300 scenes", "zero_shot/two_objects/top1"),
    Column("pixel_psnr", "PSNR, pixel DiT (dB)", "pixel_dit/psnr", 2),
    Column("psnr", "PSNR, detokenizer (dB)", "reference/reconstruction/psnr", 2),
    Column("strict", "strict, detokenizer", "reference/reconstruction/strict"),
    Column("usage", "code usage", "code_usage"),
    Column("perplexity", "perplexity / codebook", "perplexity_per_codebook"),
)
CEILINGS = {
    "zero_shot/kinds/encoder_top1": "zero-shot of the frozen encoder, 24 kinds",
    "zero_shot/two_objects/encoder_top1": "zero-shot of the frozen encoder, two objects",
    "autoencoder/psnr_per_image": "PSNR of the frozen autoencoder alone (dB)",
    "reference/real_images/strict": "checker right on real images",
}
"""Metric -> what it bounds; the same for every row."""


@dataclass(frozen=True, slots=True)
class Run:
    """One tokenizer with what was measured on it."""

    seed: int
    tokenizer: Manifest
    evaluations: tuple[Manifest, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of its manifests."""
        merged = dict(self.tokenizer.metrics)
        for evaluation in self.evaluations:
            merged.update(evaluation.metrics)
        return merged


@dataclass(frozen=True, slots=True)
class Row:
    """The tokenizers of one set of losses, in order of their seeds."""

    losses: Losses
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """caption + pixel"""
        return " + ".join(self.losses)

    def values(self, metric: str) -> list[float]:
        """The metric of each run that has it."""
        return [found for run in self.runs if (found := look_up(run.metrics, metric)) is not None]


def gather(tokenizers: Sequence[Manifest], evaluations: Sequence[Manifest]) -> list[Row]:
    """The runs by row, in the order of Table 7; a tokenizer that comes twice counts once."""
    found: dict[Losses, dict[int, Run]] = {}
    for tokenizer in tokenizers:
        own = tuple(item for item in evaluations if item.inputs.get("tokenizer") == tokenizer.digest)
        run = Run(int(tokenizer.config["seed"]), tokenizer, own)
        found.setdefault(losses_of(tokenizer.config), {})[run.seed] = run
    if not found:
        raise UserError("There is no tokenizer to compare; give at least one.")
    order = {losses: place for place, losses in enumerate(PAPER)}
    ordered = sorted(found, key=lambda losses: (order.get(losses, len(order)), losses))
    return [Row(losses, tuple(run for _, run in sorted(found[losses].items()))) for losses in ordered]


def losses_of(config: Mapping[str, Any]) -> Losses:
    """{"caption_weight": 1.0, "pixel_weight": 5.0, "sigmoid_weight": 0.0, "feature_weight": 0.0} -> caption, pixel"""
    return tuple(loss for loss in LOSSES if config.get(f"{loss}_weight", 0) > 0)


def look_up(metrics: Mapping[str, float], name: str) -> float | None:
    """A metric by its name, or by its name at the only resolution: `psnr`, else `psnr/36x36`."""
    if name in metrics:
        return metrics[name]
    sized = [
        value for key, value in metrics.items() if key.startswith(f"{name}/") and key[len(name) + 1 :][:1].isdigit()
    ]
    return sized[0] if len(sized) == 1 else None


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the sample (n - 1); the spread of one value is 0.

    1, 2, 6  ->  3, 2.6458        deviations -2, -1, 3: squares 4 + 1 + 9 = 14, 14 / 2 = 7, root 2.6458
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The numbers of the report."""
    return {"columns": {column.name: column.metric for column in COLUMNS}, "rows": [_summary(row) for row in rows]}


def to_table(rows: Iterable[Row]) -> str:
    """Markdown: x marks a loss; mean ± spread over the seeds; a number that nobody measured is a dash."""
    titles = [*LOSSES.values(), *(column.title for column in COLUMNS), "seeds"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for row in rows:
        marks = ["x" if loss in row.losses else "" for loss in LOSSES]
        cells = [written(row.values(column.metric), column.digits) for column in COLUMNS]
        lines.append(f"| {' | '.join([*marks, *cells, str(len(row.runs))])} |")
    return "\n".join(lines) + "\n"


def written(values: Sequence[float], digits: int) -> str:
    """[0.95, 0.97] -> '0.960 ± 0.014'"""
    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f} ± {spread:.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


def _summary(row: Row) -> dict[str, Any]:
    metrics = {}
    for column in COLUMNS:
        if values := row.values(column.metric):
            mean, spread = mean_and_spread(values)
            metrics[column.name] = {"mean": round(mean, 6), "spread": round(spread, 6), "values": values}
    return {
        "losses": list(row.losses), "seeds": [run.seed for run in row.runs], "metrics": metrics,
        "paper": PAPER.get(row.losses, {}), "tokenizers": [run.tokenizer.digest for run in row.runs],
    }  # fmt: skip
