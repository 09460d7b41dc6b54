"""Child processes that die with their parent, and tasks that die with their runner.

A `kill -9` gives nobody the time to clean up, so the kernel must: a child asks for SIGKILL at its parent's death
(PR_SET_PDEATHSIG), and a task that is not the runner's own child watches the runner through a pidfd.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
RUN_AGAIN = 75
"""Exit code of a process that wants the same command to be run again: EX_TEMPFAIL."""
_libc = ctypes.CDLL(None, use_errno=True)


def start_child(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """Start a process that is killed when the calling thread ends, however it ends: call this from the main thread."""
    return subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, **(env or {})},
        preexec_fn=tie_to_parent(os.getpid()),
        **options,
    )


def tie_to_parent(parent: int) -> Callable[[], None]:
    """What a child runs between fork and exec so that it dies with `parent`."""

    def tie() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def die_with(pid: int) -> None:
    """Kill this process as soon as process `pid` is gone, whether or not it is the parent."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)
    threading.Thread(target=_await_death, args=(handle,), name="die-with", daemon=True).start()


def stop(child: "subprocess.Popen[Any]", grace_seconds: float = 5.0) -> None:
    """End a child: politely first, then for certain."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace_seconds)
    if child.poll() is None:
        child.kill()
        child.wait()


def _await_death(handle: int) -> None:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    poller.poll()
    os.kill(os.getpid(), signal.SIGKILL)
