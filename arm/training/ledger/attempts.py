"""How often a run was begun, and the steps that were done again because a kill lost them.

    .work/ledger/attempts.jsonl   {"attempt": 0, "ranks": 2, "first": 0}           a line when an attempt begins,
                                  {"step": 0, "digest": 11, "identity": 12}        and one after every step
    view/attempts.jsonl           {"attempt": 0, "ranks": 2, "first": 0, "end": 8, "lost": [[7, 13, 14]]}

The first file survives a kill at any moment: a torn last line is left out. When an attempt goes on from a checkpoint,
the later steps of the one before become its lost steps, with their digests: done again they must come out the same. The
second file lies under `view/`, which no digest covers: a run that was killed gives the same artifact as one that was not.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from arm.errors import IntegrityError
from arm.storage import Folder

NAME = "view/attempts.jsonl"


@dataclass(slots=True)
class Attempt:
    """One process group's part of a run: steps `first` to `end` − 1."""

    attempt: int
    ranks: int
    first: int
    end: int
    lost: list[list[int]] = field(default_factory=list)
    """[step, digest, identity] of the steps after the checkpoint that the next attempt began at."""
    tombstones: str = ""
    """Digest of the uids that the token shards' readers refused; empty without any."""


class AttemptsLog:
    """Rank 0's log of the attempts of a run."""

    def __init__(self, output: Folder, *, num_ranks: int, tombstones: str = "") -> None:
        self._output, self._num_ranks, self._tombstones = output, num_ranks, tombstones
        self._path = output.scratch("ledger") / "attempts.jsonl"
        self._attempts: list[Attempt] = []

    def begin(self, first_step: int) -> None:
        """Note that an attempt starts at a step; what the one before did after it is lost."""
        before, done = self._found()
        if before:
            before[-1].lost = [values for values in done if values[0] >= first_step]
            before[-1].end = max([first_step, *(step + 1 for step, _, _ in before[-1].lost)])
        now = Attempt(len(before), self._num_ranks, first_step, first_step, tombstones=self._tombstones)
        self._attempts = [*before, now]
        lines = [json.dumps(_values(attempt)) for attempt in self._attempts]
        lines += [_step_line(*values) for values in done if values[0] < first_step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in lines))
        temporary.replace(self._path)
        self.publish()

    def note(self, step: int, digest: int, identity: int) -> None:
        """Append a step that was done."""
        self._attempts[-1].end = step + 1
        with self._path.open("a") as stream:
            stream.write(_step_line(step, digest, identity) + "\n")

    def publish(self) -> None:
        """Write what is known into the output."""
        lines = (json.dumps(_values(attempt), sort_keys=True) + "\n" for attempt in self._attempts)
        self._output.write(NAME, "".join(lines).encode())

    def _found(self) -> tuple[list[Attempt], list[list[int]]]:
        """The attempts before, and each step that they did; on another machine only what was published."""
        if not self._path.is_file():
            return read_attempts(self._output), []
        records = [record for line in self._path.read_text().splitlines() if (record := _parsed(line))]
        steps = {record["step"]: list(record.values()) for record in records if "step" in record}
        return [Attempt(**record) for record in records if "attempt" in record], list(steps.values())


def read_attempts(output: Folder) -> list[Attempt]:
    """The attempts that a run published, oldest first; none when it published none."""
    if not output.exists(NAME):
        return []
    try:
        return [Attempt(**json.loads(line)) for line in output.read(NAME).splitlines()]
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"{output.url}/{NAME} is damaged ({error}).") from None


def _values(attempt: Attempt) -> dict[str, Any]:
    """An attempt as it is written: without tombstones where there are none."""
    values = asdict(attempt)
    return values if attempt.tombstones else {name: value for name, value in values.items() if name != "tombstones"}


def _step_line(step: int, digest: int, identity: int) -> str:
    return json.dumps({"step": step, "digest": digest, "identity": identity})


def _parsed(line: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:  # a kill tore the last line
        return {}
    return found
