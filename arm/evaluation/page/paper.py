"""What the paper states (arXiv 2606.11188), field by field: the report shows where a run departs from it.

A method is how something is done; a scale is how much of it. A toy run differs in every scale by intent, so only the
methods are called departures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from arm.evaluation.page.store import Step


@dataclass(frozen=True, slots=True)
class Stated:
    """One value of the paper, and where a job's config has it (`quantizer.levels`)."""

    job: str
    field: str
    value: Any
    source: str
    kind: Literal["method", "scale"] = "method"
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A value of a run beside the paper's."""

    step: str
    stated: Stated
    value: Any

    @property
    def departs(self) -> bool:
        """Whether the run does otherwise."""
        return bool(self.value != self.stated.value)


TOKENIZER, DETOKENIZER, MODEL, POLICY = "train-tokenizer", "train-detokenizer", "train-model", "train-policy"
STATED: tuple[Stated, ...] = (
    Stated(TOKENIZER, "caption_weight", 1.0, "Eq. 4"),
    Stated(TOKENIZER, "pixel_weight", 5.0, "Eq. 4"),
    Stated(TOKENIZER, "sigmoid_weight", 5.0, "Eq. 4"),
    Stated(TOKENIZER, "feature_weight", 1.0, "Eq. 4"),
    Stated(TOKENIZER, "loss_normalisation", "none", "Eq. 4"),
    Stated(TOKENIZER, "commitment_weight", 0.0, "Eq. 4"),
    Stated(TOKENIZER, "caption_fraction", 1.0, "Eq. 1"),
    Stated(TOKENIZER, "quantizer.levels", [2] * 16, "4.1"),
    Stated(TOKENIZER, "quantizer.pre_quantizer_norm", "none", "3.1"),
    Stated(TOKENIZER, "quantizer.projection_attention", "global", "3.1"),
    Stated(TOKENIZER, "quantizer.encoder_layers", [-1], "3.1"),
    Stated(TOKENIZER, "pixel.prediction", "velocity", "Eq. 2"),
    Stated(TOKENIZER, "pixel.time_sampling", "uniform", "Eq. 2"),
    Stated(TOKENIZER, "pixel.skip", False, "Eq. 2"),
    Stated(TOKENIZER, "optimizer.name", "adamw", "4.1"),
    Stated(TOKENIZER, "optimizer.betas", [0.9, 0.95], "4.1"),
    Stated(TOKENIZER, "optimizer.learning_rate", 3e-4, "4.1", "scale"),
    Stated(TOKENIZER, "quantizer.num_blocks", 6, "4.1", "scale"),
    Stated(TOKENIZER, "pixel.num_blocks", 24, "3.1", "scale"),
    Stated(TOKENIZER, "batch_size", 32_768, "4.1", "scale"),
    Stated(DETOKENIZER, "backbone", "flux", "3.1"),
    Stated(DETOKENIZER, "source_condition", False, "3.1"),
    Stated(DETOKENIZER, "flow.prediction", "velocity", "Eq. 5"),
    Stated(DETOKENIZER, "flow.time_sampling", "uniform", "Eq. 5"),
    Stated(DETOKENIZER, "flow.skip", False, "Eq. 5"),
    Stated(DETOKENIZER, "guidance", 1.5, "4.1"),
    Stated(DETOKENIZER, "sampling_steps", 28, "4.1", "scale"),
    Stated(MODEL, "loss_rows", "modality", "3.2"),
    Stated(MODEL, "new_rows_learning_rate", 1.0, "3.2"),
    Stated(MODEL, "decay_fraction", 0.0, "Table 1"),
    Stated(MODEL, "weight_decay", 0.0, "Table 1"),
    Stated(MODEL, "gradient_clip", 1.0, "Table 1"),
    Stated(MODEL, "betas", [0.9, 0.95], "Table 1"),
    Stated(MODEL, "z_loss", 0.0, "Eq. 6"),
    Stated(MODEL, "added_layers", 0, "3.2"),
    Stated(MODEL, "learning_rate", 2e-4, "Table 1", "scale", "pretrain"),
    Stated(MODEL, "learning_rate", 2e-4, "Table 1", "scale", "continue"),
    Stated(MODEL, "learning_rate", 5e-5, "Table 1", "scale", "finetune"),
    Stated(MODEL, "warmup_steps", 2_000, "Table 1", "scale", "pretrain"),
    Stated(MODEL, "warmup_steps", 2_000, "Table 1", "scale", "continue"),
    Stated(MODEL, "warmup_steps", 0, "Table 1", "scale", "finetune"),
    Stated(MODEL, "steps", 100_000, "Table 1", "scale", "pretrain"),
    Stated(MODEL, "steps", 100_000, "Table 1", "scale", "continue"),
    Stated(MODEL, "steps", 40_000, "Table 1", "scale", "finetune"),
    Stated(POLICY, "clip", 0.2, "Eq. 7"),
    Stated(POLICY, "kl_coefficient", 0.01, "Eq. 7"),
    Stated(POLICY, "betas", [0.9, 0.95], "Table 2"),
    Stated(POLICY, "weight_decay", 0.01, "Table 2"),
    Stated(POLICY, "top_p", 1.0, "Table 2"),
    Stated(POLICY, "top_k", 1000, "Table 2"),
    Stated(POLICY, "temperature", 0.7, "Table 2", "method", "t2i"),
    Stated(POLICY, "temperature", 1.0, "Table 2", "method", "edit"),
    Stated(POLICY, "temperature", 1.0, "Table 2", "method", "joint"),
    Stated(POLICY, "learning_rate", 3e-5, "Table 2", "scale", "t2i"),
    Stated(POLICY, "learning_rate", 5e-5, "Table 2", "scale", "edit"),
    Stated(POLICY, "learning_rate", 5e-5, "Table 2", "scale", "joint"),
    Stated(POLICY, "group_size", 16, "Table 2", "scale"),
    Stated(POLICY, "prompts_per_step", 64, "Table 2", "scale", "t2i"),
    Stated(POLICY, "prompts_per_step", 40, "Table 2", "scale", "edit"),
    Stated(POLICY, "prompts_per_step", 40, "Table 2", "scale", "joint"),
    Stated(POLICY, "steps", 280, "Table 2", "scale", "t2i"),
    Stated(POLICY, "steps", 100, "Table 2", "scale", "edit"),
    Stated(POLICY, "steps", 200, "Table 2", "scale", "joint"),
)
"""Loss weights, methods and scales; a field that a config lacks is passed over."""


def compare(step: Step) -> Iterator[Compared]:
    """The run's values beside the paper's, in the order of STATED."""
    config = step.manifest.config
    for stated in STATED:
        if stated.job == step.manifest.job and stated.stage in ("", config.get("stage")):
            found, value = look_up(config, stated.field)
            if found:
                yield Compared(step=step.name, stated=stated, value=value)


def look_up(config: Any, path: str) -> tuple[bool, Any]:
    """(whether it is there, the value) of a dotted field: {"pixel": {"skip": true}}, pixel.skip -> (True, true)."""
    for name in path.split("."):
        if not isinstance(config, dict) or name not in config:
            return False, None
        config = config[name]
    return True, config
