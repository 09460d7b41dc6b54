"""Manifests: what an artifact is, and how its files are read back.

    manifest.json   {kind, job, version, config, inputs, counts, metrics, licences, files: [{path, bytes, sha256}]}
    run.json        times, host, versions, addresses of the inputs: provenance that no digest covers

The digest of `manifest.json` is the artifact's identity. It holds no time, host or absolute path, so the same inputs,
config and seed give the same digest. It is written last: a folder without it holds no artifact.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from arm.errors import IntegrityError, UserError
from arm.storage import Folder, LocalFolder, open_folder, sha256_of

NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of an artifact."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a job function returns: its counts (integers that balance) and metrics (numbers of quality)."""

    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    """Those found in the data itself."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """An artifact: identity, counts and files, with the folder that it was opened from."""

    kind: str
    job: str
    version: int
    key: str
    """Content key: sha256 over job, version, config identity and input digests."""
    config: dict[str, Any]
    inputs: dict[str, str]
    """Role -> digest of the artifact (or outside file) read in that role."""
    counts: dict[str, int]
    metrics: dict[str, float]
    files: tuple[FileEntry, ...]
    licences: tuple[str, ...] = ()
    """Licences of what it was made from, sorted: its config's own and those of its inputs, judges left out."""
    folder: Folder = field(compare=False, default_factory=lambda: LocalFolder("."))
    """Where it lies; no part of the identity."""
    tombstones: frozenset[str] = field(compare=False, repr=False, default=frozenset())
    """Uids that its readers refuse, put in when a job opens it (`arm.data.refusing`); no part of the identity."""

    @cached_property
    def digest(self) -> str:
        """The artifact's identity: sha256 of the canonical manifest. Kept, for it costs as much as there are files."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def url(self) -> str:
        """The address of the manifest file."""
        return f"{self.folder.url}/{NAME}"

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, one trailing newline; no licences, no field."""
        fields = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("folder", "tombstones")
        }
        fields["files"] = [dataclasses.asdict(entry) for entry in self.files]
        if not self.licences:
            del fields["licences"]
        return (json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()

    def select(self, prefix: str = "", suffix: str = "") -> list[FileEntry]:
        """The entries whose path starts with `prefix` and ends with `suffix`, sorted by path."""
        return [e for e in self.files if e.path.startswith(prefix) and e.path.endswith(suffix)]

    def local(self, entry: FileEntry | str) -> Path:
        """A local path to the file, its size and checksum verified; IntegrityError names a damaged file."""
        if isinstance(entry, str):
            entry = self._entry(entry)
        path = self._fetched(entry)
        try:
            _verify(path, entry, f"{self.folder.url}/{entry.path}")
        except IntegrityError:
            if not self.folder.forget(entry.path):
                raise
            path = self._fetched(entry)  # the copy was damaged, not what it was copied from
            _verify(path, entry, f"{self.folder.url}/{entry.path}")
        return path

    def stream(self, entries: Sequence[FileEntry]) -> Iterator[Path]:
        """Local, verified paths of files that are read one after the other: the next is fetched while one is read, and
        a cache may drop what was read, so that the whole needs no room on this disk."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.local, entries[0]) if entries else None
            for entry, following in zip_longest(entries, entries[1:]):
                assert coming is not None
                path = coming.result()
                coming = pool.submit(self.local, following) if following else None
                yield path
                self.folder.release(entry.path)

    def local_folder(self, prefix: str) -> Path:
        """A local folder that holds every file under `prefix/`, verified: what `from_pretrained` wants."""
        entries = self.select(prefix.rstrip("/") + "/")
        if not entries:
            raise IntegrityError(f"{self.url} ({self.kind}) holds nothing under {prefix!r}.")
        root = None
        for entry in entries:
            path = self.local(entry)
            depth = len(Path(entry.path).relative_to(prefix).parts)
            root = path.parents[depth - 1]
        assert root is not None
        return root

    def _fetched(self, entry: FileEntry) -> Path:
        try:
            return self.folder.fetch(entry.path)
        except FileNotFoundError:
            raise IntegrityError(
                f"{self.folder.url}/{entry.path} is missing; delete that folder and run again."
            ) from None

    def _entry(self, path: str) -> FileEntry:
        for entry in self.files:
            if entry.path == path:
                return entry
        raise IntegrityError(f"{self.url} ({self.kind}) lists no file {path!r}.")


def load(url: str) -> Manifest:
    """Open a manifest by its folder, its family folder (the newest), its file, or a reference made by `save_reference`."""
    if "://" not in url and Path(url).is_file() and Path(url).name != NAME:
        return _load_reference(Path(url))
    folder_url = url.removesuffix("/" + NAME).rstrip("/")
    folder = open_folder(folder_url)
    if not folder.exists(NAME) and folder.exists("current.json"):
        pointer = json.loads(folder.read("current.json"))
        return load(f"{folder_url}/{pointer['manifest']}")
    try:
        values = json.loads(folder.read(NAME))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder_url} holds no {NAME}: not an artifact, or its job has not finished; run that job first."
        ) from None
    except json.JSONDecodeError:
        raise IntegrityError(f"{folder_url}/{NAME} is damaged; delete that folder and run the job again.") from None
    return from_values(values, folder)


def complete_artifacts(url: str, *, of_a_store: bool = False) -> list[str]:
    """Addresses of the complete artifacts of a family folder, or of all families of a store, older versions included."""
    folder, depth = open_folder(url), 2 if of_a_store else 1
    names = [name for name in folder.list() if name.count("/") == depth and name.endswith(f"/{NAME}")]
    return [f"{folder.url}/{name}" for name in names]


def _load_reference(path: Path) -> Manifest:
    try:
        values = json.loads(path.read_text())
        address, digest = str(values["manifest"]), str(values["digest"])
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{path} is neither a manifest nor a reference to one; give the folder of a finished job."
        ) from None
    return _checked(load(address), digest)


def from_values(values: dict[str, Any], folder: Folder) -> Manifest:
    """Build a manifest from its parsed JSON."""
    try:
        files = tuple(FileEntry(**entry) for entry in values.pop("files"))
        licences = tuple(values.pop("licences", ()))
        return Manifest(**values, files=files, licences=licences, folder=folder)
    except (TypeError, KeyError) as error:
        raise IntegrityError(f"{folder.url}/{NAME} is not a manifest of this program ({error}).") from None


def point(family_url: str, manifest: Manifest) -> None:
    """Turn `current.json` of a family folder to one of its artifacts, unless it points there already."""
    _write_pointer(open_folder(family_url), "current.json", manifest)


def replace_by(family_url: str, key: str, manifest: Manifest) -> None:
    """Note that an artifact of the family stands in for the one of that key, should that be deleted."""
    _write_pointer(open_folder(family_url), f"compacted/{key[:16]}.json", manifest)


def stand_in(family_url: str, key: str) -> Manifest | None:
    """The artifact that stands in for the deleted one of that key, if any."""
    family, name = open_folder(family_url), f"compacted/{key[:16]}.json"
    if not family.exists(name):
        return None
    place = json.loads(family.read(name))["manifest"]
    return load(f"{family_url.rstrip('/')}/{place}") if family.exists(place) else stand_in(family_url, place)


def save_reference(manifest: Manifest, path: str) -> None:
    """Write a small file that points to a manifest: what crosses a KFP border."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"manifest": manifest.url, "digest": manifest.digest}) + "\n")


def entries_of(folder: Folder) -> tuple[FileEntry, ...]:
    """List and hash every published file of a folder, leaving out what no digest covers (`run.json`, `view/`)."""
    names = [n for n in folder.list() if n not in (NAME, "run.json") and not n.startswith("view/")]
    return tuple(_entry_of(folder, name) for name in names)


def licences_in(config: Any) -> set[str]:
    """Every `licence` in a config's plain values, however deep.

    {"source": {"licence": "CC0-1.0"}, "licence": "MIT"}  ->  {"CC0-1.0", "MIT"}
    """
    if isinstance(config, dict):
        own = {config["licence"]} if isinstance(config.get("licence"), str) else set()
        return own.union(*(licences_in(value) for value in config.values()))
    if isinstance(config, list | tuple):
        return set().union(*(licences_in(value) for value in config))
    return set()


def _write_pointer(family: Folder, name: str, manifest: Manifest) -> None:
    values = {"manifest": f"{manifest.key[:16]}/{NAME}", "digest": manifest.digest}
    data = (json.dumps(values) + "\n").encode()
    if not family.exists(name) or family.read(name) != data:
        family.write(name, data)


def _entry_of(folder: Folder, name: str) -> FileEntry:
    path = folder.fetch(name)
    entry = FileEntry(path=name, bytes=path.stat().st_size, sha256=sha256_of(path))
    folder.release(name)  # other machines' files may be more than this disk holds
    return entry


def _checked(manifest: Manifest, digest: str) -> Manifest:
    if manifest.digest != digest:
        raise IntegrityError(
            f"{manifest.url} has changed since it was handed over (digest {manifest.digest[:12]}, expected {digest[:12]})."
        )
    return manifest


def _verify(path: Path, entry: FileEntry, name: str) -> None:
    stat = path.stat()
    if stat.st_size != entry.bytes:
        raise IntegrityError(f"{name} is truncated or altered: {stat.st_size} bytes, expected {entry.bytes}.")
    if _digest(str(path), stat.st_size, stat.st_mtime_ns) != entry.sha256:
        raise IntegrityError(f"{name} is altered: its sha256 differs from the manifest's {entry.sha256[:12]}….")


@lru_cache(maxsize=100_000)
def _digest(path: str, size: int, modified_ns: int) -> str:
    """Hash a file once per process and version of it."""
    return sha256_of(Path(path))
