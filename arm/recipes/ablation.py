"""The rows of Table 7: which losses a tokenizer is trained with, each row from several seeds.

    caption + pixel                        the start
    caption + pixel + sigmoid              knows what an image shows
    caption + pixel + feature              the same, from the encoder's features alone
    caption + pixel + sigmoid + feature    the paper's tokenizer

A row differs from the last in weights alone: those of its absent losses are 0. A seed moves tokenizer, detokenizer and
evaluation together.
"""

from dataclasses import dataclass, replace

from arm import config as configs
from arm.config import suggest
from arm.errors import UserError
from arm.evaluation.config import EvaluateConfig
from arm.tokenizer.config import DetokenizerConfig, EvaluateTokenizerConfig, TokenizerConfig

LOSSES = ("caption", "pixel", "sigmoid", "feature")
ROWS: dict[str, tuple[str, ...]] = {
    "caption + pixel": ("caption", "pixel"),
    "caption + pixel + sigmoid": ("caption", "pixel", "sigmoid"),
    "caption + pixel + feature": ("caption", "pixel", "feature"),
    "caption + pixel + sigmoid + feature": LOSSES,
}
"""Row -> its losses, in the order of Table 7."""
ALL_FOUR = "caption + pixel + sigmoid + feature"
CHECKED = ("real_images", "reconstruction")
"""The benchmarks of evaluate-model that need a checker and no language model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What the pipeline `tokenizer-ablation` trains and compares."""

    tokenizer: TokenizerConfig
    """The row with all four losses; the other rows lack some."""
    detokenizer: DetokenizerConfig
    """A small detokenizer for every tokenizer, at equal steps."""
    evaluate_tokenizer: EvaluateTokenizerConfig
    """Zero-shot tasks, use of the codes and reconstruction on held-out images."""
    evaluate_model: EvaluateConfig
    """Strict reconstruction: what the checker still reads right."""
    rows: tuple[str, ...] = tuple(ROWS)
    """Names of ROWS."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every row is trained from each."""
    parallelism: int = 1
    """Tokenizers that train at a time on one machine; a cluster trains all at once."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if row not in ROWS:
                raise UserError(f"There is no row {row!r} in Table 7; {suggest(row, list(ROWS))}")
        if not self.rows or not self.seeds or self.parallelism < 1:
            raise UserError("An ablation needs a row, a seed and parallelism of at least 1.")
        absent = [loss for loss in LOSSES if getattr(self.tokenizer, f"{loss}_weight") <= 0]
        if absent:
            raise UserError(f"Ablation.tokenizer has no {absent[0]} loss; it is the row with all four.")

    def runs(self) -> list[dict[str, str]]:
        """The configs of a row and seed as JSON, by the name of their field, with a label.

        Seeds are outermost, so that a run cut short has every row.
        """
        return [self._run(row, seed) for seed in self.seeds for row in self.rows]

    def _run(self, row: str, seed: int) -> dict[str, str]:
        made = {
            "tokenizer": tokenizer_of(row, self.tokenizer),
            "detokenizer": self.detokenizer,
            "evaluate_tokenizer": self.evaluate_tokenizer,
            "evaluate_model": self.evaluate_model,
        }
        seeded = {name: configs.to_json(replace(config, seed=seed)) for name, config in made.items()}  # type: ignore[type-var]
        return {"label": f"{row}, seed {seed}", **seeded}


def tokenizer_of(row: str, config: TokenizerConfig) -> TokenizerConfig:
    """The config with the weights of the row's absent losses at 0."""
    absent = {f"{loss}_weight": 0.0 for loss in LOSSES if loss not in ROWS[row]}
    return replace(config, **absent)  # type: ignore[arg-type]
