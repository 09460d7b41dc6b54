"""One writer per output: an exclusive lock that dies with its holder.

A second run of the same output waits (a line says for whom), or is refused after `wait_seconds`.
Between machines that share an object store the conditional put of the manifest decides: both make the same bytes.
"""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator

from arm.errors import LockedError
from arm.storage import Folder

POLL_SECONDS = 0.5


@contextlib.contextmanager
def output_lock(folder: Folder, job_name: str, wait_seconds: float = 600.0) -> Iterator[None]:
    """Hold the folder's lock; wait for another holder, then refuse with its process id."""
    path = folder.lock_path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as stream:
        _acquire(stream.fileno(), f"{folder.url} ({job_name})", path.read_text().strip(), wait_seconds)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def _acquire(handle: int, what: str, holder: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told:
                print(f"Waiting for process {holder or 'unknown'}, which is writing {what}.", file=sys.stderr)
                told = True
            if time.monotonic() > deadline:
                raise LockedError(
                    f"{what} is being written by process {holder or 'unknown'}; wait or stop it."
                ) from None
            time.sleep(POLL_SECONDS)
