"""What the configs of tokenizer and detokenizer share: resolution, optimizer, rectified flow."""

from dataclasses import dataclass
from typing import Literal

from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ResolutionConfig:
    """Which sizes images are brought to: aspect kept, both sides multiples of the patch (Table 1's pairs)."""

    min_short_side: int = 256
    """Pixels: a smaller image is enlarged until its short side reaches this."""
    max_long_side: int = 512
    """Pixels: never exceeded; a very long image stays below min_short_side rather than above this."""

    def __post_init__(self) -> None:
        if not 0 < self.min_short_side <= self.max_long_side:
            raise UserError(
                f"ResolutionConfig needs 0 < min_short_side <= max_long_side, not {self.min_short_side}, "
                f"{self.max_long_side}."
            )

    @classmethod
    def within(cls, side: int) -> "ResolutionConfig":
        """Sizes whose longer side is `side`: a square of that side, or less."""
        return cls(min_short_side=side, max_long_side=side)


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
