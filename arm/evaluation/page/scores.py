"""The scores by training stage with their intervals, the baselines beside them, and what may not be compared."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from arm.evaluation.page.charts import interval_bar
from arm.evaluation.page.markup import Markup, Node, details, number, section, table, tag, words
from arm.evaluation.page.store import Step

REFERENCE = "reference"
STAGES = ("pretrained", "continued", "finetuned", "t2i_policy", "edit_policy", "joint_policy")
BASELINES = {"editing": "copy_source", "editing_with_source": "copy_source", "understanding": "constant_answer"}
"""Benchmark -> the reference benchmark that is its floor."""
FLOOR_NAMES = {"copy_source": "copying the source", "constant_answer": "the best constant answer"}
TITLES = {
    "text_to_image": "Text to image",
    "editing": "Editing",
    "editing_with_source": "Editing, rendered beside the source (ours)",
    "understanding": "Understanding",
    "real_images": "Checker right on real images",
    "reconstruction": "Reconstruction",
    "zero_shot": "Zero-shot of the encoder",
    "tokenizer_zero_shot": "Zero-shot of the tokenizer's codes",
    "copy_source": "Copying the source",
    "constant_answer": "The best constant answer",
}

Protocols = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Subject -> benchmark -> protocol record, as protocols.json has it."""


def read_protocols(evaluation: Step | None) -> Protocols:
    """The protocol records of an evaluation; empty without one."""
    found = evaluation.read_json("protocols.json") if evaluation else None
    return found if isinstance(found, dict) else {}


def render_scores(evaluation: Step | None) -> Markup:
    """A table for each benchmark with a row a stage, then the tools and baselines, then the comparisons."""
    protocols = read_protocols(evaluation)
    if not protocols or evaluation is None:
        return Markup("")
    stages = [name for name in STAGES if name in protocols]
    names = sorted({name for stage in stages for name in protocols[stage]}, key=_place)
    tables = [_benchmark(name, stages, protocols) for name in names]
    note = (
        "Held-out items, the same prompts and sampling seeds at every stage. Strict: everything that was asked for and "
        "nothing else. Whiskers are 95% bootstrap intervals over items; the dotted mark is the baseline."
    )
    tools = _reference(protocols.get(REFERENCE, {}))
    return section(
        "Scores", note, tools, *tables, _rewarded(evaluation, names), _comparisons(evaluation), _protocols(protocols)
    )


def headline(protocols: Protocols, subject: str, benchmark: str) -> Mapping[str, Any] | None:
    """The estimate that stands for a benchmark; None while it is refused or was not measured."""
    record = protocols.get(subject, {}).get(benchmark)
    return record["estimates"].get(record["headline"]) if record else None


def _benchmark(name: str, stages: Sequence[str], protocols: Protocols) -> Markup:
    records = {stage: protocols[stage][name] for stage in stages if name in protocols[stage]}
    floor = protocols.get(REFERENCE, {}).get(BASELINES.get(name, ""), {})
    first = next(iter(records.values()))
    graded = (
        ["graded"]
        if any(
            _share(r["estimates"].get("graded")) != _share(r["estimates"].get(r["headline"])) for r in records.values()
        )
        else []
    )
    groups = [metric for metric in first["estimates"] if metric not in (first["headline"], "graded")] + graded
    rows = [_stage_row(stage, record, groups, floor) for stage, record in records.items()]
    if floor:
        rows.append(_floor_row(FLOOR_NAMES[BASELINES[name]], floor, groups))
    head: list[Node] = ["Stage", words(first["headline"]), "", "95%", *(words(group) for group in groups)]
    title = tag(
        "h3", TITLES.get(name, words(name)), tag("small", f" {first['num_expected']:,} items, {first['aggregation']}")
    )
    return tag("div", title, table(head, rows, class_="scores"))


def _stage_row(stage: str, record: Mapping[str, Any], groups: Sequence[str], floor: Mapping[str, Any]) -> list[Node]:
    estimates = record["estimates"]
    main = estimates.get(record["headline"])
    cells: list[Node] = [words(stage)]
    if main is None:
        cells += [tag("td", f"refused: {record['refused']}", colspan=3, class_="refused")]
    else:
        base = floor["estimates"].get(floor["headline"]) if floor else None
        bar = interval_bar(main["value"], main["low"], main["high"], floor=base["value"] if base else None)
        cells += [tag("b", _share(main)), bar, f"{main['low']:.3f}–{main['high']:.3f}"]
    return cells + [_share(estimates.get(group)) for group in groups]


