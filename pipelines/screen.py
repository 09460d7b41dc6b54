"""What `pipelines.run` shows: one line a job, and under it, on a terminal, the progress of the job at work.

     9/23 09-extract-pairs                    8,120 of 9,000 pairs                                  14.2 s
    10/23 10-filter-pairs                     5,204 of 8,120 pairs                            already done
    11/23 11-download-images   2,100 of 5,204 (310.0/s, 10 s left)

Tasks append JSON lines to one file (`arm.progress`); a thread reads them. Nothing but finished lines is written when
the stream is no terminal.
"""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from arm import manifest as manifests
from arm.errors import ArmError
from arm.progress import render

POLL_SECONDS = 0.2
EQUATIONS = (
    ("candidates_found", "pairs_extracted", "pairs"),
    ("pairs_read", "pairs_kept", "pairs"),
    ("urls_read", "images_downloaded", "images"),
    ("samples_read", "samples_kept", "samples"),
    ("samples_read", "samples_imported", "samples"),
    ("gates", "gates_held", "gates held"),
)
"""What went in, what came out, and what to call it, of jobs that drop some of it."""
TELLING = ("good_images", "scenes", "parameters", "rollouts", "tokens", "steps", "samples", "prompts", "questions")
"""Counts that say the most about a job that drops nothing."""


class Screen:
    """Draws the lines of a progress file on a stream until closed."""

    def __init__(self, path: Path, stream: TextIO, num_jobs: int) -> None:
        self._path, self._stream, self._num_jobs = path, stream, num_jobs
        self._ended, self._position, self._rest = 0, 0, ""
        self.current, self.reused = "the pipeline", 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="screen", daemon=True)

    def __enter__(self) -> "Screen":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._read()
        self._erase()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._read()

    def _read(self) -> None:
        """Handle the whole lines that were added since the last look."""
        if not self._path.is_file():
            return
        with self._path.open() as stream:
            stream.seek(self._position)
            text = stream.read()
            self._position = stream.tell()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._handle(json.loads(line))

    def _handle(self, values: dict[str, Any]) -> None:
        handlers: dict[str | None, Callable[[dict[str, Any]], None]] = {"start": self._start, "end": self._end}
        handlers.get(values.get("event"), self._advance)(values)

    def _start(self, values: dict[str, Any]) -> None:
        self.current = _name(values["output"])
        self._draw("…")

    def _advance(self, values: dict[str, Any]) -> None:
        line = render(values["name"], values["done"], values["total"], values["rate"], values["note"])
        self._draw(line.removeprefix(f"{values['name']}: "))

    def _end(self, values: dict[str, Any]) -> None:
        self._ended += 1
        self.reused += bool(values["reused"])
        ending = "already done" if values["reused"] else f"{values['seconds']:.1f} s"
        self._erase()
        print(f"{self._label(_name(values['output']))} {_counts(values['url']):46} {ending:>12}", file=self._stream)
        self._stream.flush()

    def _label(self, name: str) -> str:
        return f"{self._ended:2}/{self._num_jobs} {name:32}"

    def _draw(self, text: str) -> None:
        """Write over the current line; nothing on a file or pipe."""
        if self._stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            line = f"{self._ended + 1:2}/{self._num_jobs} {self.current:32} {text}"
            self._stream.write(f"\r\033[K{line[:width]}")
            self._stream.flush()

    def _erase(self) -> None:
        if self._stream.isatty():
            self._stream.write("\r\033[K")


def _name(output: str) -> str:
    """`store/toy/10-filter-pairs` -> `10-filter-pairs`."""
    return output.rstrip("/").rpartition("/")[2]


def _counts(url: str) -> str:
    """What a job kept of what it read, or its first count."""
    try:
        counts = manifests.load(url).counts
    except ArmError:
        return ""
    return summarise(counts)


def summarise(counts: dict[str, int]) -> str:
    """What a job made, in a few words.

    {"pairs_read": 9000, "pairs_kept": 8120}        ->  8,120 of 9,000 pairs
    {"documents": 40, "steps": 560, "tokens": 900}  ->  900 tokens, 560 steps
    """
    for into, out, unit in EQUATIONS:
        if into in counts and out in counts:
            return f"{counts[out]:,} of {counts[into]:,} {unit}"
    names = [name for name in TELLING if name in counts] or [name for name in counts if "/" not in name]
    return ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in names[:2])
