"""FSQ: the index contract by hand, the symmetric bound, and the gradient estimator."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.tokenizer.fsq import (
    FSQ,
    digits_to_index,
    gradient_share,
    index_to_digits,
    index_to_values,
    values_to_digits,
)


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


@settings(deadline=None)
@given(st.lists(st.integers(2, 8), min_size=1, max_size=5), st.integers(0, 10**9))
def test_index_and_digits_are_inverse(levels: list[int], number: int) -> None:
    index = torch.tensor(number % int(torch.tensor(levels).prod()))
    assert digits_to_index(index_to_digits(index, levels), levels) == index


@settings(deadline=None)
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


def test_levels_of_several_sizes_by_hand() -> None:
    # levels 8, 8, 8, 5, 5, 5: places 1, 8, 64, 512, 2560, 12800
    levels = (8, 8, 8, 5, 5, 5)
    assert FSQ(levels).num_codes == 64_000
    assert digits_to_index(torch.tensor([7, 0, 1, 4, 2, 3]), levels) == 7 + 0 + 64 + 4 * 512 + 2 * 2560 + 3 * 12_800
    assert index_to_digits(torch.tensor(63_999), levels).tolist() == [7, 7, 7, 4, 4, 4]
    values = index_to_values(torch.tensor([7 + 3 * 8 + 2 * 512 + 1 * 2560]), levels)
    assert torch.allclose(values, torch.tensor([[1.0, -1 / 7, -1.0, 0.0, -0.5, -1.0]]))


def test_the_nearest_of_even_and_odd_levels_is_taken_and_a_tie_goes_up() -> None:
    # four levels at -1, -1/3, 1/3, 1; five at -1, -.5, 0, .5, 1
    bounded = torch.tensor([[-1.0, -1.0], [-0.67, -0.76], [-0.66, -0.74], [0.0, 0.25], [0.34, -0.2], [1.0, 1.0]])
    assert values_to_digits(bounded, (4, 5)).tolist() == [[0, 0], [0, 0], [1, 1], [2, 3], [2, 2], [3, 4]]


@settings(deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=5), st.data())
def test_encode_and_decode_are_inverse_for_every_code(levels: list[int], data: st.DataObject) -> None:
    quantizer = FSQ(levels)
    index = torch.tensor(data.draw(st.integers(0, quantizer.num_codes - 1)))
    inside = torch.atanh(quantizer.decode(index).clamp(-0.9999, 0.9999))
    assert quantizer.encode(inside) == index


@settings(deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=4, max_size=4))
def test_the_bound_is_symmetric_for_even_and_odd_levels(x: list[float]) -> None:
    inputs, levels = torch.tensor(x), (2, 3, 4, 5)
    position = (torch.tanh(inputs) + 1) / 2 * torch.tensor([1, 2, 3, 4])
    apart_from_ties = ((position + 0.5) % 1 - 0.5).abs() < 0.499
    mirrored = (FSQ(levels)(-inputs)[0] + FSQ(levels)(inputs)[0]).abs() < 1e-6
    assert mirrored[apart_from_ties].all()


def test_values_are_exact_and_the_gradient_does_not_depend_on_the_level() -> None:
    x = torch.linspace(-2, 2, 41).repeat(3, 1).T.contiguous().requires_grad_()
    values, bounded = FSQ((2, 5, 8))(x)
    assert set(values[:, 0].tolist()) == {-1.0, 1.0}
    assert set(values[:, 1].tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    values.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 1 - bounded.detach() ** 2, atol=1e-6)


def test_the_gradient_estimator_is_that_of_the_bound_by_finite_differences() -> None:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    quantizer, step = FSQ((2, 3, 4, 8)), 1e-2
    (gradient,) = torch.autograd.grad(quantizer(x)[0].sum(), x)
    slope = (quantizer.bound(x.detach() + step) - quantizer.bound(x.detach() - step)) / (2 * step)
    assert torch.allclose(gradient, slope, atol=1e-3)


def test_a_saturated_tanh_passes_no_gradient() -> None:
    x = torch.tensor([[2.0], [5.0], [10.0], [-10.0]], requires_grad=True)
    FSQ((2,))(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0].tolist() == pytest.approx([0.0707, 0.00018, 0, 0], abs=1e-4)
    assert x.grad[2] == 0


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (10.0, 0.0), (1.0, 10.0), (0.01, -5.0)])
def test_batch_normalisation_keeps_half_of_the_gradient_whatever_the_scale(scale: float, offset: float) -> None:
    x = torch.randn(4_000, 2, generator=torch.Generator().manual_seed(0)) * scale + offset
    plain, normed = FSQ((2, 2)).bound(x), FSQ((2, 2), norm="batch").bound(x)
    assert gradient_share(normed).tolist() == pytest.approx([0.54, 0.54], abs=0.02)
    if scale > 1 or offset > 1:
        assert gradient_share(plain).max() < 0.15


def test_the_share_of_the_gradient_that_passes_by_hand() -> None:
    assert gradient_share(torch.tensor([[0.0, 1.0], [0.5, -1.0]])).tolist() == [0.875, 0]
    assert gradient_share(torch.tensor([[[0.0, 1.0], [0.5, -1.0]]])).tolist() == [0.875, 0]


@pytest.mark.parametrize("levels", [(2, 2, 2), (2, 3, 5), (8, 8, 8, 5, 5, 5), (4, 6)])
def test_agrees_with_vector_quantize_pytorch_under_the_symmetric_bound(levels: tuple[int, ...]) -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    other = library.FSQ(levels=list(levels), preserve_symmetry=True)
    x = torch.randn(500, len(levels), generator=torch.Generator().manual_seed(1)) * 1.5
    mine, its = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = FSQ(levels)(mine)[0], other.quantize(its)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.equal(FSQ(levels).encode(x), other.codes_to_indices(theirs).long())
    index = torch.arange(0, other.codebook_size, 7)
    assert torch.allclose(index_to_values(index, levels), other.indices_to_codes(index), atol=1e-5)
    for values in (ours, theirs):
        (values * torch.arange(1, len(levels) + 1)).sum().backward()
    assert mine.grad is not None
    assert its.grad is not None
    assert torch.allclose(mine.grad, its.grad, atol=1e-5)


def test_agrees_with_its_other_bound_on_odd_levels_apart_from_its_epsilon() -> None:
    # its first bound stretches tanh by 1 + 0.001, so outputs agree away from ties and gradients to a thousandth
    library = pytest.importorskip("vector_quantize_pytorch")
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    position = (torch.tanh(x) + 1) / 2 * torch.tensor([2, 4])
    apart_from_ties = ((position % 1 - 0.5).abs() > 0.01).all(dim=-1)
    mine, its = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = FSQ((3, 5))(mine)[0], library.FSQ(levels=[3, 5]).quantize(its)
    assert apart_from_ties.sum() > 450
    assert torch.allclose(ours[apart_from_ties], theirs[apart_from_ties], atol=1e-6)
    (ours.sum() + theirs.sum()).backward()
    assert mine.grad is not None
    assert its.grad is not None
    assert torch.allclose(mine.grad, its.grad, rtol=2e-3)


def test_on_even_levels_its_other_bound_is_lopsided_where_ours_is_not() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    theirs, ours = library.FSQ(levels=[4]).quantize(x), FSQ((4,))(x)[0]
    assert theirs.unique().tolist() == [-1, -0.5, 0, 0.5]
    assert ours.unique().tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert theirs.mean() < -0.05
    assert ours.mean().abs() < 0.02
