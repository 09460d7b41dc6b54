"""When the next request to a host may start, known to every worker process of this machine.

    hosts = Hosts("scratch/hosts", requests_per_second=4, max_failures=50, patience=20)
    hosts.wait("garden.test")                sleeps until the host's turn; Refused("host_down" | "host_busy")
    hosts.note_pause("garden.test", 120)     429 with Retry-After: 120

The processes share one file, mapped into memory: 4,096 sets of 16 entries of 32 bytes. A set that is full forgets the
host whose turn lies furthest back. Times are of the monotonic clock, which the processes of a machine share.

A lock of the file costs more than all else that the guard does for an image. So turns are taken without it: two
processes that look within the same few microseconds start together, which is rare and harmless. All else is locked.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from arm.data.addresses import Refused

ENTRY, TURN = struct.Struct("<QddII"), struct.Struct("<d")
WAYS, SETS = 16, 4_096
SET_BYTES = WAYS * ENTRY.size
COOL_DOWN_SECONDS = 300.0
"""How long a host that failed too often is left alone, ours; then one more failure suffices."""
MAX_THROTTLES = 5
"""So many 429 or 503 in a row, and the host is left alone for as long, ours."""
MAX_PAUSE_SECONDS = 86_400.0


@dataclass(slots=True)
class Entry:
    """What is known of one host."""

    tag: int
    next: float = 0.0
    """When the next request may start, at its rate."""
    until: float = 0.0
    """When it may be asked again at all: Retry-After, or the end of the cool-down."""
    failures: int = 0
    """Connection failures in a row."""
    throttles: int = 0
    """Answers 429 and 503 in a row."""


class Hosts:
    """Rates, pauses and circuit breakers of hosts, shared by threads and, through a file, by processes."""

    def __init__(
        self,
        path: str = "",
        *,
        requests_per_second: float,
        max_failures: int,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval, self._max_failures, self._patience = 1 / requests_per_second, max_failures, patience
        self._clock, self._lock = clock, threading.Lock()
        self._file = _opened(path) if path else -1  # on a cluster's machine as well: one file each
        self._table = mmap.mmap(self._file, SETS * SET_BYTES)

    def wait(self, host: str) -> float:
        """Sleep until the host's turn comes; return the time then. Refused when it shall be left alone."""
        tag = _tag(host)
        with self._lock:
            place = self._find(tag)
            if place is None:
                with self._locked(_set_of(tag)):
                    place = self._claim(tag)
            _, turn, until, failures, _ = self._read(place)
            now, is_down = self._clock(), failures >= self._max_failures
            if until - now > (0.0 if is_down else self._patience):
                raise Refused("host_down" if is_down else "host_busy")
            start = max(now, turn, until)
            TURN.pack_into(self._table, place + TURN.size, start + self._interval)
        if start > now:
            time.sleep(max(0.0, start - self._clock()))
        return start

    def note_answer(self, host: str) -> None:
        """The host answers: what went wrong before is forgotten."""
        tag = _tag(host)
        offset = self._find(tag)
        if offset is not None and not any(self._read(offset)[3:]):
            return  # nearly always: no lock for that
        with self._entry(host) as entry:
            entry.failures = entry.throttles = 0

    def note_failure(self, host: str) -> None:
        """A connection failed; after too many in a row the host is left alone for a while."""
        with self._entry(host) as entry:
            entry.failures += 1
            if entry.failures >= self._max_failures:
                entry.until = max(entry.until, self._clock() + COOL_DOWN_SECONDS)

    def note_pause(self, host: str, seconds: float | None) -> None:
        """The host asks for a pause; without a number 1, 2, 4, ... seconds."""
        with self._entry(host) as entry:
            entry.failures, entry.throttles = 0, entry.throttles + 1
            pause = 2.0 ** min(entry.throttles - 1, 6) if seconds is None else min(seconds, MAX_PAUSE_SECONDS)
            if entry.throttles >= MAX_THROTTLES:
                pause = max(pause, COOL_DOWN_SECONDS)
            entry.until = max(entry.until, self._clock() + pause)

    @contextmanager
    def _entry(self, host: str) -> Iterator[Entry]:
        """The host's entry to read and change, nobody else in its set meanwhile."""
        tag = _tag(host)
        with self._lock, self._locked(_set_of(tag)):
            place = self._find(tag)
            place = self._claim(tag) if place is None else place
            entry = Entry(*self._read(place))
            yield entry
            ENTRY.pack_into(self._table, place, entry.tag, entry.next, entry.until, entry.failures, entry.throttles)

    def _find(self, tag: int) -> int | None:
        """Where the host's entry lies, if it has one."""
        start, wanted = _set_of(tag), tag.to_bytes(8, "little")
        place = self._table.find(wanted, start, start + SET_BYTES)
        while place >= 0 and (place - start) % ENTRY.size:  # the same bytes inside another entry
            place = self._table.find(wanted, place + 1, start + SET_BYTES)
        return place if place >= 0 else None

    def _claim(self, tag: int) -> int:
        """A place for a new host: a free one, or that of the host least wanted."""
        start = _set_of(tag)
        place = min(range(start, start + SET_BYTES, ENTRY.size), key=lambda place: max(self._read(place)[1:3]))
        ENTRY.pack_into(self._table, place, tag, 0.0, 0.0, 0, 0)
        return place

    def _read(self, place: int) -> tuple[int, float, float, int, int]:
        return ENTRY.unpack_from(self._table, place)

    @contextmanager
    def _locked(self, start: int) -> Iterator[None]:
        """Other processes stay out of a set; the kernel ends the lock of one that dies."""
        if self._file < 0:
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX, SET_BYTES, start)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, SET_BYTES, start)


def _tag(host: str) -> int:
    """64 bits of the host's name, never 0, which is a free entry."""
    return int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest(), "little") | 1


def _set_of(tag: int) -> int:
    return (tag >> 1) % SETS * SET_BYTES


def _opened(path: str) -> int:
    """The shared file, made where it is not there; -1 where it cannot be, and the process then keeps to itself."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return -1
    os.ftruncate(file, SETS * SET_BYTES)  # zeros; what another process wrote stays
    return file
