"""The impact report: lines for a terminal, and one page with no script and no network."""

from collections.abc import Iterator

from arm.evaluation.page.markup import Markup, Node, count, section, table, tag
from arm.evaluation.page.style import POLICY, STYLE
from arm.takedown.consumption import Stage, to_line
from arm.takedown.impact import ArtifactShare, Impact

MAX_LISTED = 1_000
"""Entries, uids and files that the page spells out; the JSON beside it holds all."""


def text_lines(impact: Impact) -> Iterator[str]:
    """The answer in lines: artifacts, stages, what derives from them."""
    for artifact in impact.artifacts:
        tokens = f", {count(artifact.tokens)} tokens ({share(artifact.tokens, artifact.of_tokens)})"
        yield (
            f"{artifact.kind:16} {count(artifact.samples)} of {count(artifact.of_samples)} "
            f"({share(artifact.samples, artifact.of_samples)}){tokens if artifact.of_tokens else ''}  {artifact.url}"
        )
    yield from (f"consumed by       {to_line(stage)}" for stage in impact.stages)
    yield from (f"derived           {item.kind} of {item.job}  {item.url}" for item in impact.derived)


def render_page(impact: Impact, store: str) -> str:
    """The whole page as HTML."""
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY), tag("title", f"ARM · takedown {impact.number}"),
        Markup(f"<style>{STYLE}</style>"),
    )  # fmt: skip
    parts = [_asked(impact), _artifacts(impact), _files(impact), _stages(impact), _derived(impact)]
    line = f"{sum(map(len, impact.entries.values()))} entries name {count(len(impact.uids))} samples in {store}"
    header = tag("header", tag("h1", f"Takedown {impact.number}"), tag("p", line))
    body = tag("body", tag("main", header, *(part for part in parts if part)))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def share(part: int, whole: int) -> str:
    """3 of 4,000  ->  0.075%."""
    return f"{100 * part / whole:.3g}%" if whole else "–"


def _asked(impact: Impact) -> Markup:
    rows = [(kind, value) for kind, values in impact.entries.items() for value in values][:MAX_LISTED]
    return section(
        "Asked for",
        "What every reader refuses from now on; what runs already goes on with what it knew when it started.",
        table(("kind", "value"), rows),
        tag("p", f"Samples: {', '.join(impact.uids[:MAX_LISTED])}") if impact.uids else None,
    )


def _artifacts(impact: Impact) -> Markup:
    head = ("artifact", "kind", "samples", "share", "tokens", "share of tokens", "told of", "folder")
    return section(
        "Artifacts",
        "Every version in the store that holds one of the samples. Their files stay as they are until they are compacted; "
        "`told of` counts rows of tables that speak of samples dropped or failed before.",
        table(head, [_artifact_row(artifact) for artifact in impact.artifacts]) if impact.artifacts else None,
    )


def _artifact_row(artifact: ArtifactShare) -> tuple[Node, ...]:
    has_tokens = artifact.of_tokens > 0
    return (
        artifact.digest[:12], artifact.kind,
        f"{count(artifact.samples)} of {count(artifact.of_samples)}", share(artifact.samples, artifact.of_samples),
        f"{count(artifact.tokens)} of {count(artifact.of_tokens)}" if has_tokens else "–",
        share(artifact.tokens, artifact.of_tokens), count(artifact.told_of), tag("code", artifact.url),
    )  # fmt: skip


def _files(impact: Impact) -> Markup:
    rows = [
        (
            tag("code", file.file), artifact.digest[:12],
            f"{count(file.samples)} of {count(file.of_samples)}", share(file.samples, file.of_samples),
            count(file.tokens) if file.of_tokens else "–", share(file.tokens, file.of_tokens),
        )
        for artifact in impact.artifacts
        for file in artifact.files
    ]  # fmt: skip
    head = ("file", "artifact", "samples", "share", "tokens", "share of tokens")
    return section("Shards", "File by file.", table(head, rows[:MAX_LISTED]) if rows else None)


def _stages(impact: Impact) -> Markup:
    head = (
        "stage",
        "model or checkpoint",
        "documents",
        "tokens",
        "share of tokens",
        "steps",
        "kinds",
        "inherited from",
    )
    rows = [row for stage in impact.stages for row in _stage_rows(stage)]
    return section(
        "Training",
        "What each stage consumed, by its ledger. A checkpoint has seen what was consumed before its step.",
        table(head, rows) if rows else None,
    )


def _stage_rows(stage: Stage) -> Iterator[tuple[Node, ...]]:
    kinds = ", ".join(f"{kind} {number}" for kind, number in stage.kinds.items())
    steps = "never" if stage.first_step is None else f"{stage.first_step:,} to {stage.last_step:,}"
    for seen in stage.seen:
        what = f"model, after {seen.step:,} steps" if stage.finished else f"checkpoint at step {seen.step:,}"
        tokens = f"{count(seen.tokens)} of {count(seen.of_tokens)}"
        yield (
            stage.label, what, count(seen.documents), tokens, share(seen.tokens, seen.of_tokens), steps, kinds or "–",
            stage.inherits or "–",
        )  # fmt: skip


def _derived(impact: Impact) -> Markup:
    rows = [(item.digest[:12], item.kind, item.job, tag("code", item.url)) for item in impact.derived]
    return section(
        "Derived",
        "Artifacts made of those above over data and initial weights, judges left out. Only the ledger of a training stage "
        "says whether a sample was consumed; a tokenizer or detokenizer may have learned from any sample of its images.",
        table(("artifact", "kind", "job", "folder"), rows) if rows else None,
    )
