"""The interface of a folder, and what its implementations share."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Protocol

from arm.errors import UserError

CHUNK_BYTES = 1 << 20
WORK = ".work"
"""The private folder of what belongs to no artifact and goes when the artifact is complete."""


class Folder(Protocol):
    """A folder of files; every method takes a name relative to it."""

    @property
    def url(self) -> str:
        """Where it lies: an absolute local path or `s3://bucket/prefix`."""
        ...

    @property
    def lock_path(self) -> Path:
        """The local file whose lock means that somebody on this machine is writing the folder."""
        ...

    def child(self, name: str) -> "Folder":
        """The folder below this one."""
        ...

    def read(self, name: str) -> bytes:
        """The whole file; FileNotFoundError when it is not there."""
        ...

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer where the file ends; FileNotFoundError when it is not there."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a small file atomically, replacing what was there."""
        ...

    def write_if_absent(self, name: str, data: bytes) -> bool:
        """Write unless the name exists (conditional put where offered); False when it was there already."""
        ...

    def publish(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Yield a local path to fill (a file); at a clean exit it appears under `name` atomically."""
        ...

    def fetch(self, name: str) -> Path:
        """A local path that holds the file: itself on disk, a cached download from object storage."""
        ...

    def release(self, name: str) -> None:
        """Say that a fetched file is read no more: a cache may drop its copy."""
        ...

    def forget(self, name: str) -> bool:
        """Drop a cached copy, so that it is fetched anew; False when there is none, as on disk."""
        ...

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        ...

    def size(self, name: str) -> int:
        """Its size in bytes; FileNotFoundError when it is not there."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Names of all files below, sorted; private names (a part that starts with `.`) are left out."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens when it is not there."""
        ...

    def scratch(self, name: str) -> Path:
        """A private local working folder that survives a kill and belongs to no artifact."""
        ...

    def discard_scratch(self) -> None:
        """Remove every working folder of this folder: its artifact is complete."""
        ...

    def sweep(self) -> None:
        """Remove what killed writers left: temporary files, unfinished uploads. Only the lock's holder may."""
        ...


def checked_name(name: str) -> str:
    """Refuse names that would leave the folder."""
    if not name or name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name:
        raise UserError(f"The file name {name!r} leaves its folder; it must be a relative path without '..'.")
    return name


def is_private(name: str) -> bool:
    """Whether any part of the name starts with a dot: temporary files and working folders."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def publish_tree(output: Folder, name: str, source: Path) -> None:
    """Publish every file below a local folder under `name/`."""
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        with output.publish(f"{name}/{path.relative_to(source).as_posix()}") as target:
            shutil.copyfile(path, target)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, as a hard link where the file system allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
