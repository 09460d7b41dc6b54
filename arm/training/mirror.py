"""Copies of checkpoints in the store, made by a thread that cannot fail the training.

    step 400 sealed here ──► each rank uploads its file ──► rank 0 sees all of them there ──► seal.json, last

What goes wrong is said once a checkpoint and otherwise left alone: the next one is tried again. A checkpoint that is
removed here before it is there (uploads slower than training) is given up.
"""

import json
import queue
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from arm.storage import Folder, copy_file
from arm.training.engine import num_ranks, rank

SEAL = "seal.json"
POLL_SECONDS = 0.5
FINISH_SECONDS = 60.0
"""How long a run that was asked to stop waits for its last copy."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What makes files a checkpoint."""

    step: int
    plan: str
    """Digest of the plan of data that the run follows."""
    digest: str
    """Digest of weights and optimiser over all ranks, where the engine gives one."""
    files: dict[str, tuple[int, str]]
    """Name -> bytes and sha256, one file a rank."""

    @property
    def num_ranks(self) -> int:
        """Ranks of the run that saved."""
        return len(self.files)

    def to_json(self) -> str:
        """As it is written."""
        values = {"step": self.step, "plan": self.plan, "digest": self.digest, "files": self.files}
        return json.dumps(values, sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Seal | None":
        """Read back; None for what is no seal."""
        try:
            values = json.loads(text)
            files = {str(name): (int(size), str(checksum)) for name, (size, checksum) in values["files"].items()}
            return cls(int(values["step"]), str(values["plan"]), str(values["digest"]), files)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def newest_first(texts: Iterable[str]) -> list[Seal]:
    """The different seals among some texts."""
    seals = {text: seal for text in texts if (seal := Seal.from_json(text))}
    return [seal for _, seal in sorted(seals.items(), key=lambda item: (-item[1].step, item[0]))]


def outdated(steps: Sequence[int], keep: int, keep_every: int) -> list[int]:
    """The steps whose checkpoints go.

    (100, 150, 200, 250, 300), keep 2, keep_every 100  ->  150;   keep_every 0  ->  100, 150, 200
    """
    return [step for step in sorted(steps)[:-keep] if not keep_every or step % keep_every]


def step_name(step: int) -> str:
    """The folder of a checkpoint."""
    return f"step-{step:08d}"


class Mirror:
    """Uploads the checkpoints of this rank from `local` to `store`."""

    def __init__(self, local: Path, store: Folder, keep: int, keep_every: int) -> None:
        self._local, self._store, self._keep, self._keep_every = local, store, keep, keep_every
        self._waiting: queue.Queue[Seal | None] = queue.Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint-mirror", daemon=True)
        self._thread.start()

    def add(self, seal: Seal) -> None:
        """Copy a checkpoint that lies here, some time."""
        self._waiting.put(seal)

    def close(self, *, finish: bool) -> None:
        """End the thread: after all copies and at most a minute, or as soon as it is between two files."""
        if not finish:
            self._closing.set()
        self._waiting.put(None)
        self._thread.join(FINISH_SECONDS)
        self._closing.set()

    def seals(self) -> list[str]:
        """The seals in the store, as text. Raises as the store does."""
        return [self._store.read(name).decode() for name in self._store.list() if name.endswith(f"/{SEAL}")]

    def discard(self, step: int) -> None:
        """Remove what the store has of checkpoints newer than `step`, and of unsealed ones. Raises as the store does."""
        names = self._store.list()
        sealed = {name.partition("/")[0] for name in names if name.endswith(f"/{SEAL}")}
        kept = {name for name in sealed if int(name.removeprefix("step-")) <= step}
        self._delete({name.partition("/")[0] for name in names} - kept, names)

    def _run(self) -> None:
        while (seal := self._waiting.get()) is not None:
            try:
                if self._upload(seal) and rank() == 0 and self._all_there(seal):
                    self._store.write(f"{step_name(seal.step)}/{SEAL}", seal.to_json().encode())
                    self._prune()
            except Exception as error:  # whatever it is: training goes on
                print(f"The checkpoint of step {seal.step} is not in the store: {error}", file=sys.stderr, flush=True)

    def _upload(self, seal: Seal) -> bool:
        """Send this rank's files; whether the checkpoint is still wanted."""
        for name in self._own(seal):
            if not self._is_wanted(seal):
                return False
            with self._store.publish(f"{step_name(seal.step)}/{name}") as path:
                copy_file(self._local / step_name(seal.step) / name, path)
            self._store.forget(f"{step_name(seal.step)}/{name}")  # the file lies here already
        return True

    def _all_there(self, seal: Seal) -> bool:
        """Wait until every rank's file is in the store, as long as the checkpoint is wanted."""
        missing = set(seal.files)
        while self._is_wanted(seal):
            missing -= {name for name in missing if self._has(seal, name)}
            if not missing:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _is_wanted(self, seal: Seal) -> bool:
        here = [(self._local / step_name(seal.step) / name).is_file() for name in self._own(seal)]
        return all(here) and not self._closing.is_set()

    def _own(self, seal: Seal) -> list[str]:
        return sorted(seal.files)[rank() :: num_ranks()]

    def _has(self, seal: Seal, name: str) -> bool:
        try:
            return self._store.size(f"{step_name(seal.step)}/{name}") == seal.files[name][0]
        except FileNotFoundError:
            return False

    def _prune(self) -> None:
        names = self._store.list()
        steps = [int(name.partition("/")[0].removeprefix("step-")) for name in names if name.endswith(f"/{SEAL}")]
        self._delete({step_name(step) for step in outdated(steps, self._keep, self._keep_every)}, names)

    def _delete(self, folders: set[str], names: Sequence[str]) -> None:
        """The seals first: what has lost a file must have lost its seal."""
        found = [name for name in names if name.partition("/")[0] in folders]
        for name in sorted(found, key=lambda name: not name.endswith(f"/{SEAL}")):
            self._store.delete(name)
