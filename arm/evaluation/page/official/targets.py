"""What each benchmark is called, how its numbers are printed, and how the published ones were measured.

A number is printed as the paper prints it: POPE's mean F1 of 0.873 as 87.3 (`factor` 100). The sizes, metrics and judges
are those of the benchmarks' authors.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Group = Literal["generation", "editing", "understanding", "tokenizer", "other"]
GROUPS: Mapping[Group, str] = {
    "generation": "Generation", "editing": "Editing", "understanding": "Understanding", "tokenizer": "Visual tokenizer",
    "other": "Others",
}  # fmt: skip
NOTHING = r"(?!)"
"""Matches no name."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a benchmark: its name in scores.json, the head of its column, how it is printed."""

    metric: str
    title: str
    factor: float = 1.0
    digits: int = 2
    published: str = ""
    """What is uncertain about the published numbers of this column."""

    def printed(self, value: float) -> str:
        """0.873, factor 100, one digit -> 87.3; thousands without digits."""
        return f"{value * self.factor:,.{self.digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One benchmark on the page."""

    title: str
    group: Group
    measures: tuple[Measure, ...]
    protocol: str = ""
    """How its authors measure: items, aggregation."""
    judge: str = ""
    """Who looks at images in the published protocol; empty where nobody does, or where any detector may."""
    categories: str = NOTHING
    """Pattern of the estimates that are categories; its first group is the category's name."""
    bars: str = ""
    """What the number of a category is: of the paper's own measure, where a benchmark has several."""
    top: float = 1.0
    """The best value of a category."""
    graded: bool = False
    """Whether an item may be partly right."""

    def category_of(self, metric: str) -> str | None:
        """`overall/ps_human` -> ps_human; None for a number that is no category."""
        found = re.fullmatch(self.categories, metric)
        return found[1] if found else None


WISE_CATEGORIES = r"(?!overall$|unweighted$)([a-z]+)"
GEDIT = (Measure("semantics", "SC"), Measure("quality", "PQ"), Measure("overall", "O"))
TARGETS: Mapping[str, Target] = {
    "geneval": Target(
        title="GenEval", group="generation", measures=(Measure("overall", "GenEval", digits=3),),
        protocol="553 prompts × 4 images, a detector and a rule, mean of the six tag means",
        categories=r"(?!overall$|images$|prompts$)([^/]+)", bars="share of images that are right",
    ),
    "dpg": Target(
        title="DPG-Bench", group="generation", measures=(Measure("score", "DPG"),), judge="mPLUG", graded=True, top=100,
        protocol="1,065 prompts × 4 images in a grid, mean of the items × 100, dependencies zeroed",
        categories=r"level 1/(.+)", bars="questions answered yes, %",
    ),
    "wise": Target(
        title="WISE", group="generation", measures=(Measure("overall", "WISE", digits=3),), judge="GPT-4o", graded=True,
        protocol="legacy: 1,000 prompts × 1 image, WiScore 0 to 1, weighted by category", categories=WISE_CATEGORIES,
        bars="WiScore",
    ),
    "wise_verified": Target(
        title="WISE verified", group="generation", measures=(Measure("overall", "WISE verified", digits=3),),
        judge="Qwen3.5-35B", protocol="1,000 prompts × 1 image, 0 or 1, weighted by category",
        categories=WISE_CATEGORIES, bars="share of images that are right",
    ),
    "gedit_en": Target(
        title="GEdit-Bench EN", group="editing", judge="GPT-4.1", graded=True, top=10,
        measures=tuple(Measure(item.metric, f"GEdit-EN {item.title}") for item in GEDIT),
        protocol="606 edits of 11 groups, VIEScore's prompts, mean of the group means of √(SC · PQ)",
        categories=r"overall/(.+)", bars="O, the mean of √(SC · PQ)",
    ),
    "gedit_cn": Target(
        title="GEdit-Bench CN", group="editing", judge="GPT-4.1", graded=True, top=10,
        measures=tuple(Measure(item.metric, f"GEdit-CN {item.title}") for item in GEDIT),
        protocol="606 edits of 11 groups, VIEScore's prompts, mean of the group means of √(SC · PQ)",
        categories=r"overall/(.+)", bars="O, the mean of √(SC · PQ)",
    ),
    "imgedit": Target(
        title="ImgEdit-Bench", group="editing", measures=(Measure("overall", "ImgEdit"),), judge="GPT-4o", graded=True, top=5,
        protocol="737 edits of nine types, 1 to 5, mean of the type means", categories=r"type/(.+)",
        bars="mean of the three scores",
    ),
    "pope": Target(
        title="POPE", group="understanding", measures=(Measure("mean_f1", "POPE", 100, 1),),
        protocol="3 × 3,000 questions, mean of three F1", categories=r"(random|popular|adversarial)/f1", bars="F1 of yes",
    ),
    "mmbench": Target(
        title="MMBench EN dev", group="understanding",
        measures=(Measure("vanilla", "MMBench vanilla", 100, 1, "the paper does not say which accuracy: probably vanilla"),
                  Measure("circular", "MMBench circular", 100, 1)),
        protocol="1,164 questions in 4,329 rows; circular: every rotation right, vanilla: the first row alone",
        categories=r"vanilla/([^/]+)", bars="vanilla accuracy, %",
    ),
    "mme": Target(
        title="MME perception", group="understanding", measures=(Measure("perception", "MME-P", 1, 0),), top=200,
        protocol="the ten tasks of perception, 2,114 of 2,374 questions, sum of 100 (accuracy + accuracy+)",
        categories=r"(existence|count|position|color|posters|celebrity|scene|landmark|artwork|OCR)", bars="100 (accuracy + accuracy+)",
    ),
    "mmmu": Target(
        title="MMMU val", group="understanding", measures=(Measure("overall", "MMMU", 100, 1),),
        protocol="900 questions, share of right answers", categories=r"domain/(.+)",
        bars="accuracy, %",
    ),
    "gqa": Target(
        title="GQA testdev", group="understanding", measures=(Measure("accuracy", "GQA", 1, 1),), top=100,
        protocol="12,578 balanced questions, exact match", categories=r"structural/(.+)", bars="accuracy, %",
    ),
    "vqav2": Target(
        title="VQAv2 val", group="understanding", measures=(Measure("overall", "VQAv2", 1, 1),), top=100, graded=True,
        protocol="214,354 questions, leave-one-out min(1, n/3)", categories=r"answer_type/(.+)",
        bars="accuracy, %",
    ),
    "seed": Target(
        title="SEED-Bench-1", group="understanding",
        measures=(Measure("image", "SEED image", 100, 1, "the paper does not say on which questions: probably images"),),
        protocol="the 14,233 questions about images, without the 3,764 about videos, share of right letters",
        categories=r"dimension/(.+)", bars="accuracy, %",
    ),
    "imagenet": Target(
        title="ImageNet zero-shot", group="tokenizer", measures=(Measure("top1", "ImageNet top-1, %", 100, 1),),
        protocol="50,000 images, the tokenizer's own towers, 80 prompts a class",
    ),
    "tokenizer": Target(
        title="Reconstruction and codes", group="tokenizer",
        measures=(Measure("psnr", "PSNR, dB", 1, 1), Measure("code_usage", "codes used, %", 100, 1),
                  Measure("perplexity_per_codebook", "perplexity / codebook")),
        protocol="per-image PSNR; codes of the whole set",
    ),
}  # fmt: skip
"""Benchmark -> how it stands on the page, in the order of the page."""


