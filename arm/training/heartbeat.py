"""A watch over the steps: where none ends for too long, the stacks are dumped and the process asks to be run again.

A rank that hangs (a dead network card, a stopped process) holds all others in their next collective. Each rank watches
itself from a thread, so those notice, too; the launcher starts all of them anew from the last good checkpoint.

    allowed to be late = max(floor, 10 × the 95th percentile of the last 200 steps); `first` before 5 steps are known, and
                         while something that is no step goes on: saving, held-out losses

Only time in which the watch itself ran counts: a suspended laptop or a stopped job (Ctrl-Z) is late for nobody.
"""

import faulthandler
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from arm.children import RUN_AGAIN

FACTOR = 10.0
WINDOW = 200
ENOUGH = 5
"""Steps that are needed to know their times."""


class Heartbeat:
    """Watches the loop inside its `with` block; `beat` says that a step has ended."""

    def __init__(self, stacks: Path, *, floor_seconds: float, first_seconds: float) -> None:
        self.stacks, self.floor_seconds, self.first_seconds = stacks, floor_seconds, first_seconds
        self._steps: deque[float] = deque(maxlen=WINDOW)
        self._waited, self._resting = 0.0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._last = time.monotonic()

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def beat(self) -> None:
        """A step has ended."""
        now = time.monotonic()
        self._steps.append(now - self._last)
        self._last, self._waited = now, 0.0

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Something that is no step, and may take as long as the first one."""
        self._resting += 1
        self._waited = 0.0
        try:
            yield
        finally:
            self._resting -= 1
            self._last, self._waited = time.monotonic(), 0.0

    def allowed_seconds(self) -> float:
        """How long the step that runs may take."""
        if self._resting or len(self._steps) < ENOUGH:
            return self.first_seconds
        return allowed(list(self._steps), self.floor_seconds)

    def _watch(self) -> None:
        poll = min(1.0, self.floor_seconds / 10)
        last = time.monotonic()
        while not self._ended.wait(poll):
            now = time.monotonic()
            self._waited += min(now - last, 2 * poll)
            last = now
            if self._waited > self.allowed_seconds():
                self._give_up()

    def _give_up(self) -> None:
        """Dump the stacks of all threads to the file and to stderr, and end this process whatever it is stuck in."""
        sentence = f"No step has ended for {self._waited:.0f} s (process {os.getpid()}): stopping, to be run again."
        print(f"{sentence} The stacks are in {self.stacks}.", file=sys.stderr, flush=True)
        with self.stacks.open("a") as stream:
            print(sentence, file=stream, flush=True)
            faulthandler.dump_traceback(stream)
        faulthandler.dump_traceback(sys.stderr)
        os._exit(RUN_AGAIN)


def allowed(steps: list[float], floor_seconds: float) -> float:
    """Ten times the 95th percentile (the nearest rank) of some step times, and no less than the floor.

    20 steps of 1, 2, … 20 s  ->  the 19th: 190;   with a floor of 200  ->  200
    """
    place = -(-95 * len(steps) // 100) - 1
    return max(floor_seconds, FACTOR * sorted(steps)[place])
