"""The kernels of a GPU, as far as a CPU can show them: FlexAttention's forward pass and mask; varlen's choice and bounds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_lmm import tiny_model
from torch.nn.attention.flex_attention import create_block_mask

from arm.model import attention, kernels
from arm.model.attention import Documents, attend

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_the_device_and_the_dtype_choose_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.kernel_for(None, torch.bfloat16) == kernels.kernel_for(CPU, torch.bfloat16) == "blocks"
    assert kernels.kernel_for(GPU, torch.bfloat16) == "varlen"
    assert kernels.kernel_for(GPU, torch.float32) == "flex"
    monkeypatch.setitem(__import__("sys").modules, "torch.nn.attention.varlen", None)  # an older torch
    assert kernels.kernel_for(GPU, torch.bfloat16) == "flex"


def test_varlen_gets_the_bounds_of_the_documents() -> None:
    packed = kernels.pack((3, 2, 4), "varlen", CPU)
    assert (packed.bounds_D.tolist(), packed.bounds_D.dtype, packed.longest) == ([0, 3, 5, 9], torch.int32, 4)


def test_blocks_of_tokens_see_their_documents_only() -> None:
    """Documents of 100, 300 and 112 tokens in four blocks of 128: block 1 begins at 128, inside the second document."""
    mask = kernels.block_mask((100, 300, 112), CPU)
    partly = [mask.kv_indices[0, 0, i, : mask.kv_num_blocks[0, 0, i]].tolist() for i in range(4)]
    wholly = [mask.full_kv_indices[0, 0, i, : mask.full_kv_num_blocks[0, 0, i]].tolist() for i in range(4)]
    assert partly == [[0], [0, 1], [0, 2], [0, 1, 2, 3]]
    assert wholly == [[], [], [1], []]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_the_mask_made_of_lengths_sees_what_the_mask_made_of_tokens_sees(lengths: list[int]) -> None:
    made, total = kernels.block_mask(lengths, CPU), sum(lengths)
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    reference = create_block_mask(
        lambda b, h, q, k: (q >= k) & (document[q] == document[k]), None, None, total, total, device="cpu"
    )
    assert bool((made.to_dense() >= reference.to_dense()).all())  # a block too many costs time alone
    mine, theirs = (set_of(mask.full_kv_num_blocks, mask.full_kv_indices) for mask in (made, reference))
    assert mine == theirs


def set_of(numbers: torch.Tensor, indices: torch.Tensor) -> set[tuple[int, int]]:
    """Pairs of blocks."""
    counts = numbers[0, 0].tolist()
    return {(row, block) for row, count in enumerate(counts) for block in indices[0, 0, row, :count].tolist()}


@pytest.mark.parametrize("lengths", [(5, 130, 1, 300), (128, 128), (64,)])
def test_flex_attention_gives_what_the_blocks_give(lengths: tuple[int, ...]) -> None:
    """Forward only: torch 2.13 has no backward of FlexAttention on a CPU. Four query heads on two key-value heads."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, sum(lengths), 16, generator=generator) for heads in (4, 2, 2))
    module = torch.nn.Module()
    ours, flex = (
        attend(module, query, key, value, None, documents=Documents.of(lengths, kernel=kernel))[0]
        for kernel in ("blocks", "flex")
    )
    torch.testing.assert_close(flex, ours, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_model_gives_the_same_hidden_states_under_either_kernel() -> None:
    model = tiny_model()
    model.set_attn_implementation(attention.NAME)
    lengths = (9, 140, 30)
    ids = torch.randint(0, 32, (1, sum(lengths)), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    ours, flex = (
        model.model(
            input_ids=ids, position_ids=positions, attention_mask={"full_attention": None},
            documents=Documents.of(lengths, kernel=kernel),
        ).last_hidden_state
        for kernel in ("blocks", "flex")
    )  # fmt: skip
    torch.testing.assert_close(flex, ours, atol=2e-4, rtol=1e-4)
