"""Published scores: ARM's and its rivals', as the paper reports them (arXiv 2606.11188). A number it does not give is absent.

The paper names neither its harness nor its judge's prompts nor its temperature: the protocol of a column is that of the
benchmark's authors, and `UNSTATED` says so on the page.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from arm.evaluation.ablation import PAPER as TABLE_7

PAPER = "arXiv 2606.11188"
REPORTED = f"{PAPER}, as the paper reports it"
TABLE_8 = f"{PAPER}, Table 8"
UNSTATED = (
    "Published rows are taken from the paper, those of its rivals as it reports them; it names neither the harness nor the "
    "judge's prompts nor the temperature of sampling. –: the paper gives no number."
)


@dataclass(frozen=True, slots=True)
class Published:
    """One model's published numbers, printed as in the paper."""

    model: str
    source: str
    values: Mapping[str, str]
    """`<benchmark>/<metric>` -> the number as it is printed."""


def _row(model: str, columns: tuple[str, ...], numbers: str, source: str = REPORTED) -> Published:
    """Numbers in the order of the columns, with – where the paper gives none."""
    named = zip(columns, numbers.split(), strict=True)
    return Published(model, source, {column: number for column, number in named if number != "–"})


GENERATION = ("geneval/overall", "dpg/score", "wise/overall")
EDITING = ("gedit_en/semantics", "gedit_en/quality", "gedit_en/overall")
UNDERSTANDING = (
    "pope/mean_f1", "mmbench/vanilla", "mme/perception", "mmmu/overall", "gqa/accuracy", "vqav2/overall", "seed/image",
)  # fmt: skip
TOKENIZER = ("imagenet/top1", "tokenizer/psnr", "tokenizer/code_usage", "tokenizer/perplexity_per_codebook")
PUBLISHED: tuple[Published, ...] = (
    _row("ARM", GENERATION, "0.79 84.48 0.50", TABLE_8),
    _row("ARM-RL", GENERATION, "0.86 86.00 0.56", TABLE_8),
    _row("Janus-Pro", GENERATION, "0.80 84.19 0.35"),
    _row("BAGEL", GENERATION, "0.82 – 0.52"),
    _row("Qwen-Image", GENERATION, "0.87 88.32 –"),
    _row("FLUX.1-dev", GENERATION, "0.66 83.84 0.50"),
    _row("SimpleAR", GENERATION, "0.63 81.97 –"),
    _row("Emu3", GENERATION, "0.54 80.60 0.39"),
    _row("Show-o", GENERATION, "0.68 67.48 –"),
    _row("ARM", EDITING, "5.73 7.67 5.75"),
    _row("ARM-RL", EDITING, "6.85 7.68 6.68"),
    _row("BAGEL", EDITING, "7.36 6.83 6.52"),
    _row("Step1X-Edit", EDITING, "7.09 6.76 6.70"),
    _row("ARM", UNDERSTANDING, "87.3 80.7 1463 40.2 59.8 76.1 73.1"),
    _row("ARM-RL", UNDERSTANDING, "87.11 – – 41.0 – – –", TABLE_8),
    _row("Janus-Pro-7B", UNDERSTANDING, "87.4 79.2 1567 41.0 62.0 – 72.1"),
    _row("Show-o2", UNDERSTANDING, "– 79.3 1621 48.9 63.1 – 69.8"),
    _row("BAGEL", UNDERSTANDING, "– 85.0 1687 55.3 – – –"),
    _row("Emu3", UNDERSTANDING, "85.2 58.5 – 31.6 60.3 75.1 68.2"),
    _row("VILA-U", UNDERSTANDING, "85.8 – 1402 – 60.8 79.4 59.0"),
    _row("UniTok and Liquid", UNDERSTANDING, "83.2 – 1448 – 61.1 76.8 –"),
    _row("Show-o", UNDERSTANDING, "80.0 – 1097 26.7 58.0 69.4 –"),
    _row("Chameleon-34B", UNDERSTANDING, "– – – 22.4 – 69.6 –"),
    *(
        _row(f"ARM, {' + '.join(losses)}", TOKENIZER,
             f"{100 * row['zero_shot']:.1f} {row['pixel_psnr']} {100 * row['usage']:.1f} {row['perplexity']}",
             f"{PAPER}, Table 7")
        for losses, row in TABLE_7.items()
    ),
)  # fmt: skip
"""In the order of the page; a model stands once for each group of benchmarks."""
