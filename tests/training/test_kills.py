"""Killed at random moments, a run consumes and learns what an undisturbed one does, on as many ranks and on others.

KILLS_SEED draws other moments. A fifth of the kills falls into the start, the others into the steps: after some steps
and a part of the next one, in whatever it is at then. Ranks die together, or a tenth of a second apart.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from token_store import finished_run, make_store

from arm.training.ledger.chain import Run
from arm.training.ledger.verification import verify
from tests.training.ranks import CONFIG, Server, files_of, ledger_of, losses_of

SEED = int(os.environ.get("KILLS_SEED", "20261128"))
STEPS = 48
LONG = {"steps": STEPS, "checkpoint_every_steps": 2, "learning_rate": 0.0003, "validate_every": 24}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("store")
    make_store(folder)
    found = Server(folder)
    yield found
    found.close()


@pytest.fixture(scope="module")
def whole(server: Server) -> tuple[Path, float]:
    """An undisturbed run of two ranks, and the seconds until its first step."""
    started = time.monotonic()
    output = server.start("whole", 2, **LONG)
    while server.step(output.name) is None:
        time.sleep(0.005)
    seconds = time.monotonic() - started
    assert server.wait() == [0, 0], server.said("whole")
    return output, seconds


@pytest.mark.slow
def test_twenty_kills_on_one_and_two_ranks_by_turns(server: Server, whole: tuple[Path, float]) -> None:
    hits = run_with_kills(server, "turns", kills=20, ranks=(1, 2), start_seconds=whole[1])
    assert server.run("turns", 2, **LONG) == [0, 0], server.said("turns")
    assert hits == 20
    output = server.folder / "turns"
    assert ledger_of(output) == ledger_of(whole[0])
    proof = verify(Run(finished_run(server.folder, output, {**CONFIG, **LONG})))
    print(proof.line())
    assert sum(len(attempt.lost) for attempt in proof.attempts) > 0
    losses, undisturbed = losses_of(output), losses_of(whole[0])
    assert losses.keys() == undisturbed.keys()
    print(f"largest difference of a loss: {max(abs(losses[step] - undisturbed[step]) for step in losses):.2e}")
    assert losses == pytest.approx(undisturbed, abs=1e-5)


@pytest.mark.slow
def test_ten_kills_on_as_many_ranks_leave_the_same_bytes(server: Server, whole: tuple[Path, float]) -> None:
    hits = run_with_kills(server, "same", kills=10, ranks=(2,), start_seconds=whole[1])
    assert server.run("same", 2, **LONG) == [0, 0], server.said("same")
    assert hits == 10
    assert files_of(server.folder / "same") == files_of(whole[0])


def run_with_kills(server: Server, name: str, *, kills: int, ranks: tuple[int, ...], start_seconds: float) -> int:
    """Start and kill again and again; the number of kills that met a living run."""
    draw, hits, started = random.Random(SEED), 0, time.monotonic()
    print(f"kills: seed {SEED}")
    for number, num_ranks in zip(range(kills), cycle(ranks), strict=False):
        server.start(name, num_ranks, **LONG)
        if draw.random() < 0.2:
            _await_start(server, name, draw.uniform(0, start_seconds))
        else:
            _await_steps(server, name, draw.randint(1, 4))
            time.sleep(draw.uniform(0, 0.1))
        at = server.step(name)
        for pid in draw.sample(server.pids, len(server.pids)):  # the launcher ends the others soon after the first
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(draw.choice((0.0, 0.1)))
        codes = server.wait()
        hits += -9 in codes
        print(f"kill {number}: {num_ranks} ranks at step {at}, codes {codes}", flush=True)
    print(f"{hits} of {kills} kills met a living run, {time.monotonic() - started:.0f} s")
    return hits


def _await_start(server: Server, name: str, seconds: float) -> None:
    """Wait so long, but not into the steps: another start may be faster than the first was."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.step(name) is None:
        time.sleep(0.002)


def _await_steps(server: Server, name: str, steps: int) -> None:
    """Wait until so many steps are done since the start."""
    deadline, first = time.monotonic() + 600, None
    while first is None or (server.step(name) or 0) < first + steps:
        first = server.step(name) if first is None else first
        assert time.monotonic() < deadline
        time.sleep(0.002)
