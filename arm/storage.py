"""Folders of files, local or in object storage, behind one interface.

    folder = open_folder("store/05-filter-pairs")            a local folder
    folder = open_folder("s3://bucket/runs/7")               the same through boto3

Names inside a folder are relative POSIX paths (`shards/000000.tar`). A file becomes visible whole or not at all:
`write` and `publish` go to a temporary name first. What is read is checked by whoever knows the checksum (the manifest).
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from arm.errors import UserError

CHUNK_BYTES = 1 << 20


class Folder(Protocol):
    """A folder of files; every method takes a name relative to it."""

    @property
    def url(self) -> str:
        """Where it lies: an absolute local path or `s3://bucket/prefix`."""
        ...

    def child(self, name: str) -> "Folder":
        """The folder below this one."""
        ...

    def read(self, name: str) -> bytes:
        """The whole file; FileNotFoundError when it is not there."""
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

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        ...

    def size(self, name: str) -> int:
        """Its size in bytes."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Names of all files below, sorted; dot files and private names (a part that starts with `.`) are left out."""
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


class LocalFolder:
    """A folder on a local or mounted disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()

    @property
    def url(self) -> str:
        return str(self.path)

    def child(self, name: str) -> "LocalFolder":
        return LocalFolder(self._at(name))

    def read(self, name: str) -> bytes:
        return self._at(name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        with self.publish(name) as path:
            path.write_bytes(data)

    def write_if_absent(self, name: str, data: bytes) -> bool:
        with self._temporary(name) as path:
            path.write_bytes(data)
            _sync(path)
            try:
                os.link(path, self._at(name))
            except FileExistsError:
                return False
        return True

    @contextlib.contextmanager
    def publish(self, name: str) -> Iterator[Path]:
        with self._temporary(name) as path:
            yield path
            _sync(path)
            path.replace(self._at(name))

    def fetch(self, name: str) -> Path:
        path = self._at(name)
        if not path.is_file():
            raise FileNotFoundError(str(path))
        return path

    def exists(self, name: str) -> bool:
        return self._at(name).is_file()

    def size(self, name: str) -> int:
        return self._at(name).stat().st_size

    def list(self, prefix: str = "") -> list[str]:
        names = (path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        return sorted(name for name in names if name.startswith(prefix) and not is_private(name))

    def delete(self, name: str) -> None:
        self._at(name).unlink(missing_ok=True)

    def scratch(self, name: str) -> Path:
        path = self.path / ".work" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def discard_scratch(self) -> None:
        shutil.rmtree(self.path / ".work", ignore_errors=True)

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        target = self._at(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".tmp-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        os.chmod(temporary, 0o644)
        try:
            yield Path(temporary)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _at(self, name: str) -> Path:
        return self.path / checked_name(name)


def open_folder(url: str) -> Folder:
    """Open a folder by its address: a local path or `s3://bucket/prefix`."""
    if url.startswith("s3://"):
        from arm.storage_s3 import S3Folder

        return S3Folder(url)
    if "://" in url:
        raise UserError(f"The store {url!r} has an unknown scheme; give a local folder or s3://bucket/prefix.")
    return LocalFolder(url)


def checked_name(name: str) -> str:
    """Refuse names that would leave the folder."""
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name:
        raise UserError(f"The file name {name!r} leaves its folder; it must be a relative path without '..'.")
    return name


def is_private(name: str) -> bool:
    """Whether any part of the name starts with a dot: temporary files and working folders."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, as a hard link where the file system allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
