"""Decodes videos for its parent: one request a line, the frames as JPEG; nothing else is imported here.

    {"path": "a.mp4", "offset": 0, "length": 9000, "rate": 1.0, "max_frames": 6, "max_side": 1024, "cpu": 60}
    {"frames": [{"time": 0.0, "length": 5120}, ...]} and the bytes, or {"reason": "bad_video"}

FFmpeg reads hostile bytes, so this process may be killed, or hurt, without harm: an address space of 2 GiB beyond what the
libraries take, CPU seconds for each video, no file may be written. The container is chosen by the first bytes and forced: FFmpeg would
else follow a playlist's addresses. Streams other than the first video are ignored.
"""

import io
import json
import os
import resource
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import PIL.Image

MEMORY_BYTES = 2 << 30
MAX_PIXELS = 8_192 * 4_320
"""8K; a larger frame is refused before it is decoded."""
QUALITY = 92
"""Of the JPEGs; ours."""
CODECS = (
    "h264,hevc,vp8,libvpx,vp9,libvpx-vp9,av1,libdav1d,mpeg4,mpeg1video,mpeg2video,mjpeg,h263,prores,aac,mp3,opus,vorbis"
)
"""Decoders that may run at all."""
ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
ROTATIONS = {
    90: PIL.Image.Transpose.ROTATE_90,
    180: PIL.Image.Transpose.ROTATE_180,
    270: PIL.Image.Transpose.ROTATE_270,
}


class Refused(Exception):
    """A video that is not decoded; the argument is the reason."""


class Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, path: str, offset: int, length: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._offset, self._length, self._place = offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        self._place = max(0, start + offset)
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._length - self._place)
        self._file.seek(self._offset + self._place)
        data = self._file.read(left if size < 0 else min(size, left))
        self._place += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


def main() -> None:
    """Answer one request after another until the parent closes the pipe."""
    av.logging.set_level(None)
    PIL.Image.new("RGB", (8, 8)).save(io.BytesIO(), "jpeg")  # load the plug-in before files are scarce
    _limit()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _allow_cpu(request["cpu"])
        try:
            frames = list(_frames(request))
            answer: dict[str, Any] = {"frames": [{"time": time, "length": len(data)} for time, data in frames]}
        except Refused as error:
            frames, answer = [], {"reason": str(error)}
        except Exception:  # whatever FFmpeg makes of hostile bytes, for want of memory too
            frames, answer = [], {"reason": "bad_video"}
        sys.stdout.buffer.write(b"".join([json.dumps(answer).encode(), b"\n", *(data for _, data in frames)]))
        sys.stdout.buffer.flush()


def _limit() -> None:
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow_cpu(seconds: int) -> None:
    """So many more seconds from now on; the kernel ends this process after them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, resource.RLIM_INFINITY))


def _frames(request: dict[str, Any]) -> Iterator[tuple[float, bytes]]:
    """Time and JPEG of each frame that is taken: the first at or after 0, 1/rate, 2/rate, ... of the film."""
    options = {"codec_whitelist": CODECS, "protocol_whitelist": "", "max_streams": "64", "probesize": "10000000"}
    with Window(request["path"], request["offset"], request["length"]) as window:
        form = _format(window.read(12))
        window.seek(0)
        with av.open(
            window, "r", format=form, options={"max_pixels": str(MAX_PIXELS)}, container_options=options
        ) as film:
            stream = next(iter(film.streams.video), None)
            if stream is None:
                raise Refused("no_video")
            if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
                raise Refused("too_many_pixels")
            stream.thread_type = "NONE"
            yield from _taken(film.decode(stream), stream.sample_aspect_ratio, request)


def _taken(frames: Iterator[Any], aspect: Fraction | None, request: dict[str, Any]) -> Iterator[tuple[float, bytes]]:
    first: float | None = None
    taken, wanted = 0, 0.0
    for frame in frames:
        if frame.time is None:
            continue
        first = frame.time if first is None else first
        time = frame.time - first
        if time + 1e-6 < wanted:
            continue
        yield round(time, 3), _jpeg(frame, aspect, request["max_side"])
        taken += 1
        wanted = (int((time + 1e-6) * request["rate"]) + 1) / request["rate"]
        if taken == request["max_frames"]:
            return
    if not taken:
        raise Refused("no_video")


def _format(head: bytes) -> str:
    """The demuxer for these first bytes."""
    if head[4:8] in ISO_BOXES:
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    raise Refused("not_a_video")


def _jpeg(frame: Any, aspect: Fraction | None, max_side: int) -> bytes:
    """Upright, with square pixels, shrunk to the longest side."""
    if frame.width * frame.height > MAX_PIXELS:
        raise Refused("too_many_pixels")
    width = frame.width * float(aspect or 1) if 0.1 < float(aspect or 1) < 10 else frame.width
    shrink = min(1.0, max_side / max(width, frame.height))
    size = max(1, round(width * shrink)), max(1, round(frame.height * shrink))
    picture = frame.reformat(*size, format="rgb24", interpolation="BICUBIC").to_image()
    turn = ROTATIONS.get(round(getattr(frame, "rotation", 0)) % 360)
    buffer = io.BytesIO()
    (picture.transpose(turn) if turn is not None else picture).save(buffer, "jpeg", quality=QUALITY)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
