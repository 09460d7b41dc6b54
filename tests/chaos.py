"""The chaos harness: kill a command at random moments, run it again each time, compare what it made.

    run_to_the_end(command("store/a"))
    run_with_kills(command("store/b"), "store/b", like="store/a", kills=10, seed=7)
    assert digests("store/b") == digests("store/a")

The moments are drawn over the undisturbed run's time, so that a long job is hit often; each is kept as "so many
artifacts complete, then so many seconds into the next job", which holds on a machine of another speed.

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
    """One kill: whom, and when."""

    victim: str
    num_complete: int
    """Artifacts that are complete by then."""
    seconds: float
    """Time from then, or from the moment at which the next job took its lock."""
    at_work: bool
    """Whether to wait for that lock; otherwise the kill falls between two jobs."""


def run_to_the_end(command: Sequence[str]) -> float:
    """Run a command undisturbed; returns its seconds, and fails with its output if it fails."""
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"the undisturbed run failed:\n{done.stdout[-3000:]}"
    return time.monotonic() - started


def run_with_kills(
    command: Sequence[str], store: str | Path, *, like: str | Path, kills: int, seed: int | str
) -> list[Kill]:
    """Kill the command `kills` times, run it again each time, then let it end; returns the kills that hit.

    `like` is the store of an undisturbed run. A run that ends before its kill ends the chaos.
    """
    draw, hits = random.Random(seed), []
    print(f"chaos: seed {seed!r}")
    for kill in plan_kills(timeline(like), kills, draw):
        if not _run_and_kill(command, Path(store), kill, draw):
            break
        hits.append(kill)
        print(f"chaos: {kill}", flush=True)
    run_to_the_end(command)
    return hits


def timeline(store: str | Path) -> list[tuple[float, float]]:
    """(start, end) of every job of a store, from their `run.json`, in order; the first starts at 0."""
    runs = [json.loads(path.read_text()) for path in Path(store).glob("*/*/run.json")]
    spans = sorted((run["started"], run["started"] + run["seconds"]) for run in runs)
    return [(start - spans[0][0], end - spans[0][0]) for start, end in spans]


def plan_kills(spans: list[tuple[float, float]], kills: int, draw: random.Random) -> list[Kill]:
    """Draw moments over the whole time and say each relative to the job that it falls into.

    spans (0, 10) (12, 20), moments 4 and 11  ->  0 complete, 4 s at work;  1 complete, 1 s between jobs
    """
    moments = sorted(draw.uniform(0.0, spans[-1][1]) for _ in range(kills))
    found = []
    for moment in moments:
        complete = [end for _, end in spans if end <= moment]
        running = [start for start, end in spans if start <= moment < end]
        since = running[0] if running else complete[-1]
        found.append(Kill(draw.choice(VICTIMS), len(complete), moment - since, bool(running)))
    return found


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


def _run_and_kill(command: Sequence[str], store: Path, kill: Kill, draw: random.Random) -> bool:
    """Run, kill at the moment, and see everything go; False when the command ended before."""
    mark = uuid.uuid4().hex
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    runner = subprocess.Popen(command, env={**os.environ, MARK: mark}, **quiet)  # type: ignore[call-overload]
    while not _is_near(store, kill):
        if runner.poll() is not None:
            return False
        time.sleep(0.05)
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


def _is_near(store: Path, kill: Kill) -> bool:
    """Whether so much is complete and, where the kill wants it, a living process holds the lock of a further job."""
    complete = len(list(store.glob("*/*/manifest.json")))
    if complete < kill.num_complete or not kill.at_work:
        return complete >= kill.num_complete
    return complete > kill.num_complete or any(_is_held(path) for path in store.glob("*/.*.lock"))


def _is_held(lock: Path) -> bool:
    holder = lock.read_text().strip()
    return holder.isdigit() and Path(f"/proc/{holder}").exists()


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
