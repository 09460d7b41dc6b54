"""Configs of the toy world and its teachers."""

from dataclasses import dataclass
from typing import Literal

from arm.config import operational
from arm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """How a scene is drawn."""

    aligned: bool = True
    """Objects sit in the cells of a 3x3 grid; False: anywhere without touching, the harder world."""
    max_objects: int = 4
    """Between 1 and this many objects, at most 4."""
    jitter_pixels: float = 0.8
    """How far an object may lie from its cell's centre, per axis."""
    noise: float = 3.0
    """Standard deviation of the pixel noise, in grey levels of 255."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_objects <= 4:
            raise UserError(f"SceneConfig.max_objects is {self.max_objects}; give 1 to 4.")
        if not 0 <= self.jitter_pixels <= 1:
            raise UserError(
                f"SceneConfig.jitter_pixels is {self.jitter_pixels}; give 0 to 1, or objects leave their cell."
            )


DEFAULT = SceneConfig()


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """make-world: how much of everything is made."""

    seed: int = 0
    """Draws everything; no two parts share a stream of random numbers."""
    scene: SceneConfig = DEFAULT
    """How scenes are drawn."""
    num_pages: int = 400
    """HTML pages of the site."""
    num_images: int = 3_000
    """Good, distinct images on them, captioned truly."""
    junk_share: float = 0.4
    """Faulty items (dead links, duplicates, icons, foreign text, ...) for each good image."""
    num_captions: int = 16_000
    """Captioned images to import: three in four for text-to-image, the fourth with a long caption."""
    num_questions: int = 10_000
    """Images with questions to import."""
    questions_per_image: int = 4
    """Questions about each."""
    num_edits: int = 12_000
    """Edit triplets (source, instruction, target) to import."""
    num_documents: int = 1_500
    """Interleaved web documents to import."""
    num_videos: int = 1_500
    """Frame sequences to import."""
    num_texts: int = 3_000
    """Text-only documents to import."""
    num_prompts: int = 2_000
    """Prompts for text-to-image RL."""
    num_edit_prompts: int = 1_000
    """Source images with instructions for edit RL."""
    evaluation_split: Literal["evaluation", "tuning"] = "evaluation"
    """Which held-out scenes make the evaluation sets; choose settings on 'tuning' only."""
    evaluation_prompts_per_category: int = 200
    """Held-out prompts in each of GenEval's six categories."""
    evaluation_questions: int = 600
    """Held-out images with questions."""
    evaluation_edits: int = 400
    """Held-out edits."""
    evaluation_captions: int = 600
    """Held-out images with full captions: reconstruction, zero-shot, distances."""
    samples_per_shard: int = 2_000
    """Samples of one tar or Parquet file."""
    workers: int = operational(2)
    """Processes that draw at the same time; 1 draws in this process."""

    def __post_init__(self) -> None:
        if self.num_pages < 1 or self.samples_per_shard < 1 or self.workers < 1:
            raise UserError("WorldConfig.num_pages, samples_per_shard and workers must be at least 1.")
        if not 1 <= self.questions_per_image <= 6:
            raise UserError(f"WorldConfig.questions_per_image is {self.questions_per_image}; give 1 to 6.")
        if not 0 <= self.junk_share <= 10:
            raise UserError(f"WorldConfig.junk_share is {self.junk_share}; give 0 to 10.")
