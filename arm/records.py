"""The records that travel between jobs.

    Pair     an image URL with a caption, found on a page
    Sample   ordered parts, each a text or an image, with what is known about them

A captioned image is the two-part sample [image, text]; text-only has no image; an edit is
[image, text, image]; a question is [image, text, text]. In a tar shard:

    <uid>.0.png  <uid>.1.txt  <uid>.json
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

Task = Literal["text", "caption", "question", "text_to_image", "edit", "interleaved_video", "interleaved_web"]
TASKS: tuple[str, ...] = (
    "text",
    "caption",
    "question",
    "text_to_image",
    "edit",
    "interleaved_video",
    "interleaved_web",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text part. `role` tells a question from its answer, an instruction from a caption."""

    text: str
    role: Literal["caption", "question", "answer", "instruction", "text"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image part: encoded bytes (PNG, JPEG or WebP) and its size in pixels."""

    data: bytes
    format: str
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Ordered parts with what is known about them."""

    uid: str
    """32 hex characters, see `make_uid`."""
    task: str
    """One of TASKS: which documents can be made of it."""
    parts: tuple[Text | Image, ...]
    source: str
    """Where it came from: a data set's or crawl's name."""
    licence: str = "unknown"
    scores: dict[str, float] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    """Whatever the source knows and later jobs may use: url, page_url, a toy scene, GenEval metadata."""


def make_uid(*parts: str) -> str:
    """The first 16 bytes, as hex, of sha256 over the parts joined by NUL (canonical URL and normalised caption)."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
