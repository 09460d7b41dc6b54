"""Configs of the visual tokenizer, the encoding of images and the detokenizer.

Defaults are the paper's (arXiv 2606.11188, section 3.1 and 4.1) where it states one; every departure is a named field
whose default is the paper's choice.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Literal

from arm.config import operational
from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights are updated."""

    name: Literal["adamw", "muon"] = "adamw"
    """adamw (paper), or muon for matrices with AdamW for the rest: fewer steps on small models, a departure."""
    learning_rate: float = 3e-4
    """Peak rate. Section 4.1."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Section 4.1."""
    weight_decay: float = 0.0
    """Ours: the paper gives none for the tokenizer."""
    warmup_steps: int = 2000
    """Ours, as in the paper's Table 1."""
    decay: Literal["constant", "linear"] = "constant"
    """After the warm-up: constant, or linearly to a fiftieth at the last step."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient. Ours."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise UserError(f"OptimizerConfig.learning_rate is {self.learning_rate}; it must be positive.")


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """A rectified flow: x_t = t x_1 + (1 - t) x_0 with noise x_0 and data x_1 (Eq. 2), learned by a DiT."""

    width: int = 1024
    """Width of the DiT. Ours."""
    num_blocks: int = 24
    """Section 3.1: 24 blocks."""
    num_heads: int = 16
    """Attention heads. Ours."""
    patch: int = 16
    """Side of a token in pixels (or latent positions); divides what one code covers. Ours."""
    prediction: Literal["velocity", "x"] = "velocity"
    """velocity x_1 - x_0 (paper), or x_1 itself with the velocity loss (JiT, arXiv 2511.13720): a departure."""
    time_sampling: Literal["uniform", "logit_normal"] = "uniform"
    """t ~ U[0, 1] (paper), or sigmoid(N(-0.8, 0.8)), skewed to noise: a departure."""
    skip: bool = False
    """Whether a linear map leads from the condition straight to the prediction of x_1: a departure, needs prediction x."""

    def __post_init__(self) -> None:
        if self.width % self.num_heads or self.width % 4:
            raise UserError(
                f"FlowConfig.width is {self.width}; it must divide by num_heads ({self.num_heads}) and by 4."
            )
        if self.skip and self.prediction != "x":
            raise UserError("FlowConfig.skip predicts x_1 directly; set prediction to 'x' with it.")


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

    height: int = 512
    """Pixels; images are resized to cover the bucket and centre-cropped."""
    width: int = 512
    """Pixels."""
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
    """Pairs a step. Section 4.1."""
    num_steps: int = 67_000
    """2.2B pairs at 32,768. Section 4.1."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype of matrix products in training; weights stay float32."""
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
    """Decoded images kept in memory between epochs, at most."""

    def __post_init__(self) -> None:
        if self.batch_size < 2 or self.num_steps < 1:
            raise UserError(
                f"TokenizerConfig needs batch_size >= 2 and num_steps >= 1, not {self.batch_size}, {self.num_steps}."
            )
        if (
            self.pixel_weight <= 0
            and self.caption_weight <= 0
            and self.sigmoid_weight <= 0
            and self.feature_weight <= 0
        ):
            raise UserError("TokenizerConfig has no loss: every weight is 0; give at least one a positive weight.")
        if not 0 < self.caption_fraction <= 1:
            raise UserError(f"TokenizerConfig.caption_fraction is {self.caption_fraction}; give a share in (0, 1].")
        if "{}" not in self.zero_shot_template:
            raise UserError(
                f"TokenizerConfig.zero_shot_template {self.zero_shot_template!r} has no '{{}}' for the class."
            )


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """tokenize-images."""

    height: int = 512
    """Pixels of the bucket."""
    width: int = 512
    """Pixels of the bucket."""
    batch_size: int = 256
    """Images encoded at a time: part of the identity, because rounding depends on it."""
    max_dropped_share: float = 0.01
    """The job fails when more than this share of the samples holds an unreadable image."""
    threads: int = 2
    """Threads of torch: part of the identity."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 <= self.max_dropped_share < 1:
            raise UserError("EncodeConfig needs batch_size >= 1 and max_dropped_share in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class DetokenizerConfig:
    """train-detokenizer."""

    height: int = 512
    """Pixels of the bucket."""
    width: int = 512
    """Pixels of the bucket."""
    flow: FlowConfig = field(default_factory=lambda: FlowConfig(patch=2, width=1152, num_blocks=28))
    """The latent DiT. Ours in size; the paper starts from FLUX.1-dev."""
    null_condition: float = 0.1
    """Share of images whose condition is dropped, for guidance. BLIP3o's."""
    sampling_steps: int = 28
    """Euler steps at rendering. Section 4.1."""
    guidance: float = 1.5
    """Classifier-free guidance at rendering; 1 switches it off. Section 4.1."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-4, weight_decay=0.05, warmup_steps=5000, gradient_clip=0.5, decay="linear"
        )
    )
    """BLIP3o's reconstruction branch; its cosine is linear here."""
    batch_size: int = 1024
    """Images a step. Ours."""
    num_steps: int = 100_000
    """Ours."""
    max_images: int = 100_000_000
    """Images whose codes and latents are prepared, at most; the first in shard order."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype of matrix products in training; weights stay float32."""
    seed: int = 0
    """Seed of weights, order, noise and times."""
    log_every: int = 10
    """Steps between lines of curves.jsonl."""
    threads: int = 2
    """Threads of torch: part of the identity."""
    save_every: int = operational(500)
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        if not 0 <= self.null_condition < 1:
            raise UserError(f"DetokenizerConfig.null_condition is {self.null_condition}; give a share in [0, 1).")
        if self.guidance != 1 and self.null_condition == 0:
            raise UserError(
                f"DetokenizerConfig.guidance is {self.guidance} but null_condition is 0; train with 0.1, or set guidance to 1."
            )
