"""Digests of what no job made: files and folders that a config names by path.

A path is looked up inside the source artifact when there is one, else outside: a file, a folder, a glob, or an
`s3://` or `http(s)://` address (its text is the digest: the content cannot be known before it is read).
"""

import glob
import hashlib
from pathlib import Path

from arm.errors import UserError
from arm.manifest import Manifest
from arm.storage import sha256_of


def content_digest(path: str, source: Manifest | None) -> str:
    """A digest of the names below `path` and their bytes."""
    if source is not None:
        lines = [f"{entry.path} {entry.sha256}" for entry in source.files if matches(entry.path, path)]
        if not lines:
            raise UserError(f"{source.url} ({source.kind}) holds nothing at {path!r}.")
    elif "://" in path:
        lines = [path]
    else:
        files = outside_files(path)
        lines = [f"{name} {sha256_of(file)}" for name, file in files.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def outside_files(path: str) -> dict[str, Path]:
    """Relative name -> file, for a file, a folder or a glob; UserError when there is nothing."""
    root = Path(path).expanduser()
    if root.is_file():
        return {root.name: root}
    if root.is_dir():
        found = {f.relative_to(root).as_posix(): f for f in sorted(root.rglob("*")) if f.is_file()}
    else:
        found = {
            Path(name).name: Path(name) for name in sorted(glob.glob(path, recursive=True)) if Path(name).is_file()
        }
    if not found:
        raise UserError(f"There is no file at {path!r}; give a file, a folder or a glob that exists.")
    return found


def matches(entry_path: str, path: str) -> bool:
    """Whether an artifact's file is at `path`, or below it."""
    return entry_path == path or entry_path.startswith(path.rstrip("/") + "/")
