"""Configs of a training stage."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Literal

from arm.config import added, operational, suggest
from arm.errors import UserError

Shape = Literal["linear", "cosine", "constant"]
"""How a share goes from one point to the next; "constant" keeps it and jumps there: piecewise constant shares."""
Point = tuple[float, float] | tuple[float, float, Shape]
Schedule = tuple[Point, ...]
"""Points (place, share) or (place, share, shape of the way to the next point; else linear). One point: a constant share.

    ((0.0, 0.7),)    ((0.0, 0.7), (1.0, 0.5))    ((0.0, 0.7, "cosine"), (1.0, 0.5))    ((0.0, 0.7, "constant"), (0.5, 0.5))
"""


@dataclass(frozen=True, kw_only=True)
class EpochLimit:
    """When a kind of document ends, and what then."""

    max_epochs: int = 1
    """Epochs after which it has ended."""
    at_end: Literal["repeat", "renormalise", "stop"] = "repeat"
    """Go on and count it, give its share to the others in proportion to theirs, or end the stage."""

    def __post_init__(self) -> None:
        if self.max_epochs < 1:
            raise UserError(f"EpochLimit.max_epochs is {self.max_epochs}; it must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """What the model reads: the share of tokens of each of the five sources of the paper (Table 1)."""

    text_only: Schedule = ((0.0, 0.05),)
    """Share of documents without an image (Table 1: .05, .05, .05)."""
    image_to_text: Schedule = ((0.0, 0.10),)
    """Share of captions and questions (Table 1: .10, .10, .05)."""
    text_to_image: Schedule = ((0.0, 0.70),)
    """Share of captions followed by their image (Table 1: .70, .55, .50)."""
    interleaved_video: Schedule = ((0.0, 0.10),)
    """Share of frame sequences with texts (Table 1: .10, .15, .20)."""
    interleaved_web: Schedule = ((0.0, 0.05),)
    """Share of web pages and edits (Table 1: .05, .15, .20)."""
    caption_share: float = 0.3
    """Part of image_to_text that are captions; the rest are questions (ours)."""
    edit_share: float = 0.8
    """Part of interleaved_web that are edits; the rest are pages (ours)."""
    drop_text: float = 0.1
    """Text-to-image documents that lose their text, for guidance; they keep the shape tokens (ours)."""
    edit_drop_text: float = 0.05
    """Edits that lose their instruction (ours)."""
    edit_drop_image: float = 0.05
    """Edits that lose their source image (ours)."""
    edit_drop_both: float = 0.05
    """Edits that lose both; the three are exclusive (ours)."""
    grid_sides: tuple[int, int] = (1, 1024)
    """Shortest and longest side, in codes, of images that documents may hold (Table 1's resolutions over the patch)."""
    schedule_unit: Literal["fraction", "tokens", "steps"] = "fraction"
    """Unit of the places in schedules: parts of the stage, tokens, or steps. A step is rows_per_step × sequence_length
    tokens here: the padding of rows (below .5% at 80K) makes the share reach a point that much after its step."""
    limits: Mapping[str, EpochLimit] = field(default_factory=dict)
    """Kind of document -> when it ends; a kind that is not named repeats without end (ours)."""
    too_long: Literal["drop", "refuse"] = "drop"
    """A document longer than a row is left out and counted, or refused; it is never cropped (ours)."""
    variant_share: float = 0.0
    """Documents whose texts are exchanged for one of their variants, of a caption the longer description (ours)."""
    frame_strides: tuple[int, ...] = (1,)
    """Every k-th frame of a video is kept, with its texts; k is drawn from these (ours)."""
    variant_weights: tuple[float, ...] = ()
    """Weights of StageConfig.variants for tasks that several of them hold: each epoch a sample is read in one; none: a
    task in two variants is refused (ours)."""
    window_rows: int = 64
    """Rows open at once while documents are packed by best fit (ours)."""
    shuffle_shards: int = 16
    """Shards open at once while their documents are shuffled (ours)."""

    def __post_init__(self) -> None:
        for name in SOURCES:
            _check_schedule(name, getattr(self, name), self.schedule_unit)
        for place in _places_to_check([getattr(self, name) for name in SOURCES]):
            total = sum(share_at(getattr(self, name), place) for name in SOURCES)
            if abs(total - 1) > 1e-6:
                raise UserError(
                    f"The shares of the five sources add up to {total:.4f} at {place:g}; they must add up to 1 everywhere "
                    "(what falls and what rises need the same shape)."
                )
        for name in ("caption_share", "edit_share", "drop_text", "variant_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"MixtureConfig.{name} is {getattr(self, name)}; give a share of 0 to 1.")
        drops = (self.edit_drop_text, self.edit_drop_image, self.edit_drop_both)
        if min(drops) < 0 or sum(drops) > 1:
            raise UserError(f"The three drops of an edit are {drops}; they exclude each other and add up to at most 1.")
        if not 1 <= self.grid_sides[0] <= self.grid_sides[1]:
            raise UserError(f"MixtureConfig.grid_sides is {self.grid_sides}; give (shortest, longest).")
        for kind in self.limits:
            if kind not in (kinds := [item.name for item in fields(KindWeights)]):
                raise UserError(f"MixtureConfig.limits has no kind of document {kind!r}; {suggest(kind, kinds)}")
        if self.window_rows < 1 or self.shuffle_shards < 1:
            raise UserError("MixtureConfig.window_rows and shuffle_shards must be at least 1.")
        if not self.frame_strides or not all(1 <= stride <= MAX_STRIDE for stride in self.frame_strides):
            raise UserError(f"MixtureConfig.frame_strides is {self.frame_strides}; give strides of 1 to {MAX_STRIDE}.")
        if self.variant_weights and (min(self.variant_weights) < 0 or sum(self.variant_weights) <= 0):
            raise UserError(f"MixtureConfig.variant_weights is {self.variant_weights}; give weights above 0.")


@dataclass(frozen=True, kw_only=True)
class KindWeights:
    """Weight in the loss of the targets of each kind of document, on top of its modality's (ours: 1)."""

    text: float = 1.0
    """Text without an image."""
    caption: float = 1.0
    """Captions of an image."""
    question: float = 1.0
    """Answers about an image."""
    text_to_image: float = 1.0
    """Images from a text."""
    interleaved_video: float = 1.0
    """Frames with texts."""
    edit: float = 1.0
    """Edited images."""
    interleaved_web: float = 1.0
    """Pages with images."""

    def __post_init__(self) -> None:
        weights = vars(self)
        if not all(weight >= 0 for weight in weights.values()) or not any(weights.values()):
            raise UserError(f"KindWeights are {weights}; none may be below 0, and one must be above.")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of training. The defaults are the paper's pretraining (Table 1) where it states them."""

    stage: Literal["pretrain", "continue", "finetune"] = "pretrain"
    """Which stage of Table 1: the first starts from the language model, the others from the stage before."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """What is read."""
    variants: tuple[str, ...] = ()
    """Variants of the token shards that are read together (EncodeConfig.variants), each task in one; none: the only one."""
    steps: int = 100_000
    """Optimiser steps (Table 1)."""
    sequence_length: int = 81_920
    """Tokens of a packed row (Table 1: 80K). No document may be longer."""
    rows_per_step: int = 200
    """Rows of one step over all ranks (Table 1 states GPUs and not rows; one row a GPU is ours)."""
    rows_per_micro_batch: int = 1
    """Rows of one forward and backward pass on a rank; the rest is accumulated (ours)."""
    learning_rate: float = 2e-4
    """Constant after the warm-up (Table 1: 2e-4, 2e-4, 5e-5)."""
    new_rows_learning_rate: float = 1.0
    """Factor on the learning rate of the embedding and the head (1: none, the paper's)."""
    warmup_steps: int = 2_000
    """Linear warm-up (Table 1: 2,000, 2,000, 0)."""
    decay_fraction: float = 0.0
    """Last part of the stage over which the rate falls linearly to a tenth (0: constant, the paper's)."""
    weight_decay: float = 0.0
    """Table 1: 0."""
    gradient_clip: float = 1.0
    """Table 1: 1.0."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Table 1: (0.9, 0.95)."""
    epsilon: float = 1e-15
    """AdamW's eps (not stated; BAGEL's)."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW (the paper's), or Muon for the matrices of the layers and AdamW for the rest."""
    muon_learning_rate: float = 0.02
    """Learning rate of Muon's matrices (no effect with adamw)."""
    loss_rows: Literal["modality", "all"] = "modality"
    """Rows of the head that the softmax runs over: those of the target's modality (the paper's separate head), or all."""
    loss_on: Literal["targets", "openings", "all"] = "targets"
    """Learn what the model will be asked for (codes to draw, answers, interleaved parts); that and where interleaved
    documents open an image, which a model needs to write texts and images as it likes; or every token (ours)."""
    text_weight: float = 1.0
    """Weight of a text target in the loss (ours)."""
    code_weight: float = 1.0
    """Weight of a code target in the loss (ours)."""
    kind_weights: KindWeights = field(default_factory=KindWeights)
    """Weights by kind of document, multiplied by the modality's; the loss is a mean under these weights."""
    z_loss: float = 0.0
    """Weight of the squared log-normaliser beside a target's cross-entropy (ours: off)."""
    loss_chunk: int = 8_192
    """Targets whose logits exist at once; a longer row goes through in checkpointed chunks."""
    code_initialisation: Literal["mean", "digits", "features", "captions"] = "mean"
    """New code rows start as the mean row plus noise, or as a map of their FSQ digits, or of the tokenizer's features, or
    as the vectors that the tokenizer's caption loss taught the base to read (the base must be that caption model)."""
    num_shapes: int = 128
    """Shape tokens: the longest grid side in codes. The first stage decides; later ones must say the same."""
    added_layers: int = 0
    """Layers put on top of the language model at the first stage; they start as the identity (0: the paper's)."""
    dtype: Literal["auto", "bfloat16", "float32"] = "bfloat16"
    """Type of weights, activations and gradients; the optimiser keeps float32 masters. auto: bfloat16 on a GPU or a CPU
    with AMX or AVX512_BF16, else float32; the bytes then depend on the machine and the content key does not: the manifest's
    metric `bits` says which it was, and a checkpoint of the other type is refused."""
    gradient_dtype: Literal["model", "float32"] = added("model")
    """Type in which gradients are added up over micro-batches and ranks: the model's, or float32, as Megatron-LM does."""
    engine: Literal["deepspeed", "torch"] = "deepspeed"
    """DeepSpeed, or plain PyTorch as the reference."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO stage (no effect with torch)."""
    sequence_parallel: Literal[1, 2, 4] = 1
    """Ranks that share each row, its tokens split among them (Ulysses); it must divide the model's key-value heads."""
    ema_decay: float = 0.0
    """Decay of a moving average of the weights, which is then published in their place (0: none; the paper names none)."""
    activation_checkpointing: bool = False
    """Recompute layers in the backward pass."""
    seed: int = 0
    """Of the order of data, the drops and the new rows."""
    validate_every: int = 1_000
    """Steps between held-out losses; they are always measured at the end."""
    validation_documents: int = 256
    """Held-out documents of each kind, the first that fit a micro-batch; longer ones are counted (`dropped/too_long/held_out/KIND`)."""
    checkpoint_every_steps: int = operational(1_000)
    """Steps between checkpoints."""
    checkpoint_every_seconds: float = operational(600.0)
    """Seconds between checkpoints, whichever comes first."""
    checkpoints_kept: int = operational(2)
    """Newest checkpoints that are kept."""
    checkpoint_kept_every_steps: int = operational(0)
    """Checkpoints at multiples of so many steps are kept, too, until the stage is complete (0: none)."""
    max_skipped: int = operational(10)
    """Steps in a row that may be skipped as their loss or gradient is not finite, or a spike, before the run stops."""
    spike_deviations: float = 0.0
    """A loss so many median absolute deviations above the median is a spike, and its step is skipped (ours: 0, off)."""
    spike_window: int = 100
    """Losses that the median is taken over (no effect without spike_deviations)."""
    heartbeat_floor_seconds: float = operational(300.0)
    """A step may last ten times the 95th percentile of the last steps, and this at least; then the run is restarted."""
    heartbeat_first_seconds: float = operational(1_800.0)
    """The same for the first steps, for held-out losses and for saving."""
    log_every: int = 10
    """Steps between entries of the curves; losses are means over them."""

    def __post_init__(self) -> None:
        for bound, names in _LEAST.items():
            for name in names:
                if not getattr(self, name) >= bound:  # so that nan is refused, too
                    raise UserError(f"StageConfig.{name} is {getattr(self, name)}; it must be at least {bound}.")
        for name in _ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise UserError(f"StageConfig.{name} is {getattr(self, name)}; it must be above 0.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"StageConfig.betas are {self.betas}; give two of 0 to below 1 (Table 1: 0.9, 0.95).")
        if len(set(self.variants)) < len(self.variants):
            raise UserError(
                f"StageConfig.variants names one twice: {', '.join(self.variants)}; its samples would repeat."
            )
        if not self.text_weight + self.code_weight:
            raise UserError("StageConfig.text_weight and code_weight are both 0: nothing would be learned; raise one.")
        if not 0 <= self.decay_fraction <= 1:
            raise UserError(f"StageConfig.decay_fraction is {self.decay_fraction}; give 0 to 1.")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"StageConfig.ema_decay is {self.ema_decay}; give 0 (none) to below 1 (BAGEL: 0.9999).")
        if self.engine == "torch" and self.zero_stage != 1:
            raise UserError("StageConfig.zero_stage has no effect with the engine 'torch': leave it out.")
        if self.gradient_dtype != "model" and self.dtype != "float32" and self.zero_stage == 0:
            raise UserError(
                f"gradient_dtype is {self.gradient_dtype!r}, but ZeRO stage 0 of DeepSpeed adds gradients up in the model's "
                "type; use zero_stage 1, 2 or 3."
            )
        if self.optimizer == "muon" and self.zero_stage == 3:
            raise UserError("Muon needs whole matrices and ZeRO stage 3 cuts each of them; use zero_stage 2, or adamw.")
        if self.optimizer == "adamw" and self.muon_learning_rate != 0.02:
            raise UserError("StageConfig.muon_learning_rate has no effect with the optimizer 'adamw': leave it out.")
        if not self.spike_deviations and self.spike_window != 100:
            raise UserError("StageConfig.spike_window has no effect without spike_deviations: leave it out.")
        if self.stage != "pretrain" and (self.added_layers or self.code_initialisation != "mean"):
            raise UserError(f"added_layers and code_initialisation have no effect in {self.stage}: leave them out.")


_LEAST: dict[int, tuple[str, ...]] = {
    1: (
        "steps", "sequence_length", "rows_per_step", "rows_per_micro_batch", "loss_chunk", "num_shapes", "validate_every",
        "checkpoint_every_steps", "log_every", "checkpoints_kept", "spike_window",
    ),
    0: (
        "checkpoint_kept_every_steps", "max_skipped", "spike_deviations", "warmup_steps", "weight_decay", "added_layers",
        "validation_documents", "seed", "text_weight", "code_weight", "z_loss",
    ),
}  # fmt: skip
"""The least value of fields."""
_ABOVE_ZERO = (
    "learning_rate", "new_rows_learning_rate", "muon_learning_rate", "epsilon", "gradient_clip", "heartbeat_floor_seconds",
    "heartbeat_first_seconds", "checkpoint_every_seconds",
)  # fmt: skip

SOURCES = ("text_only", "image_to_text", "text_to_image", "interleaved_video", "interleaved_web")
"""The five sources of Table 1."""


MAX_STRIDE = 255
"""The largest frame stride that a plan can note."""


def shape_of(point: Point) -> Shape:
    """The shape of the way from a point to the next."""
    return point[2] if len(point) == 3 else "linear"


def share_at(schedule: Schedule, place: float) -> float:
    """The share at a place.

    ((0, .7), (1, .5)) at .25  ->  .65      with "cosine"  ->  .7 − .2 (1 − cos 45°) / 2 = .6707      "constant"  ->  .7
    """
    before = schedule[0]
    for point in schedule:
        if point[0] > place:
            passed = (place - before[0]) / (point[0] - before[0])
            return before[1] + (point[1] - before[1]) * _SHAPES[shape_of(before)](passed)
        before = point
    return before[1]


_SHAPES: dict[Shape, Callable[[float], float]] = {
    "linear": lambda passed: passed,
    "cosine": lambda passed: (1 - math.cos(math.pi * passed)) / 2,
    "constant": lambda passed: 0.0,
}


def _places_to_check(schedules: list[Schedule]) -> list[float]:
    """Every point, and three places between neighbours: there shapes differ."""
    points = sorted({point[0] for schedule in schedules for point in schedule})
    between = [a + (b - a) * part for a, b in pairwise(points) for part in (0.25, 0.5, 0.75)]
    return sorted(points + between)


def _check_schedule(name: str, schedule: Schedule, unit: str) -> None:
    places = [point[0] for point in schedule]
    if not schedule or places[0] != 0 or places != sorted(set(places)) or (unit == "fraction" and places[-1] > 1):
        raise UserError(
            f"MixtureConfig.{name} is {schedule}; give rising points (place in {unit}, share) that start at 0."
        )
    if any(not 0 <= point[1] <= 1 for point in schedule):
        raise UserError(f"MixtureConfig.{name} is {schedule}; shares lie between 0 and 1.")
