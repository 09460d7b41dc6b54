"""Frames of videos from child processes that hold nothing worth taking: a video may kill its child, and costs only itself.

A child serves one video after another (it takes a third of a second to start); several work side by side, and results
come in the order of the videos, whatever the number of children.
"""

import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm.children import start_child
from arm.data.config import VideoConfig
from arm.data.formats.rows import Blob, Unfit
from arm.data.images import BadImageError, open_image
from arm.errors import UserError
from arm.records import Image

REASONS = ("bad_video", "no_video", "not_a_video", "too_many_pixels")
KILLED = "killed"
"""What a child died of that somebody else ended."""
WALL_SECONDS_PER_CPU_SECOND = 20
"""How long an answer is waited for, on a busy machine or a slow disk."""
MAX_HEADER_BYTES = 1 << 16
MAX_FRAME_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame and its time in the film."""

    seconds: float
    image: Image


class _Lost(Exception):
    """The child is gone, too late, or talks nonsense."""


class Decoder:
    """One child, started when it is needed, and again after a video has killed it."""

    def __init__(self, config: VideoConfig) -> None:
        self.config = config
        self._child: subprocess.Popen[bytes] | None = None
        self._memory: int | None = None
        self._request: dict[str, Any] = {}

    def submit(self, video: Blob | bytes) -> None:
        """Begin to decode a video; `result` must be called before the next."""
        if isinstance(video, bytes):
            self._memory = os.memfd_create("video")
            with open(self._memory, "wb", closefd=False) as stream:
                stream.write(video)
            video = Blob(Path(f"/proc/{os.getpid()}/fd/{self._memory}"), 0, len(video))
        self._request = {
            "path": str(video.path.absolute()), "offset": video.offset, "length": video.length,
            "rate": self.config.frames_per_second, "max_frames": self.config.max_frames,
            "max_side": self.config.max_side, "cpu": self.config.max_cpu_seconds,
        }  # fmt: skip
        self._send()

    def result(self) -> list[Frame]:
        """The frames of the submitted video; Unfit says why there are none. Whoever kills the child from outside does not
        change what comes of the video: it is decoded once more."""
        try:
            for _ in range(2):
                try:
                    return self._answer()
                except (_Lost, ValueError, TypeError, LookupError):
                    reason = self._end()
                if reason != KILLED:
                    raise Unfit(reason)
                self._send()
            raise Unfit("bad_video")
        finally:
            if self._memory is not None:
                os.close(self._memory)
                self._memory = None

    def _send(self) -> None:
        stdin = self._running().stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `result` finds out
            stdin.write(json.dumps(self._request).encode() + b"\n")
            stdin.flush()

    def close(self) -> None:
        """End the child."""
        self._end()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._child is None or self._child.poll() is not None:
            self._end()
            if importlib.util.find_spec("av") is None:
                raise UserError("Videos need PyAV, which is not installed; run `pip install av`.")
            command = [sys.executable, "-m", "arm.data.video.child"]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._child = start_child(command, **pipes)
        return self._child

    def _answer(self) -> list[Frame]:
        deadline = time.monotonic() + WALL_SECONDS_PER_CPU_SECOND * self.config.max_cpu_seconds
        buffered = bytearray()
        while b"\n" not in buffered:
            if len(buffered) > MAX_HEADER_BYTES:
                raise _Lost
            buffered += self._read(deadline)
        header, _, rest = bytes(buffered).partition(b"\n")
        answer = json.loads(header)
        if "reason" in answer:
            raise Unfit(answer["reason"] if answer["reason"] in REASONS else "bad_video")
        lengths = [int(frame["length"]) for frame in answer["frames"]]
        if len(lengths) > self.config.max_frames or any(not 0 < length <= MAX_FRAME_BYTES for length in lengths):
            raise _Lost
        data = bytearray(rest)
        while len(data) < sum(lengths):
            data += self._read(deadline)
        frames, place = [], 0
        for described, length in zip(answer["frames"], lengths, strict=True):
            frames.append(Frame(float(described["time"]), _image(bytes(data[place : place + length]))))
            place += length
        return frames

    def _read(self, deadline: float) -> bytes:
        assert self._child is not None
        assert self._child.stdout is not None
        handle = self._child.stdout.fileno()
        ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(handle, 1 << 20) if ready else b""
        if not data:
            raise _Lost
        return data

    def _end(self) -> str:
        """End the child; what it died of is the reason of the video that it had."""
        child, self._child = self._child, None
        if child is None:
            return "bad_video"
        with contextlib.suppress(OSError):
            child.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(1)
        hangs = child.poll() is None
        child.kill()
        code = child.wait()
        child.stdout.close()  # type: ignore[union-attr]
        if hangs or code == -signal.SIGXCPU:
            return "slow_video"
        return KILLED if code == -signal.SIGKILL else "bad_video"


@contextlib.contextmanager
def decoders(number: int, config: VideoConfig) -> Iterator[deque[Decoder]]:
    """So many children, started when they are needed and ended at the end."""
    pool = [Decoder(config) for _ in range(number)]
    try:
        yield deque(pool)
    finally:
        for decoder in pool:
            decoder.close()


def _image(data: bytes) -> Image:
    try:
        return open_image(data)
    except BadImageError:
        raise _Lost from None
