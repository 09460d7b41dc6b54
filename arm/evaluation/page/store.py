"""What lies in a store: every finished artifact in order, with its provenance.

store/05-filter-pairs/current.json  ->  70786dfb503f5d1f/manifest.json, run.json beside it
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from arm import manifest as manifests
from arm.errors import ArmError
from arm.manifest import Manifest
from arm.storage import open_folder


@dataclass(frozen=True, kw_only=True)
class Step:
    """One artifact of the chain."""

    name: str
    """Its family folder inside the store: `05-filter-pairs`."""
    manifest: Manifest
    run: dict[str, Any]
    """run.json: started, seconds, host, versions; empty when it is not there."""

    @property
    def seconds(self) -> float | None:
        """How long the job ran."""
        seconds = self.run.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(entry.bytes for entry in self.manifest.files)

    @cached_property
    def paths(self) -> frozenset[str]:
        """Of all its files."""
        return frozenset(entry.path for entry in self.manifest.files)

    def has(self, path: str) -> bool:
        """Whether the artifact lists the file."""
        return path in self.paths

    def read_json(self, path: str) -> Any:
        """A JSON file of the artifact, checked; None when it has none or it is damaged."""
        try:
            return json.loads(self.manifest.local(path).read_text())
        except (ArmError, OSError, ValueError):
            return None


def read_store(store: str) -> list[Step]:
    """The newest artifact of every family folder, in the order of their names; unreadable ones are left out.

    A single artifact, or its family folder, is a store of one.
    """
    folder = open_folder(store)
    if folder.exists(manifests.NAME) or folder.exists("current.json"):
        return list(_step(store))
    names = [name.rpartition("/")[0] for name in folder.list() if name.endswith("/current.json")]
    return [step for name in sorted(names) for step in _step(f"{store.rstrip('/')}/{name}", name)]


def read_all(store: str) -> list[Step]:
    """Every complete artifact of every family folder, older ones too; unreadable ones are left out."""
    addresses = manifests.complete_artifacts(store, of_a_store=True)
    return [step for address in addresses for step in _step(address, address.split("/")[-3])]


def read_lines(step: Step, path: str) -> list[dict[str, Any]]:
    """The rows of a JSONL file of an artifact; empty when it has none or it is damaged."""
    try:
        lines = step.manifest.local(path).read_text().split("\n")  # splitlines would cut a text at U+2028
        return [row for row in map(json.loads, filter(None, lines)) if isinstance(row, dict)]
    except (ArmError, OSError, ValueError):
        return []


def _step(address: str, name: str = "") -> Iterator[Step]:
    try:
        manifest = manifests.load(address.rstrip("/"))
    except ArmError:
        return
    try:
        run = json.loads(manifest.folder.read("run.json"))
    except (OSError, ValueError):
        run = {}
    name = name or address.rstrip("/").rpartition("/")[2]
    yield Step(name=name, manifest=manifest, run=run if isinstance(run, dict) else {})
