"""Items spread over processes: their order stays, and a process that is killed is said."""

import os
import signal

import pytest

from arm.data.processes import map_processes
from arm.errors import ArmError, UserError


def square(number: int) -> int:
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number < 0:
        raise UserError(f"{number} is negative.")
    return number * number


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(map_processes(square, range(8), workers, "test")) == [0, 1, 4, 9, 16, 25, 36, 49]


def test_a_killed_process_ends_the_work_with_a_sentence() -> None:
    with pytest.raises(ArmError, match="one of 2 processes was killed"):
        list(map_processes(square, [1, 13, 2, 3], 2, "test"))


def test_an_error_of_the_work_arrives_as_it_was_raised() -> None:
    with pytest.raises(UserError, match="-1 is negative"):
        list(map_processes(square, [1, -1, 2], 2, "test"))
