"""Tombstones: what must not be read any more, as a set of append-only files in a store.

    <store>/tombstones/set/00001.json    {"domain": ["bad.test"], "sha256": [], "uid": [], "url": ["http://a.test/1.png"]}
                           00002.json    {"domain": [], "sha256": [], "uid": ["00ab…", "7f31…"], "url": [], "search_of": 1}
    <store>/tombstones/held/1a2b….json   {"state": 2, "uids": {"1": ["7f31…"]}}    what one artifact holds of the set

A file holds, sorted, what no file before it holds; it is written once, by conditional put, and never changed. What was
asked for is written at once; the uids that the search for it finds follow in a file of their own. The **state** of a set
is the number of its files. Which uids of an artifact a state makes is remembered under `held`, so that planning a job
costs one small file an input. Standard library only.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from arm.errors import IntegrityError
from arm.storage import Folder, open_folder

FOLDER = "tombstones"
KINDS = ("domain", "sha256", "uid", "url")
"""What can be taken down, in the order of a file's keys."""
Entries = Mapping[str, Iterable[str]]
"""Kind -> values."""


@dataclass(frozen=True, slots=True)
class Version:
    """One file of a set."""

    number: int
    """From 1."""
    entries: dict[str, tuple[str, ...]]
    """Kind -> values, sorted."""
    search_of: int
    """The file whose search found these uids; 0 for what was asked for."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one artifact holds of a set."""

    state: int
    """Files of the set that were looked at."""
    uids: dict[int, tuple[str, ...]]
    """Number of a file -> the uids of the artifact that it refuses and no file before it."""

    def until(self, number: int) -> frozenset[str]:
        """The uids that the files up to a number refuse."""
        return frozenset(uid for file, uids in self.uids.items() if file <= number for uid in uids)


def folder_of(store: str) -> Folder:
    """Where a store keeps its tombstones."""
    return open_folder(store).child(FOLDER)


def state_of(store: str) -> int:
    """How many files the set of a store has: 0 without tombstones. One listing."""
    return len(folder_of(store).child("set").list())


def read_versions(store: str) -> list[Version]:
    """Every file of a store's set, in order."""
    folder = folder_of(store).child("set")
    names = folder.list()
    if names != [_name(number) for number in range(1, len(names) + 1)]:
        raise IntegrityError(
            f"{folder.url} lacks a file of the tombstones or holds others; restore it, nothing is read."
        )
    return [_version(number, folder.read(name)) for number, name in enumerate(names, 1)]


def known_entries(versions: Iterable[Version]) -> dict[str, set[str]]:
    """Everything that a set refuses, by kind."""
    known: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for version in versions:
        for kind in KINDS:
            known[kind].update(version.entries[kind])
    return known


def append(store: str, entries: Entries, *, search_of: int = 0) -> Version | None:
    """Add what is not in the set yet as its next file; None when nothing is new. A search is noted even when it found
    nothing. Of two writers each gets a file of its own."""
    folder = folder_of(store).child("set")
    while True:
        versions = read_versions(store)
        known = known_entries(versions)
        new = {kind: tuple(sorted(set(entries.get(kind, ())) - known[kind])) for kind in KINDS}
        if search_of and any(version.search_of >= search_of for version in versions) and not any(new.values()):
            return None
        if not search_of and not any(new.values()):
            return None
        number = len(versions) + 1
        values: dict[str, Any] = {**new, "search_of": search_of} if search_of else {**new}
        if folder.write_if_absent(_name(number), (json.dumps(values, sort_keys=True, indent=1) + "\n").encode()):
            return Version(number, new, search_of)


def is_searched(versions: Iterable[Version], number: int) -> bool:
    """Whether the search for what a file asks was finished."""
    return any(version.search_of >= number for version in versions)


def read_held(store: str, digest: str) -> Held | None:
    """What is remembered of an artifact, if anything."""
    folder, name = folder_of(store), _held_name(digest)
    if not folder.exists(name):
        return None
    try:
        values = json.loads(folder.read(name))
        return Held(int(values["state"]), {int(number): tuple(uids) for number, uids in values["uids"].items()})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise IntegrityError(f"{folder.url}/{name} is damaged; delete it, it is made again.") from None


def write_held(store: str, digest: str, held: Held) -> None:
    """Remember what an artifact holds."""
    values = {"state": held.state, "uids": {str(number): list(uids) for number, uids in held.uids.items() if uids}}
    folder_of(store).write(_held_name(digest), (json.dumps(values, sort_keys=True) + "\n").encode())


def digest_of(uids: Iterable[str]) -> str:
    """The digest of a set of uids: what enters a content key."""
    return hashlib.sha256("\n".join(sorted(uids)).encode()).hexdigest()


def _version(number: int, data: bytes) -> Version:
    try:
        values = json.loads(data)
        return Version(number, {kind: tuple(values[kind]) for kind in KINDS}, int(values.get("search_of", 0)))
    except (ValueError, TypeError, KeyError):
        raise IntegrityError(f"File {number} of the tombstones is damaged; restore it, nothing is read.") from None


def _name(number: int) -> str:
    return f"{number:05d}.json"


def _held_name(digest: str) -> str:
    return f"held/{digest[:32]}.json"