def target_of(benchmark: str, record: Mapping[str, Any]) -> Target:
    """The benchmark's entry; one that is not listed is shown by its own name and headline."""
    headline = str(record["headline"])
    return TARGETS.get(benchmark) or Target(
        title=benchmark, group="other", measures=(Measure(headline, f"{benchmark} {headline}", digits=3),)
    )


def place_of(benchmark: str) -> tuple[int, str]:
    """Where a benchmark stands: in the order of TARGETS, others behind them by name."""
    return (list(TARGETS).index(benchmark) if benchmark in TARGETS else len(TARGETS)), benchmark


def departures(benchmark: str, protocol: Mapping[str, Any]) -> list[str]:
    """What makes a number of ours another one than the published: mode, judge, what was not checked, the scorer's notes.

    mode corrected, judge gemma-3  ->  ["the corrected mode, without …", "judged by gemma-3, the published by GPT-4.1"]
    """
    target = TARGETS.get(benchmark)
    found: list[str] = []
    if protocol.get("mode") == "corrected":
        found.append("the corrected mode, without the faults of the authors' program")
    if target and target.judge and not _alike(target.judge, str(protocol.get("judge", ""))):
        judge = f"judged by {protocol['judge']}" if protocol.get("judge") else "no judge is named"
        found.append(f"{judge}, the published by {target.judge}")
    unchecked = [part for part, said in _pairs(protocol.get("checked")) if str(said).startswith("not ")]
    if unchecked:
        parts = "" if unchecked == ["all"] else f": {', '.join(unchecked)}"
        found.append(f"not checked against the official program{parts}")
    return found + [str(note) for note in protocol.get("notes", ())]


def _alike(published: str, ours: str) -> bool:
    """gpt-4.1-2025-04-14 is GPT-4.1; gpt-4.1-mini is not."""
    pattern = rf"(.*/)?{re.escape(published)}(-\d[\d-]*)?"
    return re.fullmatch(pattern, ours.strip(), re.IGNORECASE) is not None


def _pairs(found: object) -> Iterable[tuple[str, Any]]:
    return found.items() if isinstance(found, Mapping) else ()
