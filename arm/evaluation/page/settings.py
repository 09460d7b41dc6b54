"""Where the run departs from the paper, its loss weights, and what the model read against what it should have read."""

from collections.abc import Sequence
from typing import Any

from arm.evaluation.page.charts import share_bar
from arm.evaluation.page.markup import Markup, count, details, join, number, section, table, tag, words
from arm.evaluation.page.paper import Compared, compare
from arm.evaluation.page.store import Step

SHARES = {
    "text_only": ("text",),
    "image_to_text": ("caption", "question"),
    "text_to_image": ("text_to_image",),
    "interleaved_video": ("interleaved_video",),
    "interleaved_web": ("interleaved_web", "edit"),
}
"""The five sources of Table 1, and the tasks whose shares (`share/caption`) add up to each."""


def render_departures(steps: Sequence[Step]) -> Markup:
    """Methods that differ from the paper's; scales and agreements are folded away."""
    compared = [item for step in steps for item in compare(step)]
    if not compared:
        return Markup("")
    methods = [item for item in compared if item.stated.kind == "method" and item.departs]
    scales = [item for item in compared if item.stated.kind == "scale" and item.departs]
    same = [item for item in compared if not item.departs]
    shown = _compared_table(methods) if methods else tag("p", "Every method is the paper's.")
    note = "Each is a field of a job's config whose value for the full model is the paper's (arXiv 2606.11188)."
    return section(
        "Departures from the paper", note, shown,
        details(f"{len(scales)} numbers of another scale", _compared_table(scales)) if scales else None,
        details(f"{len(same)} values as in the paper", _compared_table(same)) if same else None,
    )  # fmt: skip


def render_weights(steps: Sequence[Step]) -> Markup:
    """Loss weights of every trained part."""
    rows = [
        (step.name, join(_weight(name, value) for name, value in sorted(found.items())))
        for step in steps
        if (found := _weights(step.manifest.config))
    ]
    return section("Loss weights", None, table(("Trained part", "Weights"), rows)) if rows else Markup("")


def render_mixture(steps: Sequence[Step]) -> Markup:
    """Share of tokens of each source: what was asked for, and what was read."""
    rows = [
        (step.name, *(_share_cell(step, mixture, name) for name in SHARES))
        for step in steps
        if step.manifest.job == "train-model" and isinstance(mixture := step.manifest.config.get("mixture"), dict)
    ]
    note = "Share of the tokens of each stage: the target of Table 1, and below it what the packed sequences held."
    if not rows:
        return Markup("")
    return section("Mixture", note, table(("Stage", *map(words, SHARES)), rows), _tasks(steps))


def _tasks(steps: Sequence[Step]) -> Markup | None:
    """What each task read: tokens and their share beside the one asked for, and how many of them were learned."""
    stages = [step for step in steps if any(name.startswith("tokens/") for name in step.manifest.counts)]
    tasks = [task for tasks in SHARES.values() for task in tasks]
    rows = [(words(task), *(_task_cell(step, task) for step in stages)) for task in tasks]
    head = ("Task", *(step.name for step in stages))
    told = tag("p", "Tokens that each task read, and how many of them were learned.", class_="note group")
    return tag("div", told, table(head, rows)) if stages else None


def _task_cell(step: Step, task: str) -> Markup:
    counts, metrics = step.manifest.counts, step.manifest.metrics
    share, wanted = metrics.get(f"share/{task}", 0.0), metrics.get(f"share_target/{task}")
    asked = "" if wanted is None else f" of {wanted:.4f} asked for"
    learned = f"{count(counts.get(f'targets/{task}', 0))} learned"
    return tag("div", tag("b", count(counts.get(f"tokens/{task}", 0))), tag("br"), tag("small", f"{share:.4f}{asked}; {learned}"))  # fmt: skip


def realised_share(step: Step, name: str) -> float | None:
    """The share of tokens of a source that the stage read; None when it was not recorded."""
    metrics = step.manifest.metrics
    found = [metrics[f"share/{task}"] for task in SHARES[name] if f"share/{task}" in metrics]
    return sum(found) if found else None


def _share_cell(step: Step, mixture: dict[str, Any], name: str) -> Markup:
    found = realised_share(step, name)
    read = tag("small", "not recorded" if found is None else f"read {found:.4f}")
    bar = share_bar(found) if found is not None else None
    return tag("div", tag("b", _schedule(mixture[name]) if name in mixture else "–"), tag("br"), read, bar)


def _schedule(points: Any) -> str:
    """((0, .7), (1, .5)) -> '0.70 → 0.50'."""
    if isinstance(points, list) and all(isinstance(point, list) and len(point) == 2 for point in points):
        return " → ".join(f"{float(share):.2f}" for _, share in points)
    return str(points)


def _weights(config: Any) -> dict[str, float]:
    """Every number of a config whose name ends in `_weight`, but the optimiser's, and the kinds' that are not 1."""
    if not isinstance(config, dict):
        return {}
    by_kind = config.get("kind_weights")
    kinds = {name: value for name, value in by_kind.items() if value != 1} if isinstance(by_kind, dict) else {}
    return kinds | {
        name.removesuffix("_weight"): value
        for name, value in config.items()
        if name.endswith("_weight") and isinstance(value, int | float)
    }


def _weight(name: str, value: float) -> Markup:
    return tag("span", f"{words(name)} ", tag("b", f"{value:g}"), class_="chip")


def _compared_table(compared: Sequence[Compared]) -> Markup:
    rows = [
        (item.step, item.stated.field, _value(item.value), _value(item.stated.value), item.stated.source)
        for item in compared
    ]
    return table(("Job", "Field", "Here", "Paper", "Source"), rows)


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) > 2 and len(set(map(str, value))) == 1:
        return f"{len(value)} times {value[0]}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:g}" if isinstance(value, float) and abs(value) < 0.01 else number(value)
