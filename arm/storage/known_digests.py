"""The sha256 of large local files, each read once: what is known lies in this machine's cache, never beside the files.

    ~/.cache/arm/digests.sqlite    path  version  sha256        version: device, inode, size, times of change of bytes and inode

A file is the same as long as its version is: the time of the inode's change (ctime) cannot be set back as mtime can, so
a copy with its old time (`cp -p`, `rsync -t`, `touch -r`) is read again. A file that changed less than two seconds before
it was read is not noted, because a further change in the same tick of the clock would leave no trace (git's racy rule).
A cache that cannot be used costs time and nothing else.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from arm.storage.cache import cache_folder
from arm.storage.folder import sha256_of

SMALL_BYTES = 1 << 20
"""Smaller files are read: that costs no more than to look them up. Ours."""
SETTLED_NS = 2_000_000_000
"""The coarsest clock of a file system in use: FAT's two seconds."""


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Name -> sha256 of each file; large ones that have not changed since they were read are not read again."""
    large = {path: str(path.resolve()) for path in files.values() if path.stat().st_size >= SMALL_BYTES}
    known = _read(large.values()) if large else {}
    found, new = dict[str, str](), list[tuple[str, str, str]]()
    for name, path in files.items():
        before = version_of(path)
        place = (large.get(path, ""), before)
        found[name] = known.get(place) or sha256_of(path)
        if path in large and place not in known and _is_settled(path, before):
            new.append((*place, found[name]))
    if new:
        _note(new)
    return found


def version_of(path: Path) -> str:
    """What tells a file from what it was before, without reading it."""
    stat = path.stat()
    return f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def cache_file() -> Path:
    """Where this machine keeps what it knows."""
    return cache_folder() / "digests.sqlite"


def _is_settled(path: Path, before: str) -> bool:
    """Whether the file did not change while it was read, nor shortly before."""
    stat = path.stat()
    return version_of(path) == before and time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NS


def _read(paths: Iterable[str]) -> dict[tuple[str, str], str]:
    """(path, version) -> sha256 of those of the paths that are known."""
    found = dict[tuple[str, str], str]()
    with contextlib.suppress(sqlite3.Error, OSError), contextlib.closing(_connect()) as cache:
        for path in paths:
            rows = cache.execute("SELECT path, version, sha256 FROM digests WHERE path = ?", (path,))
            found |= {(name, version): digest for name, version, digest in rows}
    return found


def _note(rows: list[tuple[str, str, str]]) -> None:
    with contextlib.suppress(sqlite3.Error, OSError), contextlib.closing(_connect()) as cache, cache:
        cache.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)


def _connect() -> sqlite3.Connection:
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    cache = sqlite3.connect(path, timeout=10)
    cache.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, version TEXT, sha256 TEXT)")
    return cache
