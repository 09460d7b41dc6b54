"""Configs of import-samples and import-model."""

import re
from dataclasses import dataclass, field
from typing import Literal

from arm.errors import UserError
from arm.records import TASKS

ImportFormat = Literal["samples", "webdataset", "llava", "edit_parquet", "image_text_folder", "jsonl_text"]
"""Keys of arm.data.formats.FORMATS."""


@dataclass(frozen=True, kw_only=True)
class ImportSource:
    """One data set to import: where it lies, in which format, what it is good for."""

    name: str
    """Name of its shards and of the samples' source."""
    path: str
    """A file, a folder or a glob, local or under s3://; inside the input `source` when that is given."""
    format: ImportFormat
    """How it is read: see arm.data.formats."""
    task: str = ""
    """One of records.TASKS; the format `samples` needs none, its samples say theirs."""
    licence: str = "unknown"
    """For samples that do not say theirs."""
    num_samples: int | None = None
    """Take at most so many; None takes all."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise UserError(f"ImportSource.name is {self.name!r}; use lower-case letters, digits, - and _.")
        if self.format != "samples" and self.task not in TASKS:
            raise UserError(f"ImportSource.task of {self.name} is {self.task!r}; give one of {', '.join(TASKS)}.")


@dataclass(frozen=True, kw_only=True)
class ImportSamplesConfig:
    """import-samples: which data sets to bring in."""

    sources: tuple[ImportSource, ...] = ()
    """The data sets."""
    samples_per_shard: int = 10_000
    """Samples of one shard."""
    max_text_characters: int = 100_000
    """A longer text part drops its sample."""
    max_dropped_share: float = 0.05
    """The job fails when a larger share of a source is unreadable."""

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names:
            raise UserError("ImportSamplesConfig.sources is empty; declare at least one data set.")
        if len(set(names)) != len(names):
            raise UserError(f"ImportSamplesConfig.sources names a data set twice: {', '.join(names)}.")

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
