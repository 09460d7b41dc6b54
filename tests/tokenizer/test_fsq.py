"""FSQ: the index contract by hand, the symmetric bound, and the gradient estimator."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arm.tokenizer.fsq import FSQ, digits_to_index, index_to_digits, index_to_values


def test_dimension_zero_is_the_least_significant_digit() -> None:
    # levels 2, 2, 3: places 1, 2, 4
    assert index_to_digits(torch.tensor([0, 1, 2, 4, 6, 11]), (2, 2, 3)).tolist() == [
        [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 1, 2],
    ]  # fmt: skip


def test_values_run_from_minus_one_to_plus_one() -> None:
    assert index_to_values(torch.tensor([6]), (2, 2, 3)).tolist() == [[-1.0, 1.0, 0.0]]


def test_sixteen_binary_dimensions_make_the_papers_codebook() -> None:
    quantizer = FSQ((2,) * 16)
    assert quantizer.num_codes == 65_536
    assert quantizer.encode(torch.ones(16)).item() == 65_535
    assert quantizer.encode(-torch.ones(16)).item() == 0
    only_last = -torch.ones(16)
    only_last[15] = 1
    assert quantizer.encode(only_last).item() == 32_768


@given(st.lists(st.integers(2, 8), min_size=1, max_size=5), st.integers(0, 10**9))
def test_index_and_digits_are_inverse(levels: list[int], number: int) -> None:
    index = torch.tensor(number % int(torch.tensor(levels).prod()))
    assert digits_to_index(index_to_digits(index, levels), levels) == index


@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_encode_names_the_values_that_forward_gives(x: list[float]) -> None:
    quantizer = FSQ((2, 3, 5))
    values, _ = quantizer(torch.tensor(x))
    assert torch.allclose(quantizer.decode(quantizer.encode(torch.tensor(x))), values, atol=1e-6)


def test_two_levels_split_a_normal_input_evenly() -> None:
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    share = FSQ((2,)).encode(x).float().mean()
    assert share == pytest.approx(0.5, abs=0.02)


def test_the_gradient_is_that_of_tanh() -> None:
    x = torch.tensor([[0.0, 0.5, -2.0]], requires_grad=True)
    values, _ = FSQ((2, 2, 2))(x)
    assert values.tolist() == [[1.0, 1.0, -1.0]]
    values.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 1 - torch.tanh(x.detach()) ** 2)


def test_batch_normalisation_centres_what_lies_on_one_side() -> None:
    x = torch.randn(4_000, 1, generator=torch.Generator().manual_seed(0)) + 3
    plain, normed = FSQ((2,), norm="none"), FSQ((2,), norm="batch")
    assert plain.encode(x).float().mean() > 0.99
    assert normed.encode(x).float().mean() == pytest.approx(0.5, abs=0.03)


def test_batch_normalisation_is_frozen_at_export() -> None:
    quantizer = FSQ((2, 2), norm="batch")
    quantizer(torch.randn(64, 2) * 3 + 1)
    quantizer.eval()
    x = torch.randn(8, 2)
    assert torch.equal(quantizer.encode(x)[:1], quantizer.encode(x[:1]))


def test_agrees_with_vector_quantize_pytorch_where_both_are_defined() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    other = library.FSQ(levels=[2, 3, 5], preserve_symmetry=True)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    ours, theirs = FSQ((2, 3, 5)), other.quantize(x)
    assert torch.allclose(ours(x)[0], theirs, atol=1e-5)
    assert torch.equal(ours.encode(x), other.codes_to_indices(theirs).long())