def _floor_row(name: str, floor: Mapping[str, Any], groups: Sequence[str]) -> list[Node]:
    estimates = floor["estimates"]
    main = estimates.get(floor["headline"])
    interval = f"{main['low']:.3f}–{main['high']:.3f}" if main else None
    return [
        tag("i", name),
        _share(main),
        None,
        interval,
        *(_share(estimates.get(group)) for group in groups),
    ]


def _reference(records: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    """What the tools reach: the ceiling of the scores below."""
    rows: list[list[Node]] = []
    for name, record in records.items():
        main = record["estimates"].get(record["headline"])
        if name not in FLOOR_NAMES and main is not None:
            extra = record["estimates"].get("psnr")
            rows.append([
                TITLES.get(name, words(name)), tag("b", _share(main)), interval_bar(main["value"], main["low"], main["high"]),
                f"{main['low']:.3f}–{main['high']:.3f}", f"{record['num_scored']:,}",
                f"PSNR {number(extra['value'])} dB per image" if extra else None,
            ])  # fmt: skip
    if not rows:
        return None
    return tag("div", tag("h3", "The tools"), table(("", "strict", "", "95%", "items", ""), rows, class_="scores"))


def _rewarded(evaluation: Step, names: Sequence[str]) -> Markup | None:
    """The benchmarks above whose rule rewarded a stage's model, by stage."""
    found = evaluation.read_json("rewarded.json") or {}
    told = [
        f"{TITLES.get(name, words(name))} of the {words(stage)} (by {', '.join(found[stage][name])})"
        for name in names
        for stage in STAGES
        if name in found.get(stage, {})
    ]
    if not told:
        return None
    sentence = "These scores come from the rule that rewarded the model, and are no independent tests of it: "
    return tag("p", f"{sentence}{'; '.join(told)}.", class_="note")


def _comparisons(evaluation: Step) -> Markup | None:
    """Each stage against the one before it, paired by item."""
    found = evaluation.read_json("comparisons.json")
    if not isinstance(found, list) or not found:
        return None
    order = {name: index for index, name in enumerate(STAGES)}
    stages = sorted(
        {item["after"] for item in found} | {item["before"] for item in found}, key=lambda name: order.get(name, 99)
    )
    near = set(pairwise(stages))
    found = sorted(found, key=lambda item: _place(item["benchmark"]))
    neighbours = [item for item in found if (item["before"], item["after"]) in near]
    far = [item for item in found if (item["before"], item["after"]) not in near]
    head = ("Benchmark", "From", "To", "Difference", "95%", "")
    return tag(
        "div", tag("h3", "From stage to stage", tag("small", " paired bootstrap over the same items")),
        table(head, (_comparison(item) for item in neighbours), class_="scores"),
        details(f"{len(far)} further pairs of stages", table(head, (_comparison(item) for item in far))) if far else None,
    )  # fmt: skip


def _comparison(item: Mapping[str, Any]) -> list[Node]:
    verdict = "higher" if item["low"] > 0 else "not lower" if item["not_lower"] else "lower"
    if item["low"] == item["high"] == 0:
        verdict = "equal"
    return [
        TITLES.get(item["benchmark"], words(item["benchmark"])), words(item["before"]), words(item["after"]),
        f"{item['difference']:+.3f}", f"{item['low']:+.3f} to {item['high']:+.3f}",
        tag("span", verdict, class_=f"verdict {'bad' if verdict == 'lower' else 'good'}"),
    ]  # fmt: skip


def _protocols(protocols: Protocols) -> Markup:
    """How it was measured, once for each benchmark."""
    records = {name: record for subject in protocols.values() for name, record in subject.items()}
    rows = [
        (
            TITLES.get(name, words(name)), record["aggregation"], record["interval"], record["checker"] or "none",
            ", ".join(f"{words(key)} {value}" for key, value in record["sampling"].items()), record["dataset"][:12],
        )
        for name, record in records.items()
    ]  # fmt: skip
    head = ("Benchmark", "Aggregation", "Interval", "Checker", "Sampling", "Evaluation set")
    return details("How this was measured", table(head, rows))


def _place(benchmark: str) -> tuple[int, str]:
    """Where a benchmark stands on the page: in the order of TITLES, unknown ones after them by name."""
    return (list(TITLES).index(benchmark) if benchmark in TITLES else len(TITLES)), benchmark


def _share(found: Mapping[str, Any] | None) -> str | None:
    return f"{found['value']:.3f}" if found else None
