"""Training checkpoints that survive a kill at any moment, a lost disk and a change of the number of ranks.

    folder/step-00000400/rank-00000-of-00002.pt     torch.save of tensors and plain values
    folder/step-00000400/rank-00001-of-00002.pt
    folder/step-00000400/seal.json                  {"step", "plan", "digest", "files": {name: [bytes, sha256]}}

Every file is written under a temporary name, synced and renamed; the seal comes last, once all ranks have said that
theirs is synced. A checkpoint without its seal does not exist, a damaged one is skipped and the one before it is taken.
Each machine has a folder; where the output lies in a store, a copy of each checkpoint goes up in the background
(`arm.training.mirror`), and a file that this machine does not have is read from there.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from arm.errors import UserError
from arm.storage import WORK, Folder, LocalFolder, sha256_of
from arm.training.engine import num_ranks, rank
from arm.training.mirror import SEAL, Mirror, Seal, newest_first, outdated, step_name

PLACE = "checkpoints"
"""Name of the working folder."""
Value = TypeVar("Value")


class Checkpoints:
    """The last `keep` checkpoints of a run, and those of every `keep_every` steps (0: no more). All ranks call alike."""

    def __init__(self, folder: Path, *, store: Folder | None = None, keep: int = 2, keep_every: int = 0) -> None:
        self.folder, self.keep, self.keep_every = folder, keep, keep_every
        folder.mkdir(parents=True, exist_ok=True)
        self._mirror = Mirror(folder, store, keep, keep_every) if store else None
        self._store = store
        self._newest: int | None = None

    @classmethod
    def of(cls, output: Folder, *, keep: int = 2, keep_every: int = 0) -> "Checkpoints":
        """Those of a job's output: in its working folder, mirrored where the output lies in a store."""
        store = None if isinstance(output, LocalFolder) else output.child(WORK).child(PLACE)
        return cls(output.scratch(PLACE), store=store, keep=keep, keep_every=keep_every)

    def save(self, step: int, state: dict[str, Any], *, plan: str = "", digest: str = "") -> None:
        """Write this rank's part of the state after `step` steps, and seal it with those of the others."""
        if step == self._newest:
            return  # it is there already: the steps since were none
        name = f"rank-{rank():05d}-of-{num_ranks():05d}.pt"
        entry = _write(self.folder / step_name(step) / name, lambda path: torch.save(state, path))
        seal = Seal(step, plan, digest, dict(_gathered((name, entry))))  # all have answered: all are synced
        if leads_machine():
            _write(self.folder / step_name(step) / SEAL, lambda path: path.write_text(seal.to_json()))
            for old in outdated(self.steps(), self.keep, self.keep_every):
                self._remove(old)
        if self._mirror:
            self._mirror.add(seal)
        self._newest = step

    def load_newest(self, *, alone: bool = False) -> "Saved | None":
        """The newest checkpoint that is whole for every rank, or None where there is none; what is newer or unsealed goes.

        `alone` says that a rank needs only its own part as long as the ranks are as many as then. Where there are some and
        none is whole, a UserError: a long run must not start anew unasked.
        """
        here = [path.read_text() for path in sorted(self.folder.glob(f"step-*/{SEAL}"))]
        there = self._mirror.seals() if self._mirror and rank() == 0 else []
        known = _gathered([here, there])
        seals = newest_first(text for texts in known for text in (*texts[0], *texts[1]))
        for seal in seals:
            by_itself = alone and seal.num_ranks == num_ranks()
            if all(_gathered(self._is_whole(seal, by_itself))):
                self._discard(seal.step)
                if self._mirror and seal.to_json() not in known[0][1]:
                    self._mirror.add(seal)
                self._newest = seal.step
                return Saved(seal, self, by_itself)
        if seals:
            raise UserError(
                f"None of the {len(seals)} checkpoints in {self.folder} is whole for {num_ranks()} ranks (damaged, or on "
                "the disk of another machine); bring the files back, or delete that folder to start anew."
            )
        self._discard(0)
        return None

    def steps(self) -> list[int]:
        """The steps with a checkpoint sealed on this machine, oldest first."""
        return sorted(int(path.parent.name.removeprefix("step-")) for path in self.folder.glob(f"step-*/{SEAL}"))

    def close(self, *, finish: bool = False) -> None:
        """Stop copying to the store: at once, or with `finish` when all is there, as far as a minute allows."""
        if self._mirror:
            self._mirror.close(finish=finish)

    def find(self, seal: Seal, name: str, *, check: bool = False) -> Path | None:
        """A local path of a rank's file, from the store if need be; with `check` the local copy is read through, too."""
        size, checksum = seal.files[name]
        path = self.folder / step_name(seal.step) / name
        if path.is_file():
            if path.stat().st_size == size and not (check and sha256_of(path) != checksum):
                return path
            path.unlink(missing_ok=True)
        if self._store is None:
            return None
        try:
            fetched = self._store.fetch(f"{step_name(seal.step)}/{name}")
        except FileNotFoundError:
            return None
        return fetched if fetched.stat().st_size == size and sha256_of(fetched) == checksum else None

    def release(self, seal: Seal) -> None:
        """Let the store's cache drop what `find` fetched."""
        if self._store is not None:
            for name in seal.files:
                self._store.release(f"{step_name(seal.step)}/{name}")

    def _is_whole(self, seal: Seal, alone: bool) -> bool:
        """Whether this rank can get what it would read. Every file is read through by one rank."""
        for number, name in enumerate(sorted(seal.files)):
            mine = number % num_ranks() == rank()
            if mine and self.find(seal, name, check=True) is None:
                return False
            if not (mine or alone or self._exists(seal, name)):
                return False
        return True

    def _exists(self, seal: Seal, name: str) -> bool:
        path, size = self.folder / step_name(seal.step) / name, seal.files[name][0]
        if path.is_file() and path.stat().st_size == size:
            return True
        try:
            return self._store is not None and self._store.size(f"{step_name(seal.step)}/{name}") == size
        except FileNotFoundError:
            return False

    def _discard(self, step: int) -> None:
        """Remove what is newer than `step`, or has no seal: nobody goes on from it."""
        if leads_machine():
            kept = {step_name(kept) for kept in self.steps() if kept <= step}
            for path in self.folder.glob("step-*"):
                if path.name not in kept:
                    shutil.rmtree(path, ignore_errors=True)
        if self._mirror and rank() == 0:
            self._mirror.discard(step)
        _gathered(None)  # nobody writes before all that is newer has gone

    def _remove(self, step: int) -> None:
        (self.folder / step_name(step) / SEAL).unlink(missing_ok=True)
        shutil.rmtree(self.folder / step_name(step), ignore_errors=True)


