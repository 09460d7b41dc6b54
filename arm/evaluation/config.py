"""What `evaluate-model` may be told."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from arm.config import added, suggest
from arm.errors import UserError
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.official.config import OFFICIAL, OfficialConfig
from arm.tokenizer.config import ResolutionConfig

BENCHMARKS: dict[str, str] = {
    "real_images": "arm.evaluation.reconstruction:RealImages",
    "reconstruction": "arm.evaluation.reconstruction:Reconstruction",
    "zero_shot": "arm.evaluation.zero_shot:ZeroShot",
    "tokenizer_zero_shot": "arm.evaluation.zero_shot:TokenizerZeroShot",
    "copy_source": "arm.evaluation.editing:CopySource",
    "constant_answer": "arm.evaluation.understanding:ConstantAnswer",
    "text_to_image": "arm.evaluation.generation:TextToImage",
    "editing": "arm.evaluation.editing:Editing",
    "editing_with_source": "arm.evaluation.editing:EditingWithSource",
    "understanding": "arm.evaluation.understanding:Understanding",
}
"""Our own benchmarks, name -> class. Those of the subject `reference` run once, the others at every training stage."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How images are drawn from the model."""

    temperature: float = 1.0
    """Divides the logits before the softmax; 0 takes the likeliest code. The paper does not say: 1.0 is ours."""
    top_k: int = 0
    """Only the k most likely codes may be drawn; 0 keeps all of them."""
    top_p: float = 1.0
    """Only the most likely codes that together reach this probability may be drawn."""
    guidance_text: float = 1.5
    """Classifier-free guidance on the text; 1 switches it off. ARM, section 4.1: 1.5."""
    guidance_image: float = 1.25
    """Guidance on the source image of an edit; 1 switches it off. ARM, section 4.1: 1.25."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise UserError(f"SamplingConfig.temperature is {self.temperature}; give 0 (always the likeliest) or more.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"SamplingConfig.top_p is {self.top_p}; it must lie in (0, 1].")
        if self.top_k < 0:
            raise UserError(f"SamplingConfig.top_k is {self.top_k}; give 0 for all codes, or a positive number.")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is measured, on how many items, and how images are sampled."""

    benchmarks: tuple[str, ...] = (
        "real_images",
        "reconstruction",
        "zero_shot",
        "copy_source",
        "constant_answer",
        "text_to_image",
        "editing",
        "understanding",
    )
    """What is measured, in this order. Of our own on the store's held-out items: real_images, reconstruction, zero_shot,
    tokenizer_zero_shot, copy_source, constant_answer, text_to_image, editing, editing_with_source, understanding. Other
    authors', with their data: geneval, dpg, wise, wise_verified, gedit_en, gedit_cn, imgedit, pope, mmbench, mme, mmmu,
    gqa, seed, vqav2, imagenet."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """A model that is no stage of this store: any release, rival or endpoint; asked by other authors' benchmarks alone."""
    official: OfficialConfig = field(default_factory=OfficialConfig)
    """Data, detector and judge of other authors' benchmarks."""
    checker: str = ""
    """Module with `check_prompt(image, meta)` and `check_edit(image, source_image, meta)`: the verifier of the toy
    world, or a detector with GenEval's rule. Benchmarks that need one are refused without it."""
    prompts_per_category: int = 200
    """Text-to-image prompts of each category, taken in order of their uid."""
    max_questions: int = 300
    """Questions asked, an equal number of each kind while they last."""
    max_edits: int = 300
    """Edits asked for, an equal number of each operation while they last."""
    max_images: int = 1000
    """Real images that are read by the checker, reconstructed and classified."""
    image_size: int = 512
    """Side in pixels of images drawn from a text, which are square."""
    read_resolution: ResolutionConfig | None = added(None)
    """Sizes of images that are only read, for questions and classification: those at which they were trained
    (EncodeConfig.variants). Empty: the longer side is image_size."""
    edit_resolution: ResolutionConfig | None = added(None)
    """Sizes of images that are read and drawn again, sources of edits and reconstructions, in the same way."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How images are drawn from the model at every stage."""
    edit_temperature: float = 1.0
    """Temperature of edits, where fidelity counts for more than variety. Ours."""
    answer_tokens: int = 32
    """Longest answer to a question, in tokens; answers are greedy."""
    render_steps: int | None = None
    """Steps of the detokenizer; empty takes the detokenizer's own (ARM, section 4.1: 28)."""
    render_guidance: float | None = None
    """Guidance of the detokenizer; empty takes the detokenizer's own (ARM, section 4.1: 1.5)."""
    items_per_file: int = 600
    """Items that are generated, judged and published together: what a kill can lose."""
    batch_size: int = 300
    """Items sampled at once: part of the identity, because rounding depends on it; the sampling noise does not."""
    num_bootstraps: int = 1000
    """Resamples behind each 95% interval."""
    num_grid_images: int = 12
    """Columns of each picture grid: the same prompts at every stage."""
    dtype: Literal["auto", "bfloat16", "float32"] = "bfloat16"
    """Type of the language model's weights and activations; auto: bfloat16 where hardware multiplies it, else float32."""
    num_threads: int = 0
    """CPU threads of one process; 0 leaves torch's choice. Part of the identity: it changes the order of sums."""
    seed: int = 0
    """Seed of sampling, rendering and bootstrap; with an item's uid it fixes the item's noise at every stage."""

    def __post_init__(self) -> None:
        for name in (
            "prompts_per_category",
            "max_questions",
            "max_edits",
            "max_images",
            "items_per_file",
            "batch_size",
            "answer_tokens",
            "num_grid_images",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"EvaluateConfig.{name} is {getattr(self, name)}; it must be at least 1.")
        for name in self.benchmarks:
            if name not in BENCHMARKS and name not in OFFICIAL:
                raise UserError(f"There is no benchmark {name!r}; {suggest(name, sorted([*BENCHMARKS, *OFFICIAL]))}")
        if self.num_bootstraps < 100:
            raise UserError(f"EvaluateConfig.num_bootstraps is {self.num_bootstraps}; an interval needs at least 100.")

    @property
    def reading(self) -> ResolutionConfig:
        """Sizes of images that are only read."""
        return self.read_resolution or ResolutionConfig.within(self.image_size)

    @property
    def editing(self) -> ResolutionConfig:
        """Sizes of images that are read and drawn again."""
        return self.edit_resolution or ResolutionConfig.within(self.image_size)

    @property
    def sizes(self) -> dict[str, int | str]:
        """Of images, as a protocol names them."""
        chosen = {"read_sizes": self.read_resolution, "edit_sizes": self.edit_resolution}
        named = {name: f"{one.min_short_side} to {one.max_long_side}" for name, one in chosen.items() if one}
        return {"image_size": self.image_size, **named}

    def outside_paths(self) -> tuple[str, ...]:
        """What no job made: data sets, the model's and the judges' weights. Data or a judge that lack are refused here."""
        return tuple(self._outside())

    def _outside(self) -> Iterator[str]:
        asked = [name for name in self.benchmarks if name in OFFICIAL]
        if not asked:
            return
        readiness = importlib.import_module("arm.evaluation.official.readiness")  # which needs this module, and torch
        for name in asked:
            files = readiness.open_data(name, self.official)
            readiness.read_rows(readiness.SUITES[name], files, self.official)
            yield files.folder.url
        official = self.official
        for flag, path in (
            ("model", self.model.model), ("official.detector.model", official.detector.model),
            ("official.detector.clip", official.detector.clip), ("official.questioner.model", official.questioner.model),
        ):  # fmt: skip
            if path.startswith("s3://") or (path and Path(path).exists()):
                _refuse_empty(flag, path)
                yield path


def _refuse_empty(flag: str, path: str) -> None:
    """UserError where a folder of weights holds nothing yet."""
    if Path(path).is_dir() and not any(file.is_file() for file in Path(path).rglob("*")):
        raise UserError(
            f"--{flag} {path!r} is an empty folder, where a model was looked for: config.json and .safetensors of a checkpoint, "
            "model/, tokenizer/ and detokenizer/ of a release, or images for the kind folder. Nothing is downloaded here: "
            f"fetch weights first, with `hf download NAME --local-dir {path}`."
        )
