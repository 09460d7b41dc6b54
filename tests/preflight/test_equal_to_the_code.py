"""What the plan works out on paper is what the code does: parameters, activations, documents, shares."""

import dataclasses

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from arm import recipes
from arm.model import documents as real
from arm.model.attention import NAME, Documents
from arm.model.vocabulary import IMAGE_OVERHEAD
from arm.preflight import documents, memory, models
from arm.recipes.facts import LanguageGeometry
from arm.tokenizer.blocks import Blocks
from arm.tokenizer.config import FlowConfig
from arm.tokenizer.dit import ConditionedDiT
from arm.training import flops, trainer
from arm.training.mixture import kind_schedules

TINY = LanguageGeometry(layers=3, width=128, heads=4, kv_heads=2, mlp_width=384, vocabulary=100)


def model(layers: int = 3) -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=100, hidden_size=128, intermediate_size=384, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=False,
        )
    )  # fmt: skip


def test_the_parameters_are_those_of_the_model() -> None:
    whole = sum(parameter.numel() for parameter in model().parameters())
    assert models.language_parameters(TINY) == whole


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_activations_are_those_that_autograd_keeps_within_a_twentieth(dtype: str) -> None:
    """Three layers less one are two layers of 512 tokens."""
    kept = (_kept_bytes(3, dtype) - _kept_bytes(1, dtype)) / 2
    expected = memory.language_activations(TINY, 512, checkpointing=False, dtype=dtype)[0].size / 3
    assert kept == pytest.approx(expected, rel=0.05)


def _kept_bytes(layers: int, dtype: str) -> int:
    """Bytes of the storages that a forward pass saves, the weights left out."""
    made = model(layers).to(getattr(torch, dtype)).train()
    made.set_attn_implementation(NAME)
    weights = {parameter.untyped_storage().data_ptr() for parameter in made.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in weights:
            saved[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = made.model(
            input_ids=torch.zeros(1, 512, dtype=torch.long), position_ids=torch.arange(512)[None],
            attention_mask={"full_attention": None}, use_cache=False,
            documents=Documents.of((512,), made.dtype, made.device),
        )  # fmt: skip
    assert output.last_hidden_state.shape == (1, 512, 128)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def test_the_trainer_and_the_plan_count_flops_by_the_same_function() -> None:
    assert trainer.step_flops is flops.step_flops
    assert flops.step_flops(num_parameters=10, num_layers=1, width=2, lengths=(3, 1), head_logits=10) == 480


def test_blocks_have_12_and_18_squares_of_their_width() -> None:
    projection = Blocks(width_in=64, width=64, width_out=16, num_blocks=6, heads=4, scope="global")
    dit = ConditionedDiT(FlowConfig(width=64, num_blocks=6, num_heads=4), channels=3, area=16, width_condition=64)
    for network, conditioned in ((projection, False), (dit, True)):
        size = sum(parameter.numel() for parameter in network.blocks.parameters())
        assert models.block_parameters(64, 6, conditioned=conditioned) == pytest.approx(size, rel=0.03)


def test_kinds_tasks_and_the_frame_of_an_image_are_the_models() -> None:
    assert {kind: set(tasks) for kind, tasks in documents.TASKS_OF_KIND.items()} == {
        kind: set(tasks) for kind, tasks in real.TASKS_OF_KIND.items()
    }
    assert documents.IMAGE_FRAME == IMAGE_OVERHEAD


def test_shares_of_kinds_are_the_planners() -> None:
    config = recipes.find("arm_7b").config("train-model-continue")
    mixture = dataclasses.replace(config.mixture, caption_share=0.25, edit_share=0.5)
    planned = documents.shares_at(dataclasses.replace(config, mixture=mixture), 0.0)
    assert planned == pytest.approx({kind: points[0][1] for kind, points in kind_schedules(mixture).items()})
