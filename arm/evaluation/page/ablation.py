"""The page of a tokenizer ablation: Table 7 over seeds, its curves and what each row reconstructs. No script, no network."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from arm.evaluation.ablation import CEILINGS, COLUMNS, LOSSES, PAPER, Row, Run, look_up, written
from arm.evaluation.page.charts import Point, lines_chart
from arm.evaluation.page.curves import read_curves
from arm.evaluation.page.markup import Markup, Node, details, join, section, table, tag, words
from arm.evaluation.page.pictures import embed
from arm.evaluation.page.store import Step
from arm.evaluation.page.style import POLICY, STYLE

OWN_STYLE = """
.ablation td{white-space:nowrap}.ablation tbody th{white-space:normal;min-width:120px}.ablation thead th{white-space:normal}
.ablation th,.ablation td{padding-right:10px}
.ablation td small,.ablation th small{display:block}
.key{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.line0{stroke:#6b7280;background:#6b7280}.line1{stroke:#d9480f;background:#d9480f}
.line2{stroke:#2b8a3e;background:#2b8a3e}.line3{stroke:#1971c2;background:#1971c2}
.seed{opacity:.3;stroke-width:1}
"""
NUM_COLOURS = 4
SHOWN_CURVES = 8
PHOTOGRAPHS = "samples/photographs.png"
"""A large sheet: shown for the first seed of a row alone."""
PICTURES = {
    ("evaluation", "images/reconstruction.png"): "Above the original, below image → codes → detokenizer",
    (
        "tokenizer",
        "samples/reconstruction.png",
    ): "Above the original, below image → codes → pixel DiT, which only supervises",
    (
        "tokenizer-evaluation",
        PHOTOGRAPHS,
    ): "Photographs; below each the autoencoder alone, then image → codes → detokenizer",
}
"""(kind, file) of a tokenizer or of what was measured on it -> what it shows."""


def render_ablation(rows: Sequence[Row]) -> str:
    """The whole page as HTML."""
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY), tag("title", "ARM · tokenizer ablation"),
        Markup(f"<style>{STYLE}{OWN_STYLE}</style>"),
    )  # fmt: skip
    parts = (_header(rows), _table(rows), _ceilings(rows), _curves(rows), _pictures(rows), _settings(rows))
    return f'<!doctype html>\n<html lang="en">{head}{tag("body", tag("main", *parts))}</html>\n'


def _header(rows: Sequence[Row]) -> Markup:
    seeds = sorted({run.seed for row in rows for run in row.runs})
    line = (
        f"{len(rows)} sets of losses, seeds {', '.join(map(str, seeds))}: what each loss of the visual tokenizer brings"
    )
    return tag("header", tag("h1", "Tokenizer ablation"), tag("p", line))


def _table(rows: Sequence[Row]) -> Markup:
    head = ["Losses", *LOSSES.values(), *(column.title for column in COLUMNS)]
    body = [line for index, row in enumerate(rows) for line in (_measured(index, row), _paper(row)) if line]
    note = (
        "Mean ± standard deviation over the seeds, each seed's value below it. The paper's row (Table 7, arXiv 2606.11188) "
        "stands under ours: ImageNet at 512², another scale; compare directions, not numbers. Strict: the checker finds "
        "every object of the image, and nothing else, after image → codes → detokenizer."
    )
    return section("Table 7", note, table(head, body, class_="ablation"))


def _measured(index: int, row: Row) -> list[Node]:
    name = join([_key(index), row.name, tag("small", f"{len(row.runs)} seeds")])
    cells: list[Node] = [name, *("×" if loss in row.losses else None for loss in LOSSES)]
    for column in COLUMNS:
        values = row.values(column.metric)
        each = " · ".join(f"{value:.{column.digits}f}" for value in values) if len(values) > 1 else None
        cells.append(tag("td", tag("b", written(values, column.digits)), tag("small", each) if each else None))
    return cells


def _paper(row: Row) -> list[Node] | None:
    stated = PAPER.get(row.losses)
    if stated is None:
        return None
    values = [f"{stated[column.name]:g}" if column.name in stated else None for column in COLUMNS]
    return [tag("small", "the paper's"), *[None] * len(LOSSES), *(tag("td", tag("small", value)) for value in values)]


def _ceilings(rows: Sequence[Row]) -> Markup:
    """What bounds the table: the frozen encoder, the checker on real images. The same for every row."""
    metrics = rows[0].runs[0].metrics
    found = [(title, look_up(metrics, name)) for name, title in CEILINGS.items()]
    lines = [(title, f"{value:.3f}") for title, value in found if value is not None]
    return section(
        "Ceilings", "No row can be better than its tools.", table(("Tool", "value"), lines) if lines else None
    )


def _curves(rows: Sequence[Row]) -> Markup:
    """A chart for each number that the tokenizers log by step: the mean of a row's seeds bold, each seed thin."""
    curves = {(index, run.seed): read_curves(_step(run)) for index, row in enumerate(rows) for run in row.runs}
    names = sorted({name for found in curves.values() for name in found}, key=_rank)
    charts = [_chart(name, rows, curves) for name in names]
    legend = tag(
        "p", *(tag("span", _key(index), row.name, class_="chip") for index, row in enumerate(rows)), class_="note"
    )
    folded = details(f"{len(charts) - SHOWN_CURVES} more", tag("div", *charts[SHOWN_CURVES:], class_="charts"))
    note = "By step: losses before weighting, and the digits of held-out images. Thick: the mean of a row's seeds; thin: each."
    if not charts:
        return Markup("")
    shown = tag("div", *charts[:SHOWN_CURVES], class_="charts")
    return section("Curves", note, legend, shown, folded if len(charts) > SHOWN_CURVES else None)


def _chart(name: str, rows: Sequence[Row], curves: Mapping[tuple[int, int], Mapping[str, list[Point]]]) -> Markup:
    lines: list[tuple[str, Sequence[Point]]] = []
    for index, row in enumerate(rows):
        own = [curves[index, run.seed][name] for run in row.runs if name in curves[index, run.seed]]
        colour = f"line{index % NUM_COLOURS}"
        lines += [(f"{colour} seed", points) for points in own] if len(own) > 1 else []
        lines += [(colour, mean_curve(own))] if own else []
    return lines_chart(name, lines)


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean at every step that all curves have.

    (1, 4) (2, 6)  and  (1, 2) (3, 9)  ->  (1, 3)
    """
    tables = [dict(points) for points in curves]
    shared = sorted(set(tables[0]).intersection(*tables[1:]))
    return [(step, fmean(values[step] for values in tables)) for step in shared]


def _pictures(rows: Sequence[Row]) -> Markup:
    """What each row reconstructs: of its first seed at once, of the others folded away."""
    parts = [part for index, row in enumerate(rows) for part in _of_row(index, row)]
    return section("Reconstructions", "The same held-out images in every row, not chosen.", *parts)


def _of_row(index: int, row: Row) -> Iterator[Markup]:
    first, *others = row.runs
    pictures = list(_of_run(first))
    if pictures:
        yield tag("h3", _key(index), row.name, tag("small", f" seed {first.seed}"))
        yield from pictures
    rest = [(run.seed, picture) for run in others for picture in _of_run(run, photographs=False)]
    if rest:
        shown = [tag("div", tag("small", f"seed {seed}"), picture) for seed, picture in rest]
        yield details(f"{'seeds' if len(others) > 1 else 'seed'} {', '.join(str(run.seed) for run in others)}", *shown)


def _of_run(run: Run, *, photographs: bool = True) -> Iterator[Markup]:
    for (kind, path), title in PICTURES.items():
        if path == PHOTOGRAPHS and not photographs:
            continue
        for manifest in (run.tokenizer, *run.evaluations):
            step = Step(name="", manifest=manifest, run={})
            if manifest.kind == kind and step.has(path) and (address := embed(step, path)):
                picture = tag(
                    "img", src=address, alt=title, class_=f"sample {path.partition('/')[2].removesuffix('.png')}"
                )
                yield tag("figure", picture, tag("figcaption", tag("small", title)))


def _settings(rows: Sequence[Row]) -> Markup:
    """The first row's config: rows differ in the weights of absent losses and in the seed alone."""
    config = rows[-1].runs[0].tokenizer.config
    lines = [(words(name), tag("code", str(value))) for name, value in sorted(config.items())]
    note = (
        f"Of the row {rows[-1].name}; the other rows differ in the weights of their absent losses, and all in the seed."
    )
    return section("Settings", note, details("every field of train-tokenizer", table(("Field", "value"), lines)))


def _step(run: Run) -> Step:
    return Step(name="", manifest=run.tokenizer, run={})


def _key(index: int) -> Markup:
    return tag("i", class_=f"key line{index % NUM_COLOURS}")


def _rank(name: str) -> tuple[int, str]:
    """Losses first, then what is measured on held-out images, then the gradient."""
    first = name.partition("/")[0]
    return {"loss": 0, "gradient_norm": 2}.get(first, 1), name
