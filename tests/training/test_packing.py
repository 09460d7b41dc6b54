"""Packing and dealing."""

from hypothesis import given
from hypothesis import strategies as st

from arm.training.packing import Packer, deal


def pack(lengths: list[int], capacity: int, max_open: int) -> tuple[list[list[int]], list[list[int]]]:
    """(closed rows, rows still open), as documents."""
    packer = Packer(capacity, max_open)
    closed = [row for number, length in enumerate(lengths) for row in packer.add(number, length)]
    return closed, [row for rows in packer._rows.values() for row in rows]


def test_a_document_goes_into_the_fullest_row_that_holds_it() -> None:
    """5 -> A (3 left), 4 -> B (4 left), 3 -> A, which is full and closes; 2 -> B stays open with 2 left."""
    assert pack([5, 4, 3, 2], 8, 2) == ([[0, 2]], [[1, 3]])


def test_the_fullest_row_is_closed_when_one_too_many_would_be_open() -> None:
    """6 -> A (2 left), 5 -> B (3 left); 4 fits nowhere: A is closed as it is."""
    assert pack([6, 5, 4], 8, 2) == ([[0]], [[1], [2]])


@given(st.lists(st.integers(1, 16), max_size=200), st.integers(1, 6))
def test_every_document_is_in_exactly_one_row_and_no_row_overflows(lengths: list[int], max_open: int) -> None:
    closed, still_open = pack(lengths, 16, max_open)
    assert sorted(document for row in closed + still_open for document in row) == list(range(len(lengths)))
    assert all(sum(lengths[document] for document in row) <= 16 for row in closed + still_open)
    assert len(still_open) <= max_open


def test_short_documents_fill_rows_nearly_whole() -> None:
    lengths = [20 + (7 * number) % 41 for number in range(5_000)]
    closed, _ = pack(lengths, 512, 64)
    assert sum(lengths[d] for row in closed for d in row) / (512 * len(closed)) > 0.98


def test_rows_are_dealt_in_equal_numbers_and_about_equal_cost() -> None:
    assert deal([9, 1, 5, 5], 2) == [[0, 1], [2, 3]]


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=40), st.integers(1, 4))
def test_dealing_gives_every_row_once(costs: list[int], num_ranks: int) -> None:
    costs = costs[: len(costs) // num_ranks * num_ranks]
    hands = deal(costs, num_ranks)
    assert sorted(row for hand in hands for row in hand) == list(range(len(costs)))
    assert {len(hand) for hand in hands} == {len(costs) // num_ranks}
