"""The hosts' turns: a rate, pauses that they ask for, and circuit breakers, shared by the processes of a machine."""

from pathlib import Path

import pytest

from arm.data.addresses import Refused
from arm.data.hosts import COOL_DOWN_SECONDS, MAX_THROTTLES, WAYS, Hosts


class Clock:
    """A clock that stands still until it is set."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("arm.data.hosts.time.sleep", lambda seconds: None)
    return clock


def hosts(clock: Clock, path: Path | str = "") -> Hosts:
    return Hosts(str(path), requests_per_second=4, max_failures=2, patience=20, clock=clock)


def test_two_processes_take_turns(clock: Clock, tmp_path: Path) -> None:
    first, second = hosts(clock, tmp_path / "hosts"), hosts(clock, tmp_path / "hosts")
    assert [one.wait("a.test") for one in (first, second, second, first)] == [1_000.0, 1_000.25, 1_000.5, 1_000.75]
    assert first.wait("b.test") == 1_000.0


def test_a_host_that_fails_too_often_is_left_alone_by_all_and_then_tried_once(clock: Clock, tmp_path: Path) -> None:
    first, second = hosts(clock, tmp_path / "hosts"), hosts(clock, tmp_path / "hosts")
    first.note_failure("a.test")
    second.wait("a.test")
    second.note_failure("a.test")
    with pytest.raises(Refused, match="host_down"):
        first.wait("a.test")
    clock.now += COOL_DOWN_SECONDS
    first.wait("a.test")
    first.note_failure("a.test")
    with pytest.raises(Refused, match="host_down"):
        second.wait("a.test")
    clock.now += COOL_DOWN_SECONDS
    second.wait("a.test")
    second.note_answer("a.test")
    first.note_failure("a.test")
    first.wait("a.test")


def test_a_short_pause_is_waited_and_a_long_one_is_not(clock: Clock) -> None:
    found = hosts(clock)
    found.note_pause("a.test", 15)
    assert found.wait("a.test") == 1_015.0
    found.note_pause("a.test", 3_600)
    with pytest.raises(Refused, match="host_busy"):
        found.wait("a.test")
    clock.now += 3_590
    assert found.wait("a.test") == 4_600.0


def test_a_host_that_asks_for_pauses_again_and_again_stalls_nobody(clock: Clock) -> None:
    found = hosts(clock)
    for number in range(MAX_THROTTLES - 1):
        found.note_pause("a.test", 20)
        clock.now = found.wait("a.test")
        assert clock.now == 1_020.0 + 20 * number
    found.note_pause("a.test", 20)
    with pytest.raises(Refused, match="host_busy"):
        found.wait("a.test")


def test_without_a_number_the_pauses_double(clock: Clock) -> None:
    found, starts = hosts(clock), []
    for _ in range(4):
        found.note_pause("a.test", None)
        clock.now = found.wait("a.test")
        starts.append(clock.now)
    assert starts == [1_001.0, 1_003.0, 1_007.0, 1_015.0]


def test_a_set_that_is_full_forgets_the_host_whose_turn_lies_furthest_back(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arm.data.hosts._set_of", lambda tag: 0)  # all hosts meet in one set of 16
    found = hosts(clock)
    found.note_pause("long.test", 80_000)
    found.note_failure("first.test")
    for number in range(WAYS - 1):
        clock.now += 1
        found.wait(f"{number}.test")
    with pytest.raises(Refused, match="host_busy"):
        found.wait("long.test")
    found.note_failure("first.test")  # once more: its first failure is forgotten
    found.wait("first.test")
