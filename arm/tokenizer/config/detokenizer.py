"""The config of train-detokenizer."""

from dataclasses import dataclass, field
from typing import Literal

from arm.config import operational
from arm.errors import UserError
from arm.tokenizer.config.shared import FlowConfig, OptimizerConfig, ResolutionConfig

BackboneName = Literal["dit", "flux", "sana"]

LATENT_DIT = FlowConfig(patch=2, width=1152, num_blocks=28)
"""Size of our own DiT. Ours."""


@dataclass(frozen=True, kw_only=True)
class DetokenizerConfig:
    """train-detokenizer."""

    resolutions: tuple[ResolutionConfig, ...] = (
        ResolutionConfig(min_short_side=256, max_long_side=512),
        ResolutionConfig(min_short_side=512, max_long_side=1024),
    )
    """Sizes in training: each image draws one of them. Table 1's text-to-image pairs; ours for the detokenizer."""
    backbone: BackboneName = "flux"
    """What predicts the latents: flux (paper), FLUX.1-dev (19 + 38 blocks, width 3072, 12B parameters); sana,
    Sana1.5-1.6B (20 blocks, width 2240, the paper's ablation decoder); or dit, a DiT of ours with the size of `flow`, a
    departure. flux and sana start from the weights of the input `backbone` and take their size from them."""
    flow: FlowConfig = field(default_factory=lambda: LATENT_DIT)
    """The rectified flow (Eq. 5); its sizes count for the backbone dit alone."""
    embedded_guidance: float = 1.0
    """What FLUX.1-dev's guidance embedding is told, in training and rendering. Ours: 1, no guidance, as the loss asks."""
    source_condition: bool = False
    """Whether the latents of an edit's source are a second condition: ours, a departure."""
    source_drop: float = 0.5
    """Share of edits that learn without their source; only with source_condition. Ours."""
    null_condition: float = 0.1
    """Share of images whose codes are dropped, for guidance. BLIP3o's."""
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
    """Images a step, over all ranks. Ours."""
    micro_batch: int = 0
    """Images in one forward and backward pass, per rank; 0: a rank's whole share of the batch."""
    num_steps: int = 100_000
    """Ours."""
    ema_decay: float = 0.0
    """Decay of the running average of the weights that is published; 0 publishes the last weights. Ours."""
    max_images: int = 1_000_000
    """Images whose codes and latents are prepared on the working disk, at most (0.5 MB each at 1024 x 1024 with FLUX's
    VAE); every shard gives as many. Ours."""
    encode_batch: int = 128
    """Images encoded or rendered at a time, before and after training: part of the identity, because of rounding."""
    activation_checkpointing: bool = False
    """Whether flux and sana compute their blocks twice to hold fewer activations."""
    precision: Literal["auto", "float32", "bfloat16", "bfloat16_weights"] = "bfloat16"
    """Dtype of matrix products in training over float32 weights (auto: bfloat16 where hardware multiplies it). bfloat16_weights keeps the weights and their gradients in
    bfloat16, too, with float32 masters that are shared out over the ranks: what a backbone of FLUX's size needs. Ours."""
    seed: int = 0
    """Seed of weights, order, noise and times."""
    log_every: int = 10
    """Steps between lines of curves.jsonl."""
    threads: int = 2
    """Threads of torch: part of the identity."""
    save_every: int = operational(500)
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        if not self.resolutions:
            raise UserError("DetokenizerConfig.resolutions is empty; give at least one.")
        if not 0 <= self.null_condition < 1 or not 0 <= self.source_drop <= 1:
            raise UserError(
                f"DetokenizerConfig needs null_condition in [0, 1) and source_drop in [0, 1], not "
                f"{self.null_condition} and {self.source_drop}."
            )
        if self.guidance != 1 and self.null_condition == 0:
            raise UserError(
                f"DetokenizerConfig.guidance is {self.guidance} but null_condition is 0; train with 0.1, or set guidance to 1."
            )
        if not 0 <= self.ema_decay < 1 or self.micro_batch < 0:
            raise UserError("DetokenizerConfig needs ema_decay in [0, 1) and micro_batch of at least 0.")
        if min(self.batch_size, self.num_steps, self.sampling_steps, self.max_images, self.encode_batch) < 1:
            raise UserError("DetokenizerConfig needs counts, batches and steps of at least 1.")
        self._check_backbone()

    def _check_backbone(self) -> None:
        if self.backbone == "dit":
            if self.activation_checkpointing:
                raise UserError("activation_checkpointing has no effect on the backbone dit; leave it out.")
            return
        if self.flow.prediction != "velocity" or self.flow.skip:
            raise UserError(f"The weights of {self.backbone} predict a velocity; leave flow.prediction and skip alone.")
        sizes = (self.flow.width, self.flow.num_blocks, self.flow.num_heads, self.flow.patch)
        if sizes != (LATENT_DIT.width, LATENT_DIT.num_blocks, LATENT_DIT.num_heads, LATENT_DIT.patch):
            raise UserError(f"The size of {self.backbone} is that of its weights; leave flow's sizes out.")
