"""Configs of import-samples and import-model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from arm.config import operational, suggest
from arm.errors import UserError
from arm.records import TASKS

ImportFormat = Literal["samples", "webdataset", "json", "table", "folder"]
"""Keys of arm.data.formats.FORMATS."""
_CAPTIONED = ("image", "text", "description")
ROLES: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "caption": _CAPTIONED,
    "text_to_image": _CAPTIONED,
    "question": ("image", "conversations", "question", "answer"),
    "edit": ("source_image", "instruction", "target_image"),
    "interleaved_web": ("images", "texts"),
    "interleaved_video": ("video", "text", "captions", "images", "texts"),
}
"""Task -> what its samples are made of, besides `id` and `licence`: the keys of ImportSource.columns."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Which frames of a video are taken, and what decoding it may cost. All ours."""

    frames_per_second: float = 1.0
    """Frames taken a second of the film, the first at its start."""
    max_frames: int = 6
    """Frames of one video; what comes later in it is not read."""
    max_side: int = 1_024
    """Larger frames are shrunk to this longest side in pixels."""
    max_cpu_seconds: int = 60
    """A video that takes longer to decode is dropped as `slow_video`."""

    def __post_init__(self) -> None:
        if not 0 < self.frames_per_second <= 1_000:
            raise UserError(f"VideoConfig.frames_per_second is {self.frames_per_second}; give up to 1,000.")
        if not 1 <= self.max_frames <= 400:
            raise UserError(f"VideoConfig.max_frames is {self.max_frames}; give 1 to 400: a sample has 1,000 parts.")
        if self.max_side < 16 or self.max_cpu_seconds < 1:
            raise UserError(
                f"VideoConfig has max_side {self.max_side} and max_cpu_seconds {self.max_cpu_seconds}; "
                "give at least 16 and 1."
            )


@dataclass(frozen=True, kw_only=True)
class ImportSource:
    """One data set to import: where it lies, in which format, what it is good for."""

    name: str
    """Name of its shards and of the samples' source."""
    path: str
    """A file, a folder or a glob, local or under s3://; inside the input `source` when that is given."""
    format: ImportFormat
    """How its rows are stored: see arm.data.formats."""
    task: str = ""
    """One of records.TASKS: what a row becomes; the format `samples` needs none, its samples say theirs."""
    licence: str = "unknown"
    """For samples that do not say theirs."""
    num_samples: int | None = None
    """Read at most so many rows; None reads all."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Where a row has what a sample needs, when the names differ: `{"text": "caption"}`; `json.caption` looks inside."""
    video: VideoConfig = VideoConfig()
    """Which frames of its videos are taken."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise UserError(f"ImportSource.name is {self.name!r}; use lower-case letters, digits, - and _.")
        if self.format != "samples" and self.task not in TASKS:
            raise UserError(f"ImportSource.task of {self.name} is {self.task!r}; give one of {', '.join(TASKS)}.")
        if self.num_samples is not None and self.num_samples < 1:
            raise UserError(f"ImportSource.num_samples of {self.name} is {self.num_samples}; give at least 1, or none.")
        roles = [] if self.format == "samples" else [*ROLES[self.task], "id", "licence"]
        for role in self.columns:
            if role not in roles:
                raise UserError(
                    f"ImportSource.columns of {self.name} names {role!r}, which no sample of the task {self.task!r} "
                    f"has; {suggest(role, roles) if roles else 'leave it out.'}"
                )
        if self.video != VideoConfig() and self.task != "interleaved_video":
            raise UserError(f"ImportSource.video of {self.name} has no effect on the task {self.task!r}; leave it out.")


@dataclass(frozen=True, kw_only=True)
class ImportSamplesConfig:
    """import-samples: which data sets to bring in."""

    sources: tuple[ImportSource, ...] = ()
    """The data sets."""
    samples_per_shard: int = 10_000
    """Samples of one shard, the unit of work: a killed run goes on after the last one."""
    max_text_characters: int = 100_000
    """A longer text part drops its sample."""
    max_dropped_share: float = 0.05
    """The job fails when a larger share of a source is unfit."""
    workers: int = operational(1)
    """Processes that decode videos."""

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names:
            raise UserError(
                "ImportSamplesConfig.sources is empty; declare at least one data set: "
                '--sources \'[{"name": "mine", "path": "data/mine", "format": "folder", "task": "caption"}]\'.'
            )
        if len(set(names)) != len(names):
            raise UserError(f"ImportSamplesConfig.sources names a data set twice: {', '.join(names)}.")
        if self.samples_per_shard < 1 or self.workers < 1:
            raise UserError(
                f"ImportSamplesConfig has samples_per_shard {self.samples_per_shard} and workers {self.workers}; "
                "give at least 1 of each."
            )

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        return tuple(source.path for source in self.sources)


@dataclass(frozen=True, kw_only=True)
class ImportModelConfig:
    """import-model: which Hugging Face checkpoint to bring in."""

    path: str
    """Its folder, local or under s3://; inside the input `source` when that is given."""
    role: Literal["encoder", "language_model", "autoencoder", "backbone", "image_tokenizer"]
    """What the model is for; the class of its config.json must fit."""
    licence: str = "unknown"
    """Recorded; a release is gated by it."""
    name: str = field(default="")
    """Public name, e.g. `google/siglip2-so400m-patch16-512`."""

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key must cover besides the config."""
        return (self.path,)
