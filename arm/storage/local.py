"""A folder on a local or mounted disk."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from arm.storage.folder import WORK, checked_name, is_private

TEMPORARY = ".tmp-"


class LocalFolder:
    """Files under a path. A file is written beside its place under a private name, synced, then renamed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()

    def __repr__(self) -> str:
        return f"LocalFolder({str(self.path)!r})"

    @property
    def url(self) -> str:
        return str(self.path)

    @property
    def lock_path(self) -> Path:
        return self.path.parent / f".{self.path.name}.lock"

    def child(self, name: str) -> "LocalFolder":
        return LocalFolder(self._at(name))

    def read(self, name: str) -> bytes:
        return self._at(name).read_bytes()

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        with self._at(name).open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)

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

    def release(self, name: str) -> None:
        return None

    def forget(self, name: str) -> bool:
        return False

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
        path = self.path / WORK / checked_name(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def discard_scratch(self) -> None:
        shutil.rmtree(self.path / WORK, ignore_errors=True)

    def sweep(self) -> None:
        for path in self.path.rglob(f"{TEMPORARY}*"):
            if WORK not in path.relative_to(self.path).parts:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        target = self._at(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=target.suffix, dir=target.parent)
        os.close(handle)
        os.chmod(temporary, 0o644)
        try:
            yield Path(temporary)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _at(self, name: str) -> Path:
        return self.path / checked_name(name)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
