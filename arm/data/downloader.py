"""img2dataset's Downloader with its fetch replaced by the guard, and its main entry with our Downloader.

img2dataset looks its Downloader up in its own module, so a subclass put there is used without a fork. The subclass is
pickled to the workers, which build one Guard per process (robots.txt, connections and DNS are kept in it).
"""

import contextlib
import ctypes
import functools
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import img2dataset.downloader  # type: ignore[import-untyped]
import img2dataset.resizer  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
from img2dataset.downloader import Downloader
from img2dataset.logger import write_stats  # type: ignore[import-untyped]
from img2dataset.writer import BufferedParquetWriter  # type: ignore[import-untyped]

from arm.data.guard import Fetched, Guard, Policy

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""glibc's malloc.h."""
_guards: dict[str, Guard] = {}


class GuardedDownloader(Downloader):  # type: ignore[misc]
    """Downloads a shard of URLs through the guard."""

    def __init__(self, *, policy: Policy, **options: Any) -> None:
        super().__init__(**options | {"sample_writer_class": ImageWriter})
        self.policy = policy

    def download_shard(self, row: Any) -> None:
        """Download one shard; the guard answers where img2dataset's own fetch stood."""
        give_memory_back()
        guard = guard_of(self.policy)
        img2dataset.downloader.download_image_with_retry = functools.partial(fetch, guard)
        img2dataset.downloader.write_stats = functools.partial(write_verdicts_and_stats, guard)
        img2dataset.resizer.SuppressStdoutStderr = (
            contextlib.nullcontext
        )  # ten system calls an image, under all threads
        super().download_shard(row)


class Stream(io.BytesIO):
    """An image's bytes for img2dataset; its memory goes back to the guard when img2dataset closes it."""

    def __init__(self, fetched: Fetched) -> None:
        super().__init__(fetched.body or b"")
        self._leases = fetched.leases

    def close(self) -> None:
        """Close it and release the memory."""
        super().close()
        for lease in self._leases:
            if lease is not None:
                lease.release()


class ImageWriter:
    """In place of img2dataset's writers: the images one behind the other in a file, their places in the table of rows.

    A tar with three members an image, written and read again, took a sixth of a download's time.
    """

    def __init__(self, shard: int, folder: str, _: bool, digits: int, schema: pa.Schema, *__: Any) -> None:
        stem = f"{folder}/{shard:0{digits}d}"
        schema = schema.append(pa.field("offset", pa.int64())).append(pa.field("length", pa.int64()))
        self._rows = BufferedParquetWriter(f"{stem}.parquet", schema, 1_000)
        self._images = Path(f"{stem}.images").open("wb", buffering=1 << 20)  # noqa: SIM115  closed by `close`

    def write(self, image: bytes | None, _: str, __: Any, row: dict[str, Any]) -> None:
        """Write an image, if there is one, and the row."""
        place = (None, None) if image is None else (self._images.tell(), len(image))
        self._images.write(image or b"")
        self._rows.write(row | dict(zip(("offset", "length"), place, strict=True)))

    def close(self) -> None:
        """The images first: a row must not name what is not there."""
        self._images.close()
        self._rows.close()


class QuietLogger:
    """In place of img2dataset's logging process: `download-images` counts for itself."""

    def __init__(self, *_: Any) -> None:
        self.done_shards: set[int] = set()

    def start(self) -> None:
        """Nothing to start."""

    def join(self) -> None:
        """Nothing to wait for."""

    def terminate(self) -> None:
        """Nothing to stop."""


def guard_of(policy: Policy) -> Guard:
    """This process's guard under a policy; it holds a file open, so that none is built in vain."""
    key = repr(policy)
    if key not in _guards:
        _guards[key] = Guard(policy)
    return _guards[key]


def give_memory_back() -> None:
    """Have glibc return large blocks to the system when they are freed: by itself it keeps them, for each thread."""
    with contextlib.suppress(AttributeError):  # another C library
        set_option = ctypes.CDLL(None).mallopt
        for option, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, 1 << 18), (M_TRIM_THRESHOLD, 1 << 20)):
            set_option(option, value)


def fetch(guard: Guard, row: tuple[int, str], **_: Any) -> tuple[int, io.BytesIO | None, str | None]:
    """img2dataset's contract: (key, stream, None) or (key, None, "reason status")."""
    key, url = row
    fetched = guard.fetch(url)
    if fetched.body is None:
        return key, None, f"{fetched.reason} {fetched.status or ''}".strip()
    return key, Stream(fetched), None


def write_verdicts_and_stats(guard: Guard, folder: str, shard: int, *others: Any) -> None:
    """The guard's tables before img2dataset's stats, which say that the shard is complete."""
    digits = others[-1]
    guard.log.write(f"{folder}/{shard:0{digits}d}")
    write_stats(folder, shard, *others)


@contextlib.contextmanager
def guarded(policy: Policy) -> Iterator[Any]:
    """Yield img2dataset's `download` with the guard in it; put everything back at the end."""
    main = sys.modules["img2dataset.main"]
    before = {name: getattr(main, name) for name in ("Downloader", "LoggerProcess")}
    handler = signal.getsignal(signal.SIGINT)
    main.Downloader = functools.partial(GuardedDownloader, policy=policy)  # type: ignore[attr-defined]
    main.LoggerProcess = QuietLogger  # type: ignore[attr-defined]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield main.download
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            setattr(main, name, value)
