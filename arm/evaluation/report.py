"""The report: one page that holds everything, with no script and no network, written to `<store>/report/index.html`.

It is a view of what lies in the store, not an artifact: it may be written again at any time, and works while parts of
the run are missing; a single evaluation is a store of one. `report.json` beside it has the same numbers for machines.
Standard library only, but for the pairing with a baseline (numpy) and the pictures of benchmarks (Pillow).
"""

from collections.abc import Sequence
from pathlib import Path

from arm.errors import UserError
from arm.evaluation.page.chain import render_chain
from arm.evaluation.page.curves import render_curves
from arm.evaluation.page.markup import Markup, Node, duration, join, tag, words
from arm.evaluation.page.official.part import Official, read_official
from arm.evaluation.page.pictures import render_pictures, render_samples
from arm.evaluation.page.release import read_release, render_places, render_speeds, render_verdict
from arm.evaluation.page.scores import STAGES, headline, read_protocols, render_scores
from arm.evaluation.page.seeds import render_seeds
from arm.evaluation.page.settings import render_departures, render_mixture, render_weights
from arm.evaluation.page.store import Step, read_store
from arm.evaluation.page.style import POLICY, STYLE
from arm.evaluation.page.tokenizer import render_tokenizers
from arm.storage import open_folder

NAME, NUMBERS = "report/index.html", "report/report.json"


def write_report(store: str, baseline: str = "") -> Path:
    """Write the page of a store or an artifact (local or s3://), and return a local path to it.

    `baseline` is another store or evaluation that this one is held against.
    """
    steps = read_store(store)
    if not steps:
        raise UserError(f"{store} holds no finished artifact; run a pipeline with this store first.")
    folder = open_folder(store)
    official = read_official(evaluation_of(steps), folder, _open_baseline(store, steps, baseline) if baseline else None)
    folder.write(NAME, render_report(steps, folder.url, official).encode())
    folder.write(NUMBERS, official.to_json())
    return folder.fetch(NAME)


def evaluation_of(steps: Sequence[Step]) -> Step | None:
    """The last evaluation of a store."""
    return next((step for step in reversed(steps) if step.manifest.kind == "evaluation"), None)


def _open_baseline(store: str, steps: Sequence[Step], baseline: str) -> Step:
    if evaluation_of(steps) is None:
        raise UserError(f"{store} holds no evaluation, so there is nothing to compare; run `arm evaluate-model` first.")
    found = evaluation_of(read_store(baseline))
    if found is None:
        raise UserError(f"The baseline {baseline} holds no evaluation; give a store, or the folder of an evaluation.")
    return found


def render_report(steps: Sequence[Step], store: str, official: Official) -> str:
    """The whole page as HTML."""
    evaluation = evaluation_of(steps)
    parts = [
        render_verdict(steps),
        *official.render_numbers(),
        render_scores(evaluation),
        render_seeds(store, evaluation),
        *official.render_samples(),
        render_pictures(evaluation),
        render_tokenizers(steps),
        render_chain(steps),
        render_curves(steps),
        render_samples(steps),
        render_mixture(steps),
        render_weights(steps),
        render_departures(steps),
        render_speeds(steps),
        render_places(steps, store),
    ]
    shown = [part for part in parts if part]
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY), tag("title", f"ARM · {_name(store)}"),
        Markup(f"<style>{STYLE}</style>"),
    )  # fmt: skip
    body = tag("body", tag("main", _header(steps, store, shown), _tiles(steps, evaluation, official), *shown))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _header(steps: Sequence[Step], store: str, shown: Sequence[str]) -> Markup:
    total = sum(step.seconds or 0 for step in steps)
    title, line = "ARM, from crawl to release", f"{len(steps)} artifacts from web crawl to released model"
    if len(steps) == 1:
        title, line = f"ARM, {words(steps[0].manifest.kind)}", steps[0].name
    line = f"{line} · {duration(total)} of work · {store}"
    return tag("header", tag("h1", title), tag("p", line), tag("nav", *_links(shown)))


def _links(shown: Sequence[str]) -> list[Node]:
    """A link to every section on the page."""
    names = [part.partition(' id="')[2].partition('"')[0] for part in shown]
    return [tag("a", name.replace("-", " "), href=f"#{name}") for name in names if name]


def _tiles(steps: Sequence[Step], evaluation: Step | None, official: Official) -> Markup | None:
    """The few numbers that matter, of the last stage that was measured."""
    protocols = read_protocols(evaluation)
    stage = next((name for name in reversed(STAGES) if name in protocols), "")
    wanted = [
        (stage, "text_to_image", "text to image, mean of six categories"),
        (stage, "editing", "edits strictly right"),
        (stage, "understanding", "questions answered right"),
        ("reference", "reconstruction", "reconstructions strictly right"),
        ("reference", "real_images", "checker right on real images"),
    ]
    tiles = [
        tag("div", tag("b", f"{100 * found['value']:.1f}%"), tag("span", label))
        for subject, benchmark, label in wanted
        if (found := headline(protocols, subject, benchmark))
    ]
    tiles += [
        tag("div", tag("b", said, class_=class_ or None), tag("span", label))
        for said, label, class_ in official.headlines()
    ]
    release = read_release(steps)
    if release is not None:
        held = bool(release[1].get("alias_moves"))
        tiles.append(
            tag(
                "div",
                tag("b", "passed" if held else "held back", class_="good" if held else "bad"),
                tag("span", "release gates"),
            )
        )
    return tag("div", join(tiles), class_="tiles") if tiles else None


def _name(store: str) -> str:
    return store.rstrip("/").rpartition("/")[2]