class Saved:
    """A whole checkpoint. Parts are opened when they are asked for; their tensors are read from the disk when they are used."""

    def __init__(self, seal: Seal, checkpoints: Checkpoints, alone: bool) -> None:
        self.seal, self.step, self.num_ranks = seal, seal.step, seal.num_ranks
        self._checkpoints, self._alone = checkpoints, alone
        self._open: dict[int, dict[str, Any]] = {}

    def part(self, number: int) -> dict[str, Any]:
        """What rank `number` of the saved run saved."""
        if number not in self._open:
            name = sorted(self.seal.files)[number]
            path = self._checkpoints.find(self.seal, name)
            if path is None:
                raise FileNotFoundError(f"{name} of step {self.step} is gone: it was there a moment ago")
            self._open[number] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return self._open[number]

    @property
    def own(self) -> dict[str, Any]:
        """What this rank saved; rank 0's part where the ranks are as many no more."""
        return self.part(rank() if self.num_ranks == num_ranks() else 0)

    def inherited(self) -> list[dict[str, Any]]:
        """Parts whose sums this rank carries on: its own; in another number of ranks, those dealt to it by turns."""
        return [self.part(number) for number in range(rank(), self.num_ranks, num_ranks())]

    def parts(self, name: str) -> list[Any]:
        """One entry of the parts that this rank needs: of all, by rank, or of its own alone."""
        return [self.own[name]] if self._alone else [self.part(number)[name] for number in range(self.num_ranks)]

    def close(self) -> None:
        """Forget the opened parts."""
        self._open.clear()
        self._checkpoints.release(self.seal)


def leads_machine() -> bool:
    """Whether this is the first rank of its machine, which seals and cleans the folder there."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _gathered(value: Value) -> list[Value]:
    """Every rank's value."""
    if not dist.is_initialized() or num_ranks() == 1:
        return [value]
    found: list[Any] = [None] * num_ranks()
    dist.all_gather_object(found, value)
    return found


def _write(path: Path, fill: Callable[[Path], object]) -> tuple[int, str]:
    """Fill a file under a temporary name, sync, rename; its size and checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fill(temporary)
    entry = temporary.stat().st_size, sha256_of(temporary)
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)
    return entry


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
