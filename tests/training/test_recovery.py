"""Losses that are not finite, spikes, signals, hangs, and ranks that become more or fewer."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from token_store import make_store

from arm.errors import UserError
from arm.training.heartbeat import allowed
from arm.training.recovery import SpikeRule, check_skipped
from tests.training.ranks import Server, files_of, ledger_of, losses_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("store")
    make_store(folder)
    found = Server(folder)
    yield found
    found.close()


@pytest.fixture(scope="module")
def whole(server: Server) -> Path:
    """An undisturbed run of two ranks."""
    assert server.run("whole", 2) == [0, 0], server.said("whole")
    return server.folder / "whole"


def wait_for(question: Callable[[], object]) -> None:
    deadline = time.monotonic() + 600
    while not question():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def has_saved(output: Path, step: int) -> bool:
    return (output / ".work" / "checkpoints" / f"step-{step:08d}" / "seal.json").exists()


def test_a_spike_lies_three_deviations_above_the_median() -> None:
    """Losses 1 to 5: median 3, deviations 2 1 0 1 2, their median 1: above 6 is a spike."""
    rule = SpikeRule(deviations=3.0, window=5)
    assert all(rule.accepts(loss) for loss in (5.0, 1.0, 4.0, 2.0))
    assert rule.accepts(3.0)  # four known: no limit yet
    assert rule.limit() == 6
    assert not rule.accepts(6.001)
    assert rule.limit() == 6  # the spike did not enter
    assert rule.accepts(6.0)  # now 1 4 2 3 6: median 3, deviations 2 1 1 0 3, their median 1
    assert rule.limit() == 6
    again = SpikeRule(deviations=3.0, window=5)
    again.load_state_dict(rule.state_dict())
    assert again.limit() == 6


def test_equal_losses_give_no_limit_and_infinity_is_always_refused() -> None:
    rule = SpikeRule(deviations=3.0, window=3)
    assert all(rule.accepts(2.0) for _ in range(3))
    assert rule.accepts(9.0)
    assert not rule.accepts(float("inf"))
    assert not SpikeRule(deviations=3.0, window=3).accepts(float("nan"))


def test_too_many_skipped_in_a_row_are_refused() -> None:
    check_skipped([3, 7, 8, 9], 9, most=3)
    check_skipped([], 9, most=0)
    with pytest.raises(UserError, match=r"^3 steps in a row up to step 10 were skipped"):
        check_skipped([3, 7, 8, 9], 9, most=2)


def test_a_step_may_take_ten_times_the_95th_percentile_or_the_floor() -> None:
    steps = [float(second) for second in range(1, 21)]
    assert allowed(steps, floor_seconds=5) == 190
    assert allowed(steps, floor_seconds=200) == 200
    assert allowed([1.0] * 5, floor_seconds=5) == 10


def test_a_nan_on_one_rank_skips_the_update_on_all_and_the_data_go_on(server: Server, whole: Path) -> None:
    assert server.run("nan", 2, nan=(1, [3])) == [0, 0], server.said("nan")
    assert ledger_of(server.folder / "nan") == ledger_of(whole)
    losses, undisturbed = losses_of(server.folder / "nan"), losses_of(whole)
    assert {step: losses[step] for step in (1, 2, 3)} == {step: undisturbed[step] for step in (1, 2, 3)}
    assert sorted(losses) == [1, 2, 3, 5, 6, 7, 8]  # step 4 has no loss to show
    assert losses[5] != undisturbed[5]
    text = (server.folder / "nan" / "curves.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert [json.loads(line)["skipped_steps"] for line in text.splitlines() if "skipped" in line][-1] == 1


@pytest.mark.slow
def test_too_many_nans_stop_the_run_in_a_sentence(server: Server) -> None:
    codes = server.run("nans", 2, nan=(0, [2, 3, 4]), max_skipped=2)
    assert codes == [1, 1]
    assert "Traceback" not in server.said("nans")
    assert "3 steps in a row up to step 5 were skipped" in server.said("nans")


def test_sigterm_to_one_rank_saves_and_asks_to_be_run_again(server: Server, whole: Path) -> None:
    assert server.run("terminated", 2, signal=(1, 4, signal.SIGTERM)) == [75, 75], server.said("terminated")
    assert (
        server.said("terminated").splitlines()[-1] == "Stopped after step 5 of 8 and saved; the same command goes on."
    )
    assert "Traceback" not in server.said("terminated") + server.said("terminated", 1)
    assert server.run("terminated", 2) == [0, 0]
    assert files_of(server.folder / "terminated") == files_of(whole)


def test_ctrl_c_gives_one_sentence(server: Server) -> None:
    assert server.run("interrupted", 1, signal=(0, 1, signal.SIGINT)) == [75]
    said = server.said("interrupted")
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "Stopped after step 2 of 8 and saved; the same command goes on."


def test_a_rank_that_stands_still_has_the_others_dump_their_stacks_and_ask_to_be_run_again(server: Server) -> None:
    output = server.start("stopped", 2, steps=10_000, checkpoint_every_steps=10, heartbeat_floor_seconds=3.0)
    wait_for(lambda: has_saved(output, 10))
    os.kill(server.pids[1], signal.SIGSTOP)
    stacks = output / ".work" / "checkpoints" / "stacks-rank-0.txt"
    wait_for(lambda: stacks.exists() and "in _step" in stacks.read_text())
    os.kill(server.pids[1], signal.SIGKILL)
    assert server.wait() == [75, -9]
    assert "No step has ended for" in server.said("stopped")
    assert "all_reduce" in stacks.read_text() or "step" in stacks.read_text()


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_another_number_of_ranks_goes_on_with_the_same_batches(
    server: Server, whole: Path, before: int, after: int
) -> None:
    name = f"from-{before}-to-{after}"
    assert -9 in server.run(name, before, signal=(0, 4, signal.SIGKILL)), server.said(name)
    assert server.run(name, after) == [0] * after, server.said(name)
    output = server.folder / name
    assert ledger_of(output) == ledger_of(whole)
    assert losses_of(output) == pytest.approx(losses_of(whole), abs=1e-5)
