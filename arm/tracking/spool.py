"""The spool: what is to be told to MLflow, on disk until it has been told.

    <store>/.tracking/spool/<nanoseconds>-<key>/events.jsonl    one line an event, appended
                                                /files/000.png  copies of what was logged
                                                /sent           bytes of events.jsonl already sent

One folder per execution, so no two writers meet. The writer holds a shared lock on its events; a sender that gets the
lock alone knows that the writer is gone, and removes the folder once everything is sent. A kill between two lines loses
at most the line being written.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arm.storage import LocalFolder, open_folder
from arm.storage.disk import is_full

EVENTS, SENT = "events.jsonl", "sent"


def store_of(output: str) -> str:
    """The store that a job's family folder lies in: its parent."""
    folder = open_folder(output)
    if isinstance(folder, LocalFolder):
        return str(folder.path.parent)
    return output.rstrip("/").rpartition("/")[0]


def tracking_folder(store: str) -> Path:
    """Where a store keeps what is not yet told: `<store>/.tracking`, or a cache folder when the store is remote."""
    if "://" not in store:
        return Path(store).absolute() / ".tracking"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "arm" / "tracking" / hashlib.sha256(store.encode()).hexdigest()[:16]


def database_folder(store: str) -> Path:
    """Where the sqlite files of MLflow and lineage lie: the store itself, or the cache folder of a remote one."""
    return tracking_folder(store) if "://" in store else Path(store).absolute()


def progress_of(spool: Path) -> tuple[int, str]:
    """Bytes of a spool's events that are sent, and the run that they went to."""
    path = spool / SENT
    if not path.is_file():
        return 0, ""
    values = json.loads(path.read_text())
    return values["bytes"], values["run"]


def unsent_bytes(store: str) -> int:
    """How much the spools of a store still have to tell; a sender may be at work on them."""
    left = 0
    for events in (tracking_folder(store) / "spool").glob(f"*/{EVENTS}"):
        with contextlib.suppress(FileNotFoundError):  # told, and removed meanwhile
            left += events.stat().st_size - progress_of(events.parent)[0]
    return left


class Spool:
    """One execution's events. Appending never raises: a full disk loses tracking, not the job."""

    def __init__(self, root: Path, key: str) -> None:
        self.folder = root / "spool" / f"{time.time_ns():020d}-{key[:16]}"
        self._files: list[str] = []
        self._told = False
        with self._forgiven():
            self.folder.mkdir(parents=True)
            self._stream = (self.folder / EVENTS).open("a")
            fcntl.flock(self._stream, fcntl.LOCK_SH)

    def append(self, event: dict[str, Any]) -> None:
        """Write one event with the time at which it happened, in milliseconds."""
        with self._forgiven():
            self._stream.write(json.dumps({**event, "time": time.time_ns() // 1_000_000}) + "\n")
            self._stream.flush()

    def append_file(self, path: Path, folder: str) -> None:
        """Copy a file into the spool and note it."""
        with self._forgiven():
            copy = self.folder / "files" / f"{len(self._files):05d}" / path.name
            copy.parent.mkdir(parents=True)
            shutil.copyfile(path, copy)
            self._files.append(f"{folder}/{path.name}")
            self.append({"event": "file", "path": copy.relative_to(self.folder).as_posix(), "folder": folder})

    def holds(self, name: str) -> bool:
        """Whether `folder/name` was noted already."""
        return name in self._files

    def close(self) -> None:
        """Let go of the events: what is here is all that will come."""
        with self._forgiven():
            self._stream.close()

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except (OSError, AttributeError, ValueError) as error:
            if not self._told and not is_full(error, str(self.folder)):  # of a full disk the job itself speaks
                print(f"Tracking is off for this run: {error}.", file=sys.stderr)
            self._told = True
