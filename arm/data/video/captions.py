"""Timed captions: SubRip, WebVTT, or JSON.

    1                                        WEBVTT
    00:00:01,000 --> 00:00:04,000
    A dog runs.                              00:01.000 --> 00:04.000
                                             A dog runs.

    [{"start": 1, "text": "A dog runs."}]    {"segments": [...]}    {"captions": [...]}

A caption stands after the frame during which it begins; one that speaks of the whole video stands before the first.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arm.data.formats.rows import Unfit, text_of

TIME = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?")
CUE = re.compile(rf"\s*{TIME.pattern}\s*-->")
TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")
STARTS, WORDS = ("start", "begin", "start_time", "timestamp"), ("text", "caption", "sentence")
MAX_CAPTIONS = 100_000


@dataclass(frozen=True, slots=True)
class Caption:
    """What is said from a time on; without a time, of the whole video."""

    seconds: float | None
    text: str


def read_captions(value: Any) -> tuple[Caption, ...]:
    """The captions in order of time; Unfit (`bad_captions`) when they cannot be read."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unfit("bad_captions") from None
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("captions", "segments") if name in value), None)
    if not isinstance(value, str | list) or (isinstance(value, list) and len(value) > MAX_CAPTIONS):
        raise Unfit("bad_captions")
    found = _cues(value) if isinstance(value, str) else [_of_json(item) for item in value]
    found = [caption for caption in found if caption.text]
    if not found:
        raise Unfit("bad_captions")
    return tuple(sorted(found, key=lambda caption: caption.seconds or 0.0))


def place(captions: Sequence[Caption], times: Sequence[float], rate: float) -> list[list[str]]:
    """The texts before the first frame, then those after each frame.

    times 0 1 2, rate 1, captions at 0.2, 1.9 and 7  ->  [[], [0.2's], [1.9's], []]: what is never seen is left out
    """
    placed: list[list[str]] = [[] for _ in range(len(times) + 1)]
    for caption in captions:
        if caption.seconds is None:
            placed[0].append(caption.text)
        elif caption.seconds < times[-1] + 1 / rate:
            index = sum(time <= caption.seconds for time in times)
            placed[max(index, 1)].append(caption.text)
    return placed


def _cues(text: str) -> list[Caption]:
    """The cues of SubRip or WebVTT; whatever has no times (headers, notes, styles) is skipped."""
    found: list[Caption] = []
    seconds: float | None = None
    words: list[str] = []
    for line in [*text.splitlines(), ""]:
        match = CUE.match(line)
        if match:
            seconds, words = _seconds(match.groups()), []
        elif line.strip() and seconds is not None:
            words.append(line)
        elif seconds is not None:
            found.append(Caption(seconds, " ".join(html.unescape(TAG.sub("", " ".join(words))).split())))
            seconds = None
            if len(found) > MAX_CAPTIONS:
                raise Unfit("bad_captions")
    return found


def _of_json(item: Any) -> Caption:
    if not isinstance(item, Mapping):
        raise Unfit("bad_captions")
    start = next((item[name] for name in STARTS if name in item), None)
    words = next((item[name] for name in WORDS if name in item), None)
    start = start[0] if isinstance(start, list) and start else start
    if isinstance(start, str) and (match := TIME.fullmatch(start.strip())):
        start = _seconds(match.groups())
    if not isinstance(start, int | float) or isinstance(start, bool) or not 0 <= start < 1e6:
        raise Unfit("bad_captions")
    return Caption(float(start), text_of(words))


def _seconds(groups: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = groups
    return int(hours or 0) * 3_600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction or 0}")
