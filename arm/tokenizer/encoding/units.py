"""Units of tokenize-images: a few consecutive image shards of one source, and which worker makes which.

    garden-00000.tar garden-00001.tar garden-00002.tar web-00000.tar, two shards a unit
        ->  garden-00000 (two shards)   garden-00001 (one)   web-00000 (one)

Worker r of N makes the units r, r + N, …: the same files whatever N. Workers are the ranks of one run (RANK of
WORLD_SIZE), or the parts of one output that run apart from each other (ARM_PART, set by `arm.launch`).
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from arm.errors import UserError
from arm.manifest import FileEntry, Manifest
from arm.storage import Folder

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Unit:
    """Image shards whose samples lie together in one token shard a variant."""

    name: str
    shards: tuple[FileEntry, ...]

    @property
    def report(self) -> str:
        """Where its account lies: it is complete when this file is there."""
        return f"reports/{self.name}.json"


def units_of(images: Manifest, shards_per_unit: int) -> list[Unit]:
    """All units of an artifact of image shards, in order of their names."""
    entries = images.select("shards/", ".tar")
    if not entries:
        raise UserError(f"{images.url} ({images.kind}) holds no shard under 'shards/'.")
    units = []
    for source, group in groupby(entries, key=lambda entry: _source(entry.path)):
        shards = tuple(group)
        for number, start in enumerate(range(0, len(shards), shards_per_unit)):
            units.append(Unit(f"{source}-{number:05d}", shards[start : start + shards_per_unit]))
    if len({unit.name for unit in units}) < len(units):
        raise UserError(f"{images.url} holds shards whose names do not sort by source; curate them again.")
    return units


def share_of(units: Sequence[Unit]) -> list[Unit]:
    """The units that this process makes."""
    part = os.environ.get("ARM_PART")
    index, count = (
        map(int, part.split("/"))
        if part
        else (int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    )
    return list(units[index::count])


def leads() -> bool:
    """Whether this process waits for the others and sums up: rank 0, unless it is a part."""
    return "ARM_PART" not in os.environ and os.environ.get("RANK", "0") == "0"


def wait_for(units: Sequence[Unit], output: Folder) -> None:
    """Return when every unit is there; the launcher ends this process when another rank fails."""
    for unit in units:
        while not output.exists(unit.report):
            time.sleep(POLL_SECONDS)


def _source(path: str) -> str:
    """`shards/toy-captions-00002.tar` -> `toy-captions`."""
    return path.removeprefix("shards/").removesuffix(".tar").rpartition("-")[0]
