"""The chaos harness: kill a command at random moments, run it again each time, compare what it made.

    undisturbed = run_to_the_end(command("store/a"))                   seconds
    moments = run_with_kills(command("store/b"), kills=10, seed=7, seconds=undisturbed)
    assert digests("store/b") == digests("store/a")

A victim is the command's own process, its whole tree at once, or one process somewhere below it. Within five seconds of
the kill nothing of it may live: processes are found by a mark in their environment, so a daemon that left the tree is
found, too. The seed is printed; the same seed draws the same victims and moments.
"""

import json
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arm import manifest

MARK = "ARM_CHAOS"
GONE_SECONDS = 5.0
VICTIMS = ("runner", "tree", "descendant")


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: whom, and how long after the start."""

    victim: str
    seconds: float


def run_to_the_end(command: Sequence[str]) -> float:
    """Run a command undisturbed; returns its seconds, and fails with its output if it fails."""
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"the undisturbed run failed:\n{done.stdout[-3000:]}"
    return time.monotonic() - started


def run_with_kills(command: Sequence[str], *, kills: int, seed: int, seconds: float) -> list[Kill]:
    """Kill the command up to `kills` times, then let it end; `seconds` is what it takes undisturbed.

    Work is kept over a kill, so the moments are drawn such that all the runs together take about as long as one. A run
    that ends before its kill ends the chaos. Returns the kills that hit.
    """
    draw, hits = random.Random(seed), []
    print(f"chaos: seed {seed}, {kills} kills over {seconds:.1f} s")
    for _ in range(kills):
        kill = Kill(draw.choice(VICTIMS), draw.uniform(0.2, 1.8) * seconds / kills + _start_seconds(seconds))
        if not _run_and_kill(command, kill, draw):
            break
        hits.append(kill)
        print(f"chaos: {kill.victim} killed after {kill.seconds:.1f} s")
    run_to_the_end(command)
    return hits


def digests(store: str | Path) -> dict[str, str]:
    """Family -> digest of its newest artifact, every file of it verified."""
    found = {}
    for pointer in sorted(Path(store).glob("*/current.json")):
        made = manifest.load(str(pointer.parent))
        for entry in made.files:
            made.local(entry)
        assert made.digest == json.loads(pointer.read_text())["digest"]
        found[pointer.parent.name] = made.digest
    return found


def alive(mark: str) -> dict[int, str]:
    """Process id -> command line of every living process that carries the mark."""
    wanted, found = f"{MARK}={mark}".encode(), {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0") and not _is_zombie(folder):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
            except OSError:
                continue  # it ended while we looked
    return found


def _start_seconds(seconds: float) -> float:
    """What a restart costs before it does anything new: without it a chain would never get on."""
    return min(2.0, seconds / 10)


def _run_and_kill(command: Sequence[str], kill: Kill, draw: random.Random) -> bool:
    """Run, kill at the moment, and see everything go; False when the command ended before."""
    mark = uuid.uuid4().hex
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    runner = subprocess.Popen(command, env={**os.environ, MARK: mark}, **quiet)  # type: ignore[call-overload]
    try:
        runner.wait(kill.seconds)
        return False
    except subprocess.TimeoutExpired:
        pass
    below = sorted(set(alive(mark)) - {runner.pid})
    victims = {"runner": [runner.pid], "tree": [runner.pid, *below], "descendant": [draw.choice(below or [runner.pid])]}
    for pid in victims[kill.victim]:
        _kill(pid)
    _see_it_gone(runner, mark, others_may_end_it=kill.victim == "descendant")
    return True


def _see_it_gone(runner: "subprocess.Popen[bytes]", mark: str, others_may_end_it: bool) -> None:
    """Nothing lives five seconds after the runner's death; a runner that lost a task has time to fail, or to go on."""
    if others_may_end_it:
        try:
            runner.wait(10 * GONE_SECONDS)
        except subprocess.TimeoutExpired:
            _kill(runner.pid)  # it did without the victim, or mends the loss: end it here
    runner.wait()
    deadline = time.monotonic() + GONE_SECONDS
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = alive(mark)
    for pid in left:
        _kill(pid)
    assert not left, f"these lived {GONE_SECONDS:.0f} s after the kill: {left}"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_zombie(folder: Path) -> bool:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
