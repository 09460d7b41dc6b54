"""Which model is asked, and how it draws and answers. Standard library only."""

from dataclasses import dataclass
from typing import Literal

from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model under evaluation. A setting that its kind has no use for is refused."""

    kind: str = "ours"
    """Name in `arm/evaluation/models/kinds.py:KINDS`: ours, huggingface, autoregressive, diffusers, openai, folder."""
    model: str = ""
    """Folder of the weights, of a release or of images; for an endpoint the name of the model there."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of weights and activations; auto: bfloat16 where hardware multiplies it, else float32."""
    batch_size: int = 1
    """Items at once; for an endpoint, requests in flight. Rounding depends on it, so the protocol names it."""
    image_size: int = 0
    """Side in pixels of the square whose area generated images have; 0 takes the model's own."""
    steps: int | None = None
    """Denoising steps of a diffusion pipeline, or of our detokenizer; empty takes the model's own."""
    guidance: float | None = None
    """Classifier-free guidance on the text; empty takes the model's own (ours: 1.5, ARM section 4.1)."""
    temperature: float | None = None
    """Temperature of drawn images; empty takes the model's own. Answers are always greedy."""
    max_tokens: int = 64
    """Longest answer, in tokens."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"ModelConfig.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.image_size < 0 or (self.steps is not None and self.steps < 1):
            raise UserError("ModelConfig.image_size must be 0 or more, and steps at least 1.")
        if self.temperature is not None and self.temperature < 0:
            raise UserError(f"ModelConfig.temperature is {self.temperature}; give 0 (the likeliest) or more.")
