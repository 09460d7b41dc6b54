"""Attention inside documents: packed equals alone, neighbours do not matter, gradients too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_lmm import tiny_model
from torch import Tensor

from arm.model import attention
from arm.model.attention import Documents


def packed_hidden(model: torch.nn.Module, documents: list[Tensor]) -> Tensor:
    lengths = [len(ids) for ids in documents]
    positions = torch.cat([torch.arange(n) for n in lengths])
    return model.model(  # type: ignore[operator, union-attr]
        input_ids=torch.cat(documents)[None],
        position_ids=positions[None],
        attention_mask={"full_attention": None},
        documents=Documents.of(lengths),
    ).last_hidden_state[0]


def draw_documents(lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    return [torch.randint(0, 32, (n,), generator=generator) for n in lengths]


def test_three_documents_fill_blocks_of_similar_length() -> None:
    """Lengths 9, 10 share a block; 30 has its own; the padded slots hold one past the last token."""
    documents = Documents.of([10, 30, 9])
    assert [tuple(block.slots_DL.shape) for block in documents.blocks] == [(8, 16), (8, 32)]
    assert documents.blocks[0].slots_DL[0].tolist() == [*range(40, 49), *[49] * 7]
    assert documents.blocks[0].slots_DL[1].tolist() == [*range(10), *[49] * 6]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.sampled_from([0, 8, 256]))
def test_packed_documents_have_the_hidden_states_of_plain_transformers(lengths: list[int], longest: int) -> None:
    """Both paths: padded blocks (up to `longest` tokens) and one SDPA call a document."""
    plain = tiny_model()
    plain.set_attn_implementation("sdpa")
    texts = draw_documents(lengths)
    alone = torch.cat([plain.model(input_ids=ids[None]).last_hidden_state[0] for ids in texts])
    model = tiny_model()
    model.set_attn_implementation(attention.NAME)
    before = attention.LONGEST_IN_BLOCK
    attention.LONGEST_IN_BLOCK = longest
    try:
        torch.testing.assert_close(packed_hidden(model, texts), alone, atol=2e-4, rtol=1e-4)
    finally:
        attention.LONGEST_IN_BLOCK = before


def test_a_document_does_not_notice_its_neighbours() -> None:
    model = tiny_model()
    model.set_attn_implementation(attention.NAME)
    first, second, other = draw_documents([7, 12, 12])
    with_second, with_other = packed_hidden(model, [second, first]), packed_hidden(model, [other, first])
    torch.testing.assert_close(with_second[12:], with_other[12:], atol=1e-6, rtol=0)
    assert not torch.allclose(with_second[:12], with_other[:12])


@pytest.mark.parametrize("longest", [0, 256])
def test_gradients_of_packed_documents_are_those_of_the_documents_alone(
    longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "LONGEST_IN_BLOCK", longest)
    texts = draw_documents([3, 17, 20, 9])
    plain, packed = tiny_model(), tiny_model()
    plain.set_attn_implementation("eager")
    packed.set_attn_implementation(attention.NAME)
    weights = torch.randn(49, 32, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([plain.model(input_ids=ids[None]).last_hidden_state[0] for ids in texts])
    (alone * weights).sum().backward()
    (packed_hidden(packed, texts) * weights).sum().backward()
    for (name, a), b in zip(plain.named_parameters(), packed.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=2e-3, rtol=1e-3, msg=name)


def test_it_says_what_it_needs() -> None:
    model = tiny_model()
    model.set_attn_implementation(attention.NAME)
    with pytest.raises(ValueError, match=r"documents=Documents\.of"):
        model(input_ids=torch.tensor([[1, 2]]))
