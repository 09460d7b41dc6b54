"""The verdict of the release, the speeds, and where everything lies."""

from collections.abc import Mapping, Sequence
from typing import Any

from arm.evaluation.page.charts import share_bar
from arm.evaluation.page.markup import Markup, Node, count, duration, section, size, table, tag, words
from arm.evaluation.page.store import Step

UNITS = {
    "make-world": "samples", "extract-pairs": "records_read", "filter-pairs": "pairs_read", "download-images": "urls_read",
    "curate-images": "samples_read", "import-samples": "samples_read", "tokenize-images": "samples",
    "train-tokenizer": "steps", "train-detokenizer": "steps", "train-model": "tokens", "train-policy": "rollouts",
}  # fmt: skip
"""Job -> the count that its speed is given in, when the manifest has it."""


def read_release(steps: Sequence[Step]) -> tuple[Step, dict[str, Any]] | None:
    """The release and its release.json, when the store has one."""
    for step in reversed(steps):
        if step.manifest.kind == "release":
            found = step.read_json("release.json")
            if isinstance(found, dict):
                return step, found
    return None


def render_verdict(steps: Sequence[Step]) -> Markup:
    """Which gates hold, and whether the alias moves."""
    found = read_release(steps)
    if found is None:
        return Markup("")
    release = found[1]
    rows = [
        (gate["gate"], tag("span", *_gate(bool(gate["holds"]))), gate["sentence"]) for gate in release.get("gates", [])
    ]  # fmt: skip
    moves = bool(release.get("alias_moves"))
    name, alias = release.get("name", "the model"), release.get("alias", "")
    sentence = (
        f"Every gate holds: {name} is released and the alias “{alias}” moves to it."
        if moves
        else f"{name} is registered without the alias “{alias}”: a gate does not hold."
    )
    licences = ", ".join(release.get("licences", [])) or "none recorded"
    return section(
        "Release", tag("span", sentence, class_=f"verdict {'good' if moves else 'bad'}"),
        table(("Gate", "", "Why"), rows) if rows else None,
        tag("p", f"Licences of its parts: {licences}.", class_="note"),
        _rewarded(release.get("rewarded", {})),
        tag("p", "Try it: ", tag("code", 'arm generate "a red circle and a blue square"'), class_="note"),
    )  # fmt: skip


def render_speeds(steps: Sequence[Step]) -> Markup:
    """Seconds of every job, and the rate in its own unit; from run.json, which no digest covers."""
    timed = [(step, step.seconds) for step in steps if step.seconds is not None]
    if not timed:
        return Markup("")
    total = sum(seconds for _, seconds in timed)
    rows = [
        (step.name, duration(seconds), share_bar(seconds / total), _rate(step, seconds), _place(step))
        for step, seconds in timed
    ]
    note = f"{duration(total)} of work in all, when each job last ran; a job that was returned untouched keeps its first time."
    return section("Speeds", note, table(("Job", "Time", "Share", "Rate", "Ran with"), rows))


def render_places(steps: Sequence[Step], store: str) -> Markup:
    """Where everything lies."""
    rows: list[tuple[Node, ...]] = [
        (
            step.name, step.manifest.kind, tag("code", step.manifest.folder.url), tag("code", step.manifest.digest[:12]),
            count(len(step.manifest.files)), size(step.bytes),
        )
        for step in steps
    ]  # fmt: skip
    note = tag(
        "span", "The store is ", tag("code", store),
        ". Each folder holds manifest.json (identity, counts, checksums) and run.json (times, host, versions). Runs and "
        "metrics: ", tag("code", "make ui"), " opens MLflow; where an artifact came from: ",
        tag("code", "arm lineage upstream ARTIFACT"), ".",
    )  # fmt: skip
    return (
        section("Where everything lies", note, table(("Artifact", "Kind", "Folder", "Digest", "Files", "Size"), rows))
        if rows
        else Markup("")
    )


def _rewarded(found: Mapping[str, Sequence[str]]) -> Markup | None:
    """The benchmarks that the model was rewarded by."""
    if not found:
        return None
    told = "; ".join(f"{name} (by {', '.join(by)})" for name, by in sorted(found.items()))
    return tag("p", f"Rewarded the model, and are no independent tests of it any more: {told}.", class_="note")


def _gate(holds: bool) -> tuple[Markup]:
    return (tag("span", "holds" if holds else "fails", class_=f"verdict {'good' if holds else 'bad'}"),)


def _rate(step: Step, seconds: float) -> str | None:
    unit = UNITS.get(step.manifest.job, "")
    done = step.manifest.counts.get(unit)
    if not done or seconds <= 0:
        return None
    rate = done / seconds
    return f"{rate:,.0f} {words(unit)}/s" if rate >= 10 else f"{rate:.2g} {words(unit)}/s"


def _place(step: Step) -> str:
    ranks, threads = str(step.run.get("ranks", "")), str(step.run.get("threads", ""))
    parts = [
        f"{ranks} rank{'' if ranks == '1' else 's'}" if ranks else "",
        f"{threads} threads a rank" if threads else "",
    ]
    return ", ".join(part for part in parts if part)
