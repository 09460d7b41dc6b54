"""The local copies of files in object storage: bounded, shared by the processes of a machine.

    ROOT/files/BUCKET/KEY          the copy; .KEY.etag beside it names the version, its time of change the last use
    ROOT/files/…/.KEY.VERSION.part a download that was broken off, continued by the next; .tmp-… is a file not yet uploaded
    ROOT/.users/PID-WORD           what a process uses, a line each; locked as long as it lives
    ROOT/.locks/…                  one download of a file at a time; one change of who uses what at a time

The copies that no living process uses go first-used-first until the rest fits the bound: ARM_CACHE_BYTES, or half of the
disk. Whoever has read a file to its end says so (`release`); else it counts as used until the process ends.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from arm.errors import UserError

NUM_LOCKS = 64
"""Files whose names hash to the same number wait for each other."""
ETAG = ".etag"
ABANDONED_SECONDS = 24 * 3600.0
"""A broken download or a file on its way up that nobody has written to for so long is nobody's."""
_grown: dict[Path, int] = {}
"""Root -> bytes that this process has added since it last made room."""
_handles: dict[tuple[Path, int], int] = {}
"""(root, process) -> the open, locked file of ROOT/.users: never closed, so that the lock ends with the process."""


def cache_folder() -> Path:
    """Where this machine keeps copies and what it knows of files: ARM_CACHE_DIR, or `arm` in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arm"
    return Path(os.environ.get("ARM_CACHE_DIR") or default)


def holds(path: Path, etag: str) -> bool:
    """Whether the copy is there, in this version."""
    try:
        return path.is_file() and etag_file(path).read_text() == etag
    except FileNotFoundError:
        return False


def keep(path: Path, arrived: Path, etag: str) -> None:
    """Put a whole file in its place."""
    etag_file(path).unlink(missing_ok=True)
    arrived.replace(path)
    etag_file(path).write_text(etag)


def forget(path: Path) -> bool:
    """Remove a copy, whoever uses it; whether there was one."""
    found = path.is_file()
    etag_file(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return found


def etag_file(path: Path) -> Path:
    """Where the version of a copy is noted."""
    return path.parent / f".{path.name}{ETAG}"


def part_file(path: Path, etag: str) -> Path:
    """Where a download of this version grows; another version's is never continued."""
    return path.parent / f".{path.name}.{hashlib.sha256(etag.encode()).hexdigest()[:12]}.part"


@contextlib.contextmanager
def downloading(root: Path, path: Path) -> Iterator[None]:
    """Hold the lock of a file's download: whoever waited finds the file there."""
    number = int.from_bytes(hashlib.sha256(str(path).encode()).digest()[:4], "big") % NUM_LOCKS
    with _locked(root / ".locks" / f"{number:02d}"):
        yield


def use(root: Path, path: Path) -> None:
    """Note that this process uses a copy from now on."""
    with _locked(root / ".locks" / "users"):
        _note(root, "+", path)
    with contextlib.suppress(FileNotFoundError):
        os.utime(etag_file(path))


def release(root: Path, path: Path) -> None:
    """Note that this process uses a copy no more."""
    with _locked(root / ".locks" / "users"):
        _note(root, "-", path)


def grow(root: Path, num_bytes: int) -> None:
    """Note that copies of so many bytes came; make room each time that this process has added a hundredth of the bound:
    to look at every copy for each small file would cost more than the files."""
    _grown[root] = _grown.get(root, 0) + num_bytes
    if _grown[root] >= bound(root) / 100:
        _grown[root] = 0
        make_room(root)


def make_room(root: Path) -> None:
    """Remove the copies used longest ago until the rest fits, those in use excepted, and what killed processes left."""
    with _locked(root / ".locks" / "users"):
        sizes = _sizes(root / "files")
        excess = sum(sizes.values()) - bound(root)
        if excess <= 0:
            return
        used = _used(root)
        for path in sorted((path for path in sizes if path not in used), key=_last_use):
            if excess <= 0:
                return
            forget(path)
            excess -= sizes[path]


def bound(root: Path) -> int:
    """The most bytes that the copies take, those in use included."""
    text = os.environ.get("ARM_CACHE_BYTES")
    if text is None:
        return shutil.disk_usage(root).total // 2
    if not text.isdecimal():
        raise UserError(f"ARM_CACHE_BYTES is {text!r}; give a number of bytes.")
    return int(text)


def _sizes(files: Path) -> dict[Path, int]:
    """Copy -> bytes; abandoned files that are no copies are removed."""
    found: dict[Path, int] = {}
    for path in files.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process may replace or forget it at this moment
            if not path.is_file():
                continue
            if not path.name.startswith("."):
                found[path] = path.stat().st_size
            elif not path.name.endswith(ETAG) and path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                path.unlink()
    return found


def _last_use(path: Path) -> tuple[float, str]:
    """What sorts copies by their last use; one without a version goes first."""
    try:
        return etag_file(path).stat().st_mtime, str(path)
    except FileNotFoundError:
        return 0.0, str(path)


def _used(root: Path) -> set[Path]:
    """What living processes use; the notes of dead ones are removed."""
    found: set[Path] = set()
    for note in (root / ".users").glob("*"):
        handle = os.open(note, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note.unlink()
        except BlockingIOError:
            found |= _paths(note)
        finally:
            os.close(handle)
    return found


def _paths(note: Path) -> set[Path]:
    found: set[Path] = set()
    for line in note.read_text().splitlines():
        sign, path = json.loads(line)
        (found.add if sign == "+" else found.discard)(Path(path))
    return found


def _note(root: Path, sign: str, path: Path) -> None:
    """Add a line to what this process uses; as JSON, because a key may hold line breaks."""
    os.write(_handle(root), (json.dumps([sign, str(path)]) + "\n").encode())


def _handle(root: Path) -> int:
    key = (root, os.getpid())
    if key not in _handles:
        note = root / ".users" / f"{os.getpid()}-{secrets.token_hex(4)}"  # pods that share a disk may share numbers
        note.parent.mkdir(parents=True, exist_ok=True)
        _handles[key] = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        fcntl.flock(_handles[key], fcntl.LOCK_EX)
    return _handles[key]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
