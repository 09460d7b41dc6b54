"""What an image costs and what training has seen of the evaluation sets: files of other verbs that lie beside or inside.

cost.json             arm measure-cost --output DIR/cost.json
contamination.json    arm check-contamination --output DIR/contamination
"""

import json
from collections.abc import Mapping
from typing import Any

from arm.evaluation.page.markup import Markup, Node, count, details, duration, number, section, size, table, tag, words
from arm.evaluation.page.official.reading import is_number
from arm.evaluation.page.store import Step
from arm.storage import Folder

COST = ("cost.json",)
CONTAMINATION = ("contamination.json", "contamination/contamination.json")
MAX_SHOWN = 20
"""Items listed of a set; the report of `arm check-contamination` has them all."""
WAYS = {"equal": "same words", "scene": "same scene", "ngrams": "n-grams", "image": "looks alike"}


def read_beside(names: tuple[str, ...], evaluation: Step | None, place: Folder) -> dict[str, Any] | None:
    """The first of the files that the evaluation lists, or that lies in the folder of which a page is made."""
    for name in names:
        found = evaluation.read_json(name) if evaluation and evaluation.has(name) else _json(place, name)
        if isinstance(found, dict):
            return found
    return None


def render_beside(beside: Mapping[str, Any]) -> list[Markup]:
    """The sections of cost and contamination; a file of another shape says so in its place."""
    parts = []
    for name, render in (("cost", _cost), ("contamination", _contamination)):
        try:
            parts.append(render(beside[name]))
        except (AttributeError, TypeError, ValueError, KeyError) as error:  # files made by anybody
            said = f"{name}.json has another shape ({type(error).__name__}: {error})."
            parts.append(section(name.capitalize(), None, tag("p", said, class_="refused")))
    return parts


def _cost(cost: Mapping[str, Any] | None) -> Markup:
    """Decoding and detokenization apart, by batch size."""
    runs = [run for run in (cost or {}).get("runs", ()) if isinstance(run, dict)]
    if cost is None or not runs:
        return Markup("")
    rows = [row for run in runs for row in _run(run, str(cost.get("memory", "")))]
    machine = "{name} ({device}), {threads} threads, torch {torch}".format_map(cost["machine"])
    model = str(cost.get("model", {}).get("name", ""))
    note = f"{model} on {machine}. A call draws one batch; p50 and p95 are how long it takes. The paper gives no cost."
    head = ("Batch", "Phase", "Time an image", "Call p50", "Call p95", "Images/s", "Tokens an image", "Tokens/s", "Peak memory")  # fmt: skip
    return section("Cost", note, table(head, rows, class_="scores"))


def _contamination(report: Mapping[str, Any] | None) -> Markup:
    """Shares by evaluation set, and the items that training has seen."""
    sets = {name: item for name, item in (report or {}).get("sets", {}).items() if isinstance(item, dict)}
    if report is None or not sets:
        return Markup("")
    rows = [_set(name, item) for name, item in sets.items()]
    read = [item for item in report.get("training", ()) if isinstance(item, dict)]
    samples = sum(item.get("samples", 0) for item in read)
    note = f"Items whose words, scene or image training has seen, among {count(samples)} training samples."
    listed = [details(f"{name}: which ones", _matches(item)) for name, item in sets.items() if item.get("contaminated")]
    return section(
        "Contamination", note, table(("Set", "Items", *WAYS.values(), "Seen", "Share"), rows, class_="scores"), *listed
    )


def _run(run: Mapping[str, Any], memory: str) -> list[list[Node]]:
    rows: list[list[Node]] = []
    for name, phase in run.get("phases", {}).items():
        whole = name == "all"
        peak = run.get("peak_memory_bytes")
        rows.append([
            str(run.get("batch_size", "")) if name == next(iter(run["phases"])) else "",
            tag("b", "together") if whole else words(name), *(_seconds(phase.get(key)) for key in ("seconds_per_image", "call_p50", "call_p95")),
            _number(run.get("images_per_second")) if whole else None, _number(run.get("tokens_per_image")) if whole else None,
            _number(phase.get("tokens_per_second")), f"{size(peak)} ({memory})" if whole and is_number(peak) and peak else None,
        ])  # fmt: skip
    return rows


def _set(name: str, item: Mapping[str, Any]) -> list[Node]:
    share, seen = item.get("share", 0), item.get("contaminated", 0)
    ways = [count(len(item.get("matches", {}).get(way, ()))) for way in WAYS]
    return [
        name, count(item.get("items", 0)), *ways, count(seen),
        tag("span", f"{100 * share:.2f}%", class_=f"verdict {'bad' if seen else 'good'}"),
    ]  # fmt: skip


def _matches(item: Mapping[str, Any]) -> Markup:
    pairs = [
        (uid, said, ", ".join(map(str, samples)))
        for way, said in WAYS.items()
        for uid, samples in item.get("matches", {}).get(way, {}).items()
    ]
    more = tag("p", f"and {len(pairs) - MAX_SHOWN} more", class_="note") if len(pairs) > MAX_SHOWN else None
    return tag("div", table(("Item", "Found by", "Training samples"), pairs[:MAX_SHOWN]), more)


def _seconds(value: Any) -> str | None:
    if not is_number(value):
        return None
    return f"{1000 * value:.0f} ms" if value < 1 else duration(value)


def _number(value: Any) -> str | None:
    return number(value) if is_number(value) else None


def _json(folder: Folder, name: str) -> Any:
    try:
        return json.loads(folder.read(name))
    except (OSError, ValueError):
        return None
