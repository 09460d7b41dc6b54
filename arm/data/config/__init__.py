"""Configs of the data jobs. Defaults are those of published sets where one is named, ours otherwise."""

from arm.data.config.curation import (
    CurateConfig,
    HashKind,
    HashList,
    HeadConfig,
    RecaptionConfig,
    ScoreBound,
    SemanticConfig,
    SourceRule,
)
from arm.data.config.download import DownloadConfig, HostException
from arm.data.config.extraction import ExtractConfig
from arm.data.config.filtering import FilterConfig
from arm.data.config.imports import ImportFormat, ImportModelConfig, ImportSamplesConfig, ImportSource, VideoConfig
from arm.data.config.shared import SparkConfig

__all__ = [
    "CurateConfig",
    "DownloadConfig",
    "ExtractConfig",
    "FilterConfig",
    "HashKind",
    "HashList",
    "HeadConfig",
    "HostException",
    "ImportFormat",
    "ImportModelConfig",
    "ImportSamplesConfig",
    "ImportSource",
    "RecaptionConfig",
    "ScoreBound",
    "SemanticConfig",
    "SourceRule",
    "SparkConfig",
    "VideoConfig",
]
