"""The config of train-detokenizer."""

from dataclasses import dataclass, field
from typing import Literal

from arm.config import operational
from arm.errors import UserError
from arm.tokenizer.config.shared import FlowConfig, OptimizerConfig


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
