"""What an image shard says about its samples without its images: texts are read, images are found.

    for sample, spans in index_shard(path):
        spans                      part -> (offset, length) of each image; the image parts themselves hold no bytes
        read_image(path, sample.parts[0], spans[0])

So a window of shards can be shuffled in the memory that its captions need, and each rank reads the images it computes.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from arm.data.tar import list_members, read_member
from arm.errors import IntegrityError
from arm.records import TASKS, Image, Sample, Text

Span = tuple[int, int]
"""(offset, length) of a member's bytes in the archive."""
MAX_TEXT_BYTES = 1 << 24
"""A longer text or description of a sample is refused: 16 MiB, ours."""
_PART = re.compile(r"([0-9a-f]{32})\.(\d{1,4})\.(?:png|jpg|webp|txt)")


def index_shard(path: Path) -> Iterator[tuple[Sample, dict[int, Span]]]:
    """Samples in order, with the places of their images; IntegrityError where the shard is damaged."""
    spans: dict[str, dict[int, Span]] = {}
    with path.open("rb") as stream:
        for name, offset, length in list_members(path):
            part = _PART.fullmatch(name)
            if part is not None:
                spans.setdefault(part[1], {})[int(part[2])] = (offset, length)
            elif name.endswith(".json"):
                uid = name.removesuffix(".json")
                places = spans.pop(uid, {})
                yield _sample(uid, _Reader(stream, path), (offset, length), places)


def read_image(path: Path, image: Image, span: Span) -> Image:
    """The image part with its bytes."""
    return replace(image, data=read_member(path, *span))


class _Reader:
    """Reads texts of an open archive."""

    def __init__(self, stream: Any, path: Path) -> None:
        self.stream, self.path = stream, path

    def __call__(self, span: Span) -> str:
        offset, length = span
        if length > MAX_TEXT_BYTES:
            raise IntegrityError(f"{self.path} holds a text of {length} bytes; at most {MAX_TEXT_BYTES} are read.")
        self.stream.seek(offset)
        return str(self.stream.read(length).decode())


def _sample(uid: str, read: _Reader, described: Span, spans: dict[int, Span]) -> tuple[Sample, dict[int, Span]]:
    try:
        values = json.loads(read(described))
        specs = values.pop("parts")
        if len(specs) != len(spans):
            raise ValueError(f"{len(spans)} parts, {len(specs)} described")
        if values["task"] not in TASKS:
            raise ValueError(f"unknown task {str(values['task'])[:20]!r}")
        parts = tuple(_part(spec, spans[index], read) for index, spec in enumerate(specs))
        images = {index: spans[index] for index, part in enumerate(parts) if isinstance(part, Image)}
        return Sample(uid=uid, parts=parts, **values), images
    except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{read.path} is damaged at the sample {uid[:32]} ({error}).") from None


def _part(spec: dict[str, Any], span: Span, read: _Reader) -> Text | Image:
    if spec["kind"] == "text":
        return Text(text=read(span), role=cast(Any, spec["role"]))
    return Image(data=b"", format=spec["format"], height=int(spec["height"]), width=int(spec["width"]))
