"""Training checkpoints that survive a kill at any moment.

    folder/step-00000400.pt       torch.save of tensors and plain values
    folder/step-00000400.json     {"bytes", "sha256"}: written last; a checkpoint without it does not exist

Both are written under a temporary name, synced and renamed. A damaged checkpoint is skipped and the one before it is
used. Each rank keeps its own folder; `load_common` goes back to the newest step that every rank can load.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from arm.storage import sha256_of


class Checkpoints:
    """The last `keep` checkpoints of one process in a folder."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` steps; older checkpoints beyond `keep` are removed."""
        data = self._data(step)
        temporary = data.with_suffix(".tmp")
        torch.save(state, temporary)
        _sync(temporary)
        seal = {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
        temporary.replace(data)
        _write(self._seal(step), json.dumps(seal))
        for old in self.steps()[: -self.keep]:
            self._seal(old).unlink(missing_ok=True)
            self._data(old).unlink(missing_ok=True)

    def load(self, step: int) -> dict[str, Any]:
        """The state saved after `step` steps (call `steps` or `good_steps` first)."""
        state: dict[str, Any] = torch.load(self._data(step), map_location="cpu", weights_only=True)
        return state

    def load_common(self) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint that every rank holds whole, as (step, state), or None; newer ones are removed.

        Every rank calls this.
        """
        held = [self.good_steps()]
        if dist.is_initialized():
            held = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(held, self.good_steps())
        step = common_step(held)
        self.discard_after(step or 0)
        return None if step is None else (step, self.load(step))

    def steps(self) -> list[int]:
        """The steps with a sealed checkpoint, oldest first."""
        return sorted(int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.json"))

    def good_steps(self) -> list[int]:
        """The steps whose file still has the size and checksum that were sealed, oldest first."""
        return [step for step in self.steps() if self._is_whole(step)]

    def discard_after(self, step: int) -> None:
        """Remove checkpoints newer than `step`: another rank never finished them."""
        for newer in self.steps():
            if newer > step:
                self._seal(newer).unlink(missing_ok=True)
                self._data(newer).unlink(missing_ok=True)

    def _is_whole(self, step: int) -> bool:
        try:
            seal = json.loads(self._seal(step).read_text())
            data = self._data(step)
            return bool(data.stat().st_size == seal["bytes"] and sha256_of(data) == seal["sha256"])
        except (OSError, ValueError, KeyError):
            return False

    def _data(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def _seal(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.json"


def common_step(steps_by_rank: Sequence[Sequence[int]]) -> int | None:
    """The newest step that every rank holds whole; None when there is none.

    [[200, 400], [200]]  ->  200
    """
    shared = set(steps_by_rank[0]).intersection(*steps_by_rank[1:])
    return max(shared) if shared else None


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".seal")
    temporary.write_text(text)
    _sync(temporary)
    temporary.replace(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
