"""Ctrl-C on a pipeline: the job that runs is asked to stop, and has the time to save."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

TASK = "kfp.dsl.executor_main"
"""What KFP's runner starts for each task."""
SAVE_SECONDS = 130.0
"""A launcher gives its ranks two minutes."""
POLL_SECONDS = 0.1


def let_tasks_save(seconds: float = SAVE_SECONDS) -> None:
    """Send SIGTERM to the tasks of this process and wait until they have ended; another Ctrl-C ends the wait."""
    tasks = _tasks()
    if not tasks:
        return
    print("\nStopping: the running job saves first (Ctrl-C again stops it at once).", file=sys.stderr, flush=True)
    for pid in tasks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(_lives(pid) for pid in tasks):
        time.sleep(POLL_SECONDS)


def interrupt_on_sigterm() -> None:
    """Let SIGTERM (a scheduler, `kill`) stop a pipeline as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _tasks() -> list[int]:
    """Children of this process that are tasks, whichever thread started them."""
    threads = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    children = [int(pid) for path in threads for pid in path.read_text().split()]
    return [pid for pid in children if TASK in _command(pid)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:  # it has ended
        return ""


def _lives(pid: int) -> bool:
    """Whether a task still runs; one that has ended and was not waited for has no command any more."""
    return bool(_command(pid))
