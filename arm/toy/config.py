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


@dataclass(frozen=True, kw_only=True)
class SiglipTeacherConfig:
    """The image-text pair that stands in for SigLIP2."""

    width: int = 128
    """Hidden size of both towers."""
    num_vision_layers: int = 4
    """Blocks of the vision tower."""
    num_text_layers: int = 2
    """Blocks of the text tower."""
    num_heads: int = 4
    """Attention heads of both."""
    patch: int = 12
    """Side of a patch: one cell of the aligned world."""
    text_length: int = 40
    """Tokens that every text is padded to (SigLIP2: 64)."""
    dense_weight: float = 1.0
    """Weight of naming the content of each patch, the stand-in for SigLIP2's dense objectives; 0 leaves it out."""
    num_steps: int = 140
    """Steps of training."""
    batch_size: int = 128
    """Pairs a step."""
    learning_rate: float = 2e-3
    """Peak rate of Muon."""


@dataclass(frozen=True, kw_only=True)
class LanguageTeacherConfig:
    """The causal language model that stands in for Qwen2.5: it captions for the tokenizer and starts the big model."""

    width: int = 192
    """Hidden size."""
    num_layers: int = 5
    """Decoder layers."""
    num_heads: int = 6
    """Attention heads."""
    num_kv_heads: int = 2
    """Key and value heads."""
    mlp_width: int = 512
    """Hidden size of the MLPs."""
    vocabulary_size: int = 768
    """Byte-level BPE tokens at most, without the special ones."""
    num_steps: int = 800
    """Steps of training."""
    batch_size: int = 32
    """Texts a step."""
    learning_rate: float = 2e-3
    """Peak rate of Muon."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderTeacherConfig:
    """The VAE: diffusers' AutoencoderKL."""

    widths: tuple[int, ...] = (16, 32)
    """Channels at full, half, … resolution: n of them make a factor of 2^(n-1)."""
    latent_channels: int = 8
    """Channels of the latents."""
    kl_weight: float = 1e-5
    """Weight of the divergence from a unit normal."""
    num_steps: int = 340
    """Steps of training."""
    batch_size: int = 16
    """Images a step."""
    learning_rate: float = 6e-3
    """Peak rate of Muon."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """train-teachers."""

    seed: int = 1_000_003
    """Seed of scenes and weights; the scenes come from the training split, by other seeds than any world's."""
    scene: SceneConfig = DEFAULT
    """How scenes are drawn."""
    num_scenes: int = 12_000
    """Scenes drawn once for all three."""
    siglip: SiglipTeacherConfig = SiglipTeacherConfig()
    """Stands in for SigLIP2."""
    language_model: LanguageTeacherConfig = LanguageTeacherConfig()
    """Stands in for Qwen2.5."""
    autoencoder: AutoencoderTeacherConfig = AutoencoderTeacherConfig()
    """Stands in for the VAE of FLUX.1."""
    processes: int = operational(2)
    """Teachers that train at the same time, one thread each."""

    def __post_init__(self) -> None:
        if self.num_scenes < 1_000:
            raise UserError(f"TeacherConfig.num_scenes is {self.num_scenes}; give at least 1000.")
        if self.processes < 1:
            raise UserError(f"TeacherConfig.processes is {self.processes}; give at least 1.")
