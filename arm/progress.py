"""Progress of long jobs: a bar on a terminal, JSON lines for `pipelines.run`, silence otherwise.

    for step in track(range(500), "train-tokenizer", total=500): ...

Inside a KFP task stdout is no terminal: with ARM_PROGRESS_FILE set, one JSON line at most every second goes there
({name, done, total, rate, note}), and `pipelines.run` draws it; `arm.launch` adds a line at a job's start and end.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
INTERVAL_SECONDS = 1.0


class Progress:
    """A counter that reports at most once a second."""

    def __init__(self, name: str, total: int | None = None, done: int = 0) -> None:
        self.name, self.total, self.done, self.note = name, total, done, ""
        self._first, self._started, self._shown = done, time.monotonic(), 0.0

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units; `note` (a loss, a rate) is shown beside them."""
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if now - self._shown >= INTERVAL_SECONDS or self.done == self.total:
            self._shown = now
            self._report((self.done - self._first) / max(now - self._started, 1e-9))

    def close(self) -> None:
        """End the bar's line."""
        if sys.stderr.isatty() and self._shown:
            print(file=sys.stderr)

    def _report(self, rate: float) -> None:
        if int(os.environ.get("RANK", "0")) > 0:
            return
        if (
            not tell(name=self.name, done=self.done, total=self.total, rate=rate, note=self.note)
            and sys.stderr.isatty()
        ):
            print(f"\r\033[K{render(self.name, self.done, self.total, rate, self.note)}", end="", file=sys.stderr)


def tell(**values: Any) -> bool:
    """Append one JSON line to ARM_PROGRESS_FILE; False when nobody set it."""
    path = os.environ.get("ARM_PROGRESS_FILE")
    if not path:
        return False
    with open(path, "a") as stream:
        stream.write(json.dumps(values) + "\n")
    return True


def render(name: str, done: int, total: int | None, rate: float, note: str) -> str:
    """One line: name, count, rate, time left, note."""
    left = f", {(total - done) / rate:.0f} s left" if total and rate > 0 else ""
    return f"{name}: {done:,}{f' of {total:,}' if total else ''} ({rate:,.1f}/s{left}) {note}"


def track(items: Iterable[Item], name: str, total: int | None = None, done: int = 0) -> Iterator[Item]:
    """Yield the items and report progress on the way."""
    progress = Progress(name, total, done)
    for item in items:
        yield item
        progress.advance()
    progress.close()
