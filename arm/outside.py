"""Files that no job made and a config names by path: a file, a folder or a glob, on disk or in object storage, or one
file on a web server.

    outside_addresses("crawl/*/x.warc.gz")     ->  {"a/x.warc.gz": "crawl/a/x.warc.gz", "b/x.warc.gz": ...}
    outside_addresses("s3://bucket/crawl")     ->  {"a/x.warc.gz": "s3://bucket/crawl/a/x.warc.gz", ...}
    outside_addresses("https://a.test/b/x.warc.gz")    ->  {"b/x.warc.gz": "https://a.test/b/x.warc.gz"}

Names are relative to the folder before the first wildcard, so that they differ wherever the files do; names that start
with a dot are left out. A path is looked up inside the source artifact when there is one.
"""

import glob
import hashlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from arm.errors import UserError
from arm.manifest import Manifest
from arm.storage import http, is_private, open_folder
from arm.storage.http import Politeness
from arm.storage.known_digests import digests_of

WEB = ("http://", "https://")


def content_digest(path: str, source: Manifest | None) -> str:
    """A digest of the names below `path` and their bytes, read once a version; of what is not read yet, sizes and ETags."""
    if source is not None:
        lines = [f"{entry.path} {entry.sha256}" for entry in source.files if matches(entry.path, path)]
        if not lines:
            raise UserError(f"{source.url} ({source.kind}) holds nothing at {path!r}.")
    elif path.startswith("s3://"):
        lines = [f"{name} {version}" for name, (_, version) in _objects(path).items()]
    elif path.startswith(WEB):
        lines = [f"{name} {http.version(path, Politeness())}" for name in _web_file(path)]
    else:
        lines = [f"{name} {digest}" for name, digest in digests_of(_local_files(path)).items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def outside_digests(paths: Sequence[str], source: Manifest | None) -> dict[str, str]:
    """Digest what a config points to by path: inside the source artifact, or files that no job made."""
    return {f"outside/{index}": content_digest(path, source) for index, path in enumerate(paths)}


def outside_files(path: str) -> dict[str, Path]:
    """Name -> local path; what lies in object storage is fetched. UserError when there is nothing."""
    return {name: fetched(address) for name, address in outside_addresses(path).items()}


def outside_addresses(path: str) -> dict[str, str]:
    """Name -> where the file lies; nothing is fetched. UserError when there is nothing."""
    if path.startswith("s3://"):
        return {name: address for name, (address, _) in _objects(path).items()}
    if path.startswith(WEB):
        return _web_file(path)
    return {name: str(file) for name, file in _local_files(path).items()}


def refuse_links(path: str, places: Iterable[str | Path]) -> None:
    """UserError where one of the files at `path` lies elsewhere: what came as an archive may hold a link to any file of
    this machine, or to a folder, which a glob enters. Whoever names a link in `path` itself wants it followed."""
    named = Path(path).expanduser()
    if path.startswith(("s3://", *WEB)) or named.is_file():
        return
    root = named if named.is_dir() else Path(*_fixed(named.parts))
    trusted, files = _trusted(root.resolve()), [Path(place) for place in places]
    for file in (*sorted({file.parent for file in files}), *(file for file in files if file.is_symlink())):
        if not file.resolve().is_relative_to(trusted):
            raise UserError(
                f"{file} is a link out of {root}, or below one, to {file.resolve()}; put the files themselves there."
            )


def fetched(address: str, politeness: Politeness | None = None) -> Path:
    """A local path of one file; from afar it is downloaded unless the cache holds this very version."""
    if address.startswith(WEB):
        return http.fetch(address, politeness or Politeness())
    if not address.startswith("s3://"):
        return Path(address)
    folder, _, name = address.rpartition("/")
    try:
        return open_folder(folder).fetch(name)
    except FileNotFoundError:
        raise _nothing(address) from None


def released(address: str) -> None:
    """Say that a fetched file is read no more: a cache may drop its copy."""
    if address.startswith(WEB):
        http.release(address)
    elif address.startswith("s3://"):
        folder, _, name = address.rpartition("/")
        open_folder(folder).release(name)


def matches(entry_path: str, path: str) -> bool:
    """Whether an artifact's file is at `path`, or below it."""
    return entry_path == path or entry_path.startswith(path.rstrip("/") + "/")


def _local_files(path: str) -> dict[str, Path]:
    if "://" in path:
        raise UserError(f"The path {path!r} has an unknown scheme; give local files, s3:// or http(s):// addresses.")
    root = Path(path).expanduser()
    if root.is_file():
        return {root.name: root}
    if root.is_dir():
        files = sorted(root.rglob("*"))
    else:
        files = [Path(name) for name in sorted(glob.glob(str(root), recursive=True))]
        root = Path(*_fixed(root.parts))
    found = {file.relative_to(root).as_posix(): file for file in files if file.is_file()}
    found = {name: file for name, file in found.items() if not is_private(name)}
    if not found:
        raise _nothing(path)
    return found


def _web_file(url: str) -> dict[str, str]:
    """Name -> address: the name is the path on the server, as the lines of a listing have it."""
    return {unquote(urlsplit(url).path).strip("/") or url: url}


def _objects(path: str) -> dict[str, tuple[str, str]]:
    """Name -> (address, version) of the objects at an s3:// address, below it, or that its wildcards fit."""
    from arm.storage.s3 import S3Folder

    words = path.removeprefix("s3://").strip("/").split("/")
    fixed = _fixed(words)
    folder, pattern = S3Folder("s3://" + "/".join(fixed)), words[len(fixed) :]
    if not pattern and len(fixed) > 1:
        parent, name = S3Folder("s3://" + "/".join(fixed[:-1])), fixed[-1]
        if parent.exists(name):
            return {name: (folder.url, parent.versions(name)[name])}
    versions = {name: v for name, v in folder.versions().items() if not pattern or _fits(name.split("/"), pattern)}
    if not versions:
        raise _nothing(path)
    return {name: (f"{folder.url}/{name}", version) for name, version in versions.items()}


def _fixed(words: Sequence[str]) -> list[str]:
    """The parts of a path before the first wildcard."""
    return list(takewhile(lambda word: not glob.has_magic(word), words))


def _fits(words: list[str], pattern: list[str]) -> bool:
    """Whether a name fits a glob, part by part, as glob.glob has it: `*` stays in its part, `**` takes any number."""
    if not pattern:
        return not words
    if pattern[0] == "**":
        return any(_fits(words[start:], pattern[1:]) for start in range(len(words) + 1))
    return bool(words) and fnmatchcase(words[0], pattern[0]) and _fits(words[1:], pattern[1:])


def _trusted(root: Path) -> Path:
    """The folder that links may lead to: the one that was named or, where that is a snapshot in the cache of the Hub, the
    repository's there: `models--x--y/snapshots/<revision>/config.json` is a link into `models--x--y/blobs`."""
    for folder in (root, *root.parents):
        if folder.name == "snapshots" and (folder.parent / "blobs").is_dir():
            return folder.parent
    return root


def _nothing(path: str) -> UserError:
    return UserError(f"There is no file at {path!r}; give a file, a folder or a glob that exists.")
