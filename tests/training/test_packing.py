"""Packing and dealing."""

from hypothesis import given
from hypothesis import strategies as st
from plan_index import CountedIndex, made_plan, share_of

from arm.model.documents import KINDS
from arm.training.packing import deal
from arm.training.plan.rows import Rows
from benchmarks._planner import UNIT, Packer, plan_rows


def packed(lengths: list[int], capacity: int, max_open: int, num_rows: int, segment_steps: int = 1_000) -> Rows:
    """The first rows of a plan of texts of these lengths, in their order, over and over."""
    index = CountedIndex({"text": lengths}, num_shards=1)
    return made_plan(
        index,
        {"text_only": 1.0},
        capacity=capacity,
        window_rows=max_open,
        num_rows=num_rows,
        segment_steps=segment_steps,
    )


def pack(lengths: list[int], capacity: int, max_open: int) -> tuple[list[list[int]], list[list[int]]]:
    """(closed rows, rows still open), as documents."""
    packer = Packer(capacity, max_open)
    closed = [row for number, length in enumerate(lengths) for row in packer.add(number, length)]
    return closed, [row for rows in packer.rows.values() for row in rows]


def test_a_document_goes_into_the_fullest_row_that_holds_it() -> None:
    """5 -> A (3 left), 4 -> B (4 left), 3 -> A, which is full and closes; 2 -> B stays open with 2 left."""
    assert pack([5, 4, 3, 2], 8, 2) == ([[0, 2]], [[1, 3]])


def test_the_fullest_row_is_closed_when_one_too_many_would_be_open() -> None:
    """6 -> A (2 left), 5 -> B (3 left); 4 fits nowhere: A is closed as it is."""
    assert pack([6, 5, 4], 8, 2) == ([[0]], [[1], [2]])


def test_every_row_is_closed_before_the_first_of_another_segment() -> None:
    """6 -> A (2 left), 5 -> B (3 left), 1 -> A (1 left); 4 fits nowhere, and a segment has two rows: A and B are closed."""
    rest = {"capacity": 8, "max_open": 9, "segment_rows": 2}
    assert plan_rows([[UNIT]], [0, 99], [iter([6, 5, 1, 4])], **rest, num_rows=2)[1] == [[0, 2], [1]]


def test_the_rows_of_segments_hold_exactly_the_documents_chosen_before_their_end() -> None:
    rows = packed([3, 5, 7, 11], 16, 4, 40, segment_steps=10)
    for row in (10, 20, 30, 40):
        assert sorted(rows.selected[: rows.starts[row]].tolist()) == list(range(rows.starts[row]))
    across = packed([3, 5, 7, 11], 16, 4, 40)
    assert sorted(across.selected[: across.starts[10]].tolist()) != list(range(across.starts[10]))


def test_short_documents_fill_rows_nearly_whole() -> None:
    rows = packed([20 + (7 * number) % 41 for number in range(1_000)], 512, 64, 500)
    assert rows.fill(512) > 0.98


def test_rows_are_dealt_in_equal_numbers_and_about_equal_cost() -> None:
    assert deal([9, 1, 5, 5], 2) == [[0, 1], [2, 3]]


def test_rows_that_do_not_divide_leave_ranks_with_one_less_or_none() -> None:
    assert deal([9, 1, 5], 2) == [[0], [1, 2]]
    assert deal([4], 3) == [[0], [], []]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 6))
def test_dealing_gives_every_row_once_and_nobody_more_than_the_rest_rounded_up(
    costs: list[int], num_ranks: int
) -> None:
    hands = deal(costs, num_ranks)
    assert sorted(row for hand in hands for row in hand) == list(range(len(costs)))
    assert max(len(hand) for hand in hands) == -(-len(costs) // num_ranks)


def test_every_document_lies_in_one_row() -> None:
    rows = packed([3, 5, 7], 16, 4, 50)
    assert len(set(rows.selected.tolist())) == len(rows.selected)
    assert share_of(rows) == {"text": 1.0} | {kind: 0.0 for kind in KINDS if kind != "text"}
