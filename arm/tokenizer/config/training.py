"""The config of train-tokenizer."""

from dataclasses import dataclass, field
from math import prod
from typing import Literal

from arm.config import operational
from arm.errors import UserError
from arm.tokenizer.config.shared import FlowConfig, OptimizerConfig, ResolutionConfig


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """The trained part around the codes: projection in, FSQ, projection out."""

    levels: tuple[int, ...] = (2,) * 16
    """FSQ levels: 2^16 = 65,536 codes. Section 4.1."""
    num_blocks: int = 6
    """Blocks of each projection. Section 4.1; 'each' is ours."""
    width: int = 1152
    """Width of the projections: the encoder's (SigLIP2-SO400M)."""
    num_heads: int = 16
    """Attention heads of the projections: the encoder's."""
    projection_attention: Literal["global", "patch"] = "global"
    """global (paper), or patch: a code sees its own patch alone, so that objects do not leak; a departure."""
    encoder_layers: tuple[int, ...] = (-1,)
    """Hidden states that enter: -1 the last features (paper), 0 the patch embeddings, i after block i; summed by learned
    linear maps. Shallow ones are a departure."""
    pre_quantizer_norm: Literal["none", "batch"] = "none"
    """none (paper), or batch: batch normalisation without scale before the bound; a departure."""

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2 or prod(self.levels) > 65_536:
            raise UserError(f"QuantizerConfig.levels is {self.levels}; give levels of 2 or more, at most 65,536 codes.")
        if not self.encoder_layers:
            raise UserError("QuantizerConfig.encoder_layers is empty; name at least one hidden state, -1 for the last.")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """train-tokenizer."""

    resolutions: tuple[ResolutionConfig, ...] = (ResolutionConfig(min_short_side=256, max_long_side=512),)
    """Sizes in training: each image draws one of them in each epoch. The encoder's 512 (section 3.1), with Table 1's smaller
    pair for its lower bound; the paper does not say how the tokenizer's images are sized."""
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    """Projections and codes."""
    caption_weight: float = 1.0
    """Weight of the frozen language model's cross-entropy. Eq. 4."""
    pixel_weight: float = 5.0
    """Weight of the rectified flow in pixels. Eq. 4."""
    sigmoid_weight: float = 5.0
    """Weight of the sigmoid image-text loss. Eq. 4."""
    feature_weight: float = 1.0
    """Weight of the cosine distance to the encoder's features. Eq. 4."""
    loss_normalisation: Literal["none", "running"] = "none"
    """none (paper), or running: each loss divided by its running mean before weighting; a departure."""
    commitment_weight: float = 0.0
    """Weight of the squared distance from bounded values to their codes: steadier codes; 0 in the paper, a departure."""
    pixel: FlowConfig = field(default_factory=FlowConfig)
    """The pixel DiT, which only supervises."""
    caption_length: int = 256
    """Caption tokens that enter the caption loss. Ours."""
    caption_fraction: float = 1.0
    """Share of the batch that the caption loss reads: 1 (paper); less is a departure that saves time."""
    zero_shot_classes: tuple[str, ...] = ()
    """Class names; a held-out image whose caption names exactly one of them tests zero-shot accuracy."""
    zero_shot_template: str = "a photo of a {}"
    """Prompt of a class."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Section 4.1."""
    batch_size: int = 32_768
    """Pairs a step, over all ranks. Section 4.1."""
    micro_batch: int = 0
    """Pairs in one forward and backward pass of a rank, at most; 0: a rank's whole share. The sigmoid loss sees the texts of
    the whole batch either way."""
    ema_decay: float = 0.0
    """Decay of the running average of the weights that is published; 0 publishes the last weights. Ours."""
    num_steps: int = 67_000
    """2.2B pairs at 32,768. Section 4.1."""
    precision: Literal["auto", "float32", "bfloat16"] = "bfloat16"
    """Dtype of matrix products in training; weights stay float32. auto: bfloat16 where hardware multiplies it."""
    seed: int = 0
    """Seed of weights, order, noise and times."""
    num_held_out: int = 10_000
    """At most this many pairs are held out (1% by uid hash) for the metrics."""
    window_shards: int = 16
    """Shards that are shuffled together."""
    log_every: int = 10
    """Steps between lines of curves.jsonl."""
    threads: int = 2
    """Threads of torch: part of the identity, because sums depend on it."""
    save_every: int = operational(500)
    """Steps between checkpoints."""
    cache_bytes: int = operational(4 << 30)
    """Decoded images kept in memory between epochs, at most, on each rank."""
    decode_threads: int = operational(2)
    """Threads that decode a rank's images."""

    def __post_init__(self) -> None:
        if self.batch_size < 2 or self.num_steps < 1:
            raise UserError(
                f"TokenizerConfig needs batch_size >= 2 and num_steps >= 1, not {self.batch_size}, {self.num_steps}."
            )
        weights = {name: getattr(self, f"{name}_weight") for name in ("caption", "pixel", "sigmoid", "feature")}
        if min(*weights.values(), self.commitment_weight) < 0:
            raise UserError(f"TokenizerConfig has a weight below 0 among {weights}; 0 switches a loss off.")
        if not any(weights.values()):
            raise UserError("TokenizerConfig has no loss: every weight is 0; give at least one a positive weight.")
        if not self.resolutions:
            raise UserError("TokenizerConfig.resolutions is empty; name at least one pair of sides.")
        if self.micro_batch < 0 or not 0 <= self.ema_decay < 1:
            raise UserError(
                f"TokenizerConfig needs micro_batch >= 0 and ema_decay in [0, 1), not {self.micro_batch}, "
                f"{self.ema_decay}."
            )
        if not 0 < self.caption_fraction <= 1:
            raise UserError(f"TokenizerConfig.caption_fraction is {self.caption_fraction}; give a share in (0, 1].")
        if self.caption_weight > 0 and self.caption_fraction * self.batch_size < 1:
            raise UserError(
                f"TokenizerConfig.caption_fraction {self.caption_fraction} of {self.batch_size} pairs is none; raise it, or "
                "set caption_weight to 0."
            )
        if "{}" not in self.zero_shot_template:
            raise UserError(
                f"TokenizerConfig.zero_shot_template {self.zero_shot_template!r} has no '{{}}' for the class."
            )
