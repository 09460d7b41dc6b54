"""What the visual tokenizer keeps of images: the metrics and pictures of evaluate-tokenizer, photographs beside its set."""

import re
from collections.abc import Iterator, Mapping, Sequence

from arm.evaluation.page.markup import Markup, Node, count, details, number, section, table, tag, words
from arm.evaluation.page.pictures import embed
from arm.evaluation.page.store import Step

KIND = "tokenizer-evaluation"
PHOTOGRAPHS = "photographs/"
CEILINGS = {
    "reconstruction/psnr_per_image": "autoencoder/psnr_per_image", "reconstruction/ssim": "autoencoder/ssim",
    "reconstruction/lpips": "autoencoder/lpips", "top1": "encoder_top1",
}  # fmt: skip
"""End of a metric's name -> end of the name of what bounds it: the frozen part alone, without codes."""
TITLES = {
    "reconstruction/psnr_per_image": "PSNR (dB)", "reconstruction/ssim": "SSIM", "reconstruction/lpips": "LPIPS",
    "frechet": "Fréchet distance", "code_usage": "codes in use", "perplexity_per_codebook": "perplexity / codebook",
}  # fmt: skip
"""Metric -> its row, below those of classification."""
SHEETS = {"reconstruction": "The first evaluated images", "photographs": "The first photographs, by size"}
MAX_WITH_PICTURES = 4
"""More evaluations than this are an ablation's, whose own page shows them."""
MAX_SHEET_BYTES = 8_000_000
"""A larger sheet is named and not shown."""
SAME = 3.0
"""dB: twice the squared error."""


def render_tokenizers(steps: Sequence[Step]) -> Markup:
    """Each evaluation of a tokenizer: a sentence, a table, and its sheets of pictures."""
    found = [step for step in steps if step.manifest.kind == KIND]
    note = (
        "What the codes keep of images. A ceiling is the same measure without codes: of the frozen autoencoder alone, or of "
        "the frozen encoder alone."
    )
    return section("Visual tokenizer", note, *(_evaluation(step, len(found)) for step in found))


def sentence_of(metrics: Mapping[str, float]) -> str:
    """What one sees: how well images come back, and whether photographs come back as well."""
    psnr, ceiling = "reconstruction/psnr_per_image", "autoencoder/psnr_per_image"
    if psnr not in metrics:
        return "No detokenizer was given: nothing is rendered."
    said = f"Evaluated images come back at {metrics[psnr]:.1f} dB{_alone(metrics.get(ceiling))}."
    if PHOTOGRAPHS + psnr not in metrics:
        return said
    rendered, bound = metrics[PHOTOGRAPHS + psnr], metrics.get(PHOTOGRAPHS + ceiling)
    said += f" Photographs come back at {rendered:.1f} dB{_alone(bound)}"
    if metrics[psnr] - rendered < SAME:
        return f"{said}: about as well as the evaluated images, or better."
    if bound is None:
        return f"{said}: worse than the evaluated images."
    if metrics.get(ceiling, bound) - bound < SAME:
        return f"{said}: the autoencoder draws them, the codes and the detokenizer do not."
    return f"{said}: the autoencoder loses them before any code is drawn. These models learned from other images."


def _alone(ceiling: float | None) -> str:
    return "" if ceiling is None else f", through the autoencoder alone at {ceiling:.1f} dB"


def _evaluation(step: Step, num_found: int) -> Markup:
    counts, metrics = step.manifest.counts, step.manifest.metrics
    pictures = list(_sheets(step)) if num_found <= MAX_WITH_PICTURES else []
    about = [f"{count(counts[name])} {name}" for name in ("images", "photographs") if counts.get(name)]
    return tag(
        "div", tag("h3", step.name, tag("small", f" {', '.join(about)}")), tag("p", sentence_of(metrics)),
        _table(metrics), _by_size(metrics), *pictures,
    )  # fmt: skip


def _table(metrics: Mapping[str, float]) -> Markup:
    photographs = any(name.startswith(PHOTOGRAPHS) for name in metrics)
    head = ["Metric", "Evaluated images", "Ceiling", *(("Photographs", "Ceiling") if photographs else ())]
    sets = ("", PHOTOGRAPHS) if photographs else ("",)
    rows = [
        [_title(name), *(cell for prefix in sets for cell in _cells(metrics, prefix + name))]
        for name in _names(metrics)
    ]
    return table(head, rows, class_="scores")


def _names(metrics: Mapping[str, float]) -> list[str]:
    """The measures of the table: classification first, as the job named its tasks."""
    classified = sorted(name for name in metrics if re.fullmatch(r"zero_shot/[^/]+/top1|linear_probe/[^/]+", name))
    return [*classified, *(name for name in TITLES if name in metrics)]


def _title(name: str) -> str:
    kind, _, rest = name.partition("/")
    of = {
        "zero_shot": f"zero-shot, {words(rest.partition('/')[0])}",
        "linear_probe": f"linear probe, {words(rest)} z_q",
    }
    return TITLES.get(name) or of[kind]


def _cells(metrics: Mapping[str, float], name: str) -> Iterator[str | None]:
    """A value and its ceiling."""
    yield number(metrics[name]) if name in metrics else None
    above = next((name.removesuffix(end) + other for end, other in CEILINGS.items() if name.endswith(f"/{end}")), "")
    above = above or CEILINGS.get(name, "")
    yield number(metrics[above]) if above in metrics else None


def _by_size(metrics: Mapping[str, float]) -> Markup | None:
    """The measures of rendering and coding by size, folded away; none where all images have one size."""
    tables: list[Node] = []
    for prefix, title in (("", "Evaluated images"), (PHOTOGRAPHS, "Photographs")):
        found = (re.fullmatch(rf"{prefix}code_usage/(\d+)x(\d+)", name) for name in metrics)
        sizes = sorted((int(match[1]), int(match[2])) for match in found if match)
        if len(sizes) > 1:
            shown = {name: heading for name, heading in TITLES.items() if prefix + name in metrics}
            rows = [
                [f"{h}×{w}", *(next(_cells(metrics, f"{prefix}{name}/{h}x{w}")) for name in shown)] for h, w in sizes
            ]
            tables.append(
                tag("div", tag("h3", title), table(["Height × width", *shown.values()], rows, class_="scores"))
            )
    return details("by size", *tables) if tables else None


def _sheets(step: Step) -> Iterator[Markup]:
    alone = "autoencoder/psnr_per_image" in step.manifest.metrics
    lines = ("the image", *(("the autoencoder alone",) if alone else ()), "image → codes → detokenizer")
    note = f"From top to bottom, again and again: {'; '.join(lines)}."
    for name, title in SHEETS.items():
        for entry in step.manifest.select(f"samples/{name}", ".png"):
            if entry.bytes > MAX_SHEET_BYTES:
                yield tag("p", f"{entry.path}: {entry.bytes:,} bytes, too large to show here", class_="note")
            elif address := embed(step, entry.path):
                picture = tag("img", src=address, alt=title, class_=f"sample {name}")
                yield tag("figure", tag("h3", title), picture, tag("figcaption", tag("small", note)))
