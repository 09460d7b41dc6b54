"""Configs of the visual tokenizer, the encoding of images and the detokenizer: one module a job.

Defaults are the paper's (arXiv 2606.11188, section 3.1 and 4.1) where it states one; every departure is a named field
whose default is the paper's choice.
"""

from arm.tokenizer.config.detokenizer import DetokenizerConfig
from arm.tokenizer.config.encoding import EncodeConfig, VariantConfig
from arm.tokenizer.config.evaluation import (
    EvaluateTokenizerConfig,
    FrechetConfig,
    LinearProbeConfig,
    LpipsConfig,
    ZeroShotTask,
)
from arm.tokenizer.config.shared import FlowConfig, OptimizerConfig, ResolutionConfig
from arm.tokenizer.config.training import QuantizerConfig, TokenizerConfig

__all__ = [
    "DetokenizerConfig",
    "EncodeConfig",
    "EvaluateTokenizerConfig",
    "FlowConfig",
    "FrechetConfig",
    "LinearProbeConfig",
    "LpipsConfig",
    "OptimizerConfig",
    "QuantizerConfig",
    "ResolutionConfig",
    "TokenizerConfig",
    "VariantConfig",
    "ZeroShotTask",
]
