"""Memory of a rank, by hand."""

import pytest

from arm.preflight import memory
from arm.recipes.facts import LanguageGeometry

TINY = LanguageGeometry(layers=3, width=8, heads=4, kv_heads=2, mlp_width=16, vocabulary=100)
P = 8_086_296_064


def sizes(parts: list[memory.Part]) -> dict[str, float]:
    return {part.name: part.size for part in parts}


def test_zero_1_divides_masters_and_moments_alone() -> None:
    found = sizes(memory.zero_states(P, stage=1, ranks=200))
    assert found["parameters"] == found["gradients"] == 2 * P
    assert found["float32 masters"] == pytest.approx(4 * P / 200)  # 162 MB
    assert found["moments"] == pytest.approx(8 * P / 200)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [(0, 16.0), (1, 4 + 12 / 8), (2, 2 + 14 / 8), (3, 16 / 8)],
)
def test_bytes_a_parameter_by_zero_stage_on_eight_ranks(stage: int, expected: float) -> None:
    """ZeRO (arXiv 1910.02054, figure 1): 16, 5.5, 3.75 and 2 bytes on eight ranks."""
    parts = memory.zero_states(1_000, stage=stage, ranks=8)
    held = memory.total([part for part in parts if part.name != "buckets"])
    assert held == pytest.approx(1_000 * expected)


def test_gradients_added_up_in_float32_take_four_bytes_and_a_wider_bucket() -> None:
    whole, cut = (sizes(memory.zero_states(P, stage=stage, ranks=200, gradient_dtype="float32")) for stage in (1, 2))
    assert (whole["gradients"], cut["gradients"]) == (4 * P, 4 * P / 200)  # 32.3 GB, 162 MB
    assert whole["buckets"] == cut["buckets"] == 500e6 * (4 + 2)


def test_float32_doubles_parameters_and_gradients_and_muon_halves_moments() -> None:
    found = sizes(memory.zero_states(10, stage=0, ranks=1, dtype="float32", muon=True))
    assert (found["parameters"], found["gradients"], found["moments"]) == (40, 40, 40)


def test_buckets_hold_at_most_500_million_elements_each() -> None:
    assert sizes(memory.zero_states(P, stage=1, ranks=2))["buckets"] == 2 * 500e6 * 2


def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer() -> None:
    layer = 10 * 2 * (11 * 8 + 4 * 4 + 4 * 16)  # 10 tokens, keys of 2 heads of 2
    gradients = 10 * 2 * (2 * 8 + 3 * 16)
    without = sizes(memory.language_activations(TINY, 10, checkpointing=False))
    kept = sizes(memory.language_activations(TINY, 10, checkpointing=True))
    assert without == {"activations": 3 * layer, "gradients of a layer's activations": gradients}
    assert kept["activations kept"] == 3 * 10 * 8 * 2
    assert kept["activations of a layer"] == layer


def test_a_cache_holds_keys_and_values_of_every_layer() -> None:
    assert memory.cache(TINY, 2, 5).size == 2 * 5 * (2 * 3 * 4 * 2)


def test_logits_of_a_chunk() -> None:
    assert memory.logits(2_048, 152_192).size == 2_048 * 152_192 * 10
