"""Decoding: the lean step is transformers' forward pass, in every shape of model that Qwen2 knows."""

from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from arm.errors import UserError
from arm.model.attention import NAME
from arm.model.decoding import Cache, cache_bytes, check_decodable

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
NEXT = [[20, 21, 22], [30, 31, 32]]


def model_of(dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    torch.manual_seed(0)
    shape = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "initializer_range": 0.3, "max_position_embeddings": 64,
    }  # fmt: skip
    model = Qwen2ForCausalLM(Qwen2Config(**(shape | changes))).eval()  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            parameter.data.uniform_(0.5, 1.5)
    return model.to(dtype)


@torch.no_grad()
def both_ways(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of the tokens after each prompt: with the cache, and by plain transformers without one."""
    model.set_attn_implementation(NAME)
    cache = Cache(PROMPTS, 2, model)
    cached = torch.stack([cache.prefill(), *(cache.extend(torch.tensor(ids)) for ids in NEXT)], dim=1)
    model.set_attn_implementation("eager")
    plain = []
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt + [ids[row] for ids in NEXT]])
        plain.append(model.model(ids).last_hidden_state[0, len(prompt) - 1 :])
    return cached, torch.stack(plain)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "hidden_act": "gelu", "rms_norm_eps": 0.1},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
        {"rope_parameters": {
            "rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16,
        }},
    ],
)  # fmt: skip
def test_a_step_with_the_cache_is_the_forward_pass_without(changes: dict[str, Any]) -> None:
    cached, plain = both_ways(model_of(**changes))
    torch.testing.assert_close(cached, plain, atol=2e-5, rtol=1e-5)


def test_in_bfloat16_it_is_as_near_as_bfloat16_is() -> None:
    """Three layers of 8 bits: errors of a few hundredths beside hidden states of about 1."""
    cached, plain = both_ways(model_of(torch.bfloat16))
    assert cached.dtype == torch.bfloat16
    assert float((cached - plain).abs().float().mean()) < 0.02


def test_keys_and_values_take_the_stated_bytes_and_are_never_taken_anew() -> None:
    """3 layers, keys and values, 2 heads of 8, float32: 384 bytes a column; 3 sequences of 5 + 2 columns."""
    model = model_of()
    model.set_attn_implementation(NAME)
    cache = Cache(PROMPTS, 2, model)
    with torch.no_grad():
        cache.prefill()
        places = [x.data_ptr() for x in (*cache.keys.values(), *cache.values.values())]
        for ids in NEXT:
            cache.extend(torch.tensor(ids))
    stores = [*cache.keys.values(), *cache.values.values()]
    assert [x.data_ptr() for x in stores] == places
    assert sum(x.nbytes for x in stores) == cache_bytes(model.config, 3, 7, 4) == 3 * 7 * 384


def test_qwen_7b_needs_a_quarter_of_a_gigabyte_for_an_image_of_1024_pixels() -> None:
    shape = Qwen2Config(hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4)
    assert cache_bytes(shape, 1, 1, 2) == 57_344
    assert cache_bytes(shape, 1, 4_200, 2) == 240_844_800


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8}, "sliding window"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
    ],
)
def test_what_a_step_does_not_compute_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_decodable(Qwen2Config(num_hidden_layers=3, **changes))
