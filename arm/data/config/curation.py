"""Config of curate-images."""

from dataclasses import dataclass

from arm.config import operational
from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SourceRule:
    """Bounds of one source (or `*` for all others) in curate-images; None switches a bound off."""

    source: str = "*"
    """Name of the source, as in Sample.source."""
    min_side: int | None = None
    """Shortest side of the image as it was found, pixels: 200 for understanding, 512 for generation."""
    max_aspect: float | None = 3.0
    """Longest side over shortest."""
    min_entropy: float | None = None
    """Entropy of the grey values, bits: blank images have 0."""
    min_sharpness: float | None = None
    """Variance of the Laplacian of the grey values: blurred images have little."""
    min_similarity: float | None = None
    """Cosine of SigLIP's image and caption embeddings; needs the input `scorer`."""
    near_duplicates: bool = True
    """Drop all but the best of images that look alike; otherwise only exact copies."""


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """curate-images: scores, duplicates, contamination, final shards."""

    rules: tuple[SourceRule, ...] = (SourceRule(),)
    """The first rule whose source fits decides."""
    near_distance: int = 4
    """Perceptual hashes (64 bits) that differ in at most so many bits count as the same image; 0 to 7."""
    verify_difference: float = 24.0
    """Images with near hashes are verified: the largest difference between their 12 × 12 thumbnails, levels 0-255. Ours."""
    evaluation_distance: int = 4
    """The same for images of the evaluation set; 0: the same hash."""
    scorer_path: str = "model"
    """Folder of the SigLIP checkpoint inside the input `scorer`."""
    scorer_batch: int = 256
    """Images scored at once: part of the identity, because rounding depends on it."""
    samples_per_shard: int = 10_000
    """Samples of one final shard."""
    workers: int = operational(2)
    """Processes that decode and score."""

    def __post_init__(self) -> None:
        if not 0 <= self.near_distance <= 7 or not 0 <= self.evaluation_distance <= 7:
            raise UserError("CurateConfig.near_distance and evaluation_distance must lie between 0 and 7 bits.")
        if self.samples_per_shard < 1 or self.workers < 1:
            raise UserError("CurateConfig.samples_per_shard and workers must be at least 1.")
        if self.rules and self.rules[-1].source != "*":
            raise UserError("CurateConfig.rules must end with a rule for the source '*', which takes all others.")
