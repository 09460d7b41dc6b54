"""Configs of a stage: what cannot be meant is refused in a sentence that names the field and the value."""

import math
from typing import Any

import pytest

from arm import config as configs
from arm.errors import UserError
from arm.training.config import EpochLimit, KindWeights, MixtureConfig, StageConfig


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"warmup_steps": -5}, "warmup_steps is -5; it must be at least 0"),  # the rate would be below 0
        ({"weight_decay": -1.0}, r"weight_decay is -1\.0; it must be at least 0"),
        ({"validation_documents": -3}, "validation_documents is -3; it must be at least 0"),
        ({"added_layers": -1}, "added_layers is -1; it must be at least 0"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan; it must be above 0"),
        ({"epsilon": 0.0}, r"epsilon is 0\.0; it must be above 0"),
        ({"optimizer": "muon", "muon_learning_rate": -1.0}, r"muon_learning_rate is -1\.0; it must be above 0"),
        ({"checkpoint_every_seconds": 0.0}, r"checkpoint_every_seconds is 0\.0; it must be above 0"),
        ({"code_weight": math.nan}, "code_weight is nan; it must be at least 0"),
        ({"betas": (1.5, 0.9)}, r"betas are \(1\.5, 0\.9\); give two of 0 to below 1"),
        ({"variants": ("a", "b", "a")}, "variants names one twice: a, b, a"),
    ],
)
def test_a_number_that_no_stage_can_have_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        StageConfig(**wrong)


def test_a_weight_that_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="none may be below 0"):
        KindWeights(edit=math.nan)


@pytest.mark.parametrize(
    ("name", "remedy"), [("txt", "did you mean 'text'"), ("image_to_text", "known: text, caption")]
)
def test_a_limit_of_no_kind_is_refused(name: str, remedy: str) -> None:
    """Sources are no kinds: `image_to_text` would limit nothing, and its captions and questions repeat."""
    with pytest.raises(UserError, match=f"limits has no kind of document '{name}'; {remedy}"):
        MixtureConfig(limits={name: EpochLimit()})
    assert MixtureConfig(limits={"caption": EpochLimit()}).limits


def test_a_wrong_shape_of_a_schedule_names_the_shapes() -> None:
    with pytest.raises(UserError, match=r"text_only\[0\]\[2\] is 'sine'; did you mean 'cosine'"):
        configs.from_json(MixtureConfig, '{"text_only": [[0, 0.05, "sine"]]}')
