"""What a row becomes: the task says which parts a sample has, and where they are looked for.

    caption, text_to_image   [image, caption]
    question                 [image, question, answer, question, answer, ...]; no image, or several at their <image> marks
    edit                     [source image, instruction, target image]
    interleaved_web          images and texts in turn, as two lists with gaps (OBELICS)
    interleaved_video        a video's frames with its captions (arm.data.video), or two lists as above
    text                     [text]

An image is bytes, Hugging Face's {bytes, path}, or the name of a file of the source.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from arm.data.config import ImportSource
from arm.data.formats.conversations import turns_of
from arm.data.formats.files import Files
from arm.data.formats.members import VIDEOS
from arm.data.formats.rows import IMAGES, Blob, Row, Unfit, find, json_of, text_of
from arm.data.images import BadImageError, open_image
from arm.data.shards import MAX_PARTS
from arm.data.video.captions import Caption, read_captions
from arm.records import Image, Sample, Text, make_uid

MARK = "<image>"
MAX_META_CHARACTERS = 10_000
"""A longer value of a column that no part is made of is left out."""
SIZES = ("original_height", "original_width")
"""What img2dataset says of an image before it was shrunk."""
MAX_LICENCE_CHARACTERS = 200
Part = Text | Image


def _named(*stems: str) -> tuple[str, ...]:
    return tuple(f"{stem}.{extension}" for stem in stems for extension in IMAGES)


COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id",),
    "licence": ("licence", "license"),
    "image": ("image", *IMAGES),
    "text": ("text", "caption", "txt", "json.caption", "json.text"),
    "description": ("description", "json.description"),
    "conversations": ("conversations", "messages", "json.conversations", "json.messages"),
    "question": ("question", "json.question"),
    "answer": ("answer", "json.answer"),
    "source_image": ("source_image", *_named("source_image", "source", "src")),
    "instruction": ("instruction", "instruction.txt", "txt", "json.instruction"),
    "target_image": ("target_image", *_named("target_image", "target", "edited")),
    "images": ("images",),
    "texts": ("texts",),
    "video": ("video", *VIDEOS),
    "captions": ("captions", "vtt", "srt", "json.captions", "json.segments"),
}
"""Role -> where it is looked for unless `columns` says otherwise: columns, and extensions of members."""


@dataclass(frozen=True, slots=True)
class Film:
    """A sample whose frames are still to be decoded."""

    video: Blob | bytes
    captions: tuple[Caption, ...]
    finish: Callable[[tuple[Part, ...]], Sample]
    """What makes the sample of the parts."""


def shape(row: Row, files: Files, source: ImportSource) -> Sample | Film:
    """The sample of a row; Unfit says why there is none."""
    made = _Shaper(row, files, source)
    if source.task == "interleaved_video" and (video := made.take("video")) is not None:
        return Film(made.data(video, "no_video"), made.captions(), made.sample)
    return made.sample(tuple(PARTS[source.task](made)))


class _Shaper:
    """A row on the way to its sample; remembers which columns the parts were made of."""

    def __init__(self, row: Row, files: Files, source: ImportSource) -> None:
        self.row, self.files, self.source = row, files, source
        self.values = dict(row.values)
        if isinstance(self.values.get("json"), Blob):
            self.values["json"] = json_of(self.values["json"])
        if isinstance(self.values.get("json"), list):  # timed captions beside a video
            self.values["json"] = {"captions": self.values["json"]}
        self.used: set[str] = set()
        self.description = ""

    def take(self, role: str) -> Any:
        """The value of a role; None when the row has none."""
        declared = self.source.columns.get(role)
        name, value = find(self.values, (declared,) if declared else COLUMNS[role])
        self.used.add(name)
        return value

    def data(self, value: Any, absent: str) -> bytes | Blob:
        """Bytes of a cell: plain, {bytes, path}, or of the file that it names."""
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value:
            try:
                return self.files.look_up(value, self.row.file)
            except Unfit as error:
                raise Unfit(absent if error.reason == "no_file" else error.reason) from None
        if not isinstance(value, bytes | Blob):
            raise Unfit(absent if value is None or value == "" else "bad_image")
        return value

    def image(self, value: Any) -> Image:
        data = self.data(value, "no_image")
        try:
            return open_image(data.read() if isinstance(data, Blob) else data)
        except BadImageError:
            raise Unfit("bad_image") from None

    def captions(self) -> tuple[Caption, ...]:
        """Timed captions, else the one text of the whole video."""
        timed = self.take("captions")
        if timed is not None:
            return read_captions(text_of(timed) if isinstance(timed, Blob | bytes | str) else timed)
        text = self.take("text")
        if text is None:
            raise Unfit("no_text")
        return (Caption(None, text_of(text)),)

    def sample(self, parts: tuple[Part, ...]) -> Sample:
        """The sample of the parts. Its uid is made of the source, the row's id and what the parts hold: data sets give
        one id to several rows (LLaVA's has one an image), and tars number theirs anew."""
        if len(parts) > MAX_PARTS:
            raise Unfit("too_many_parts")
        given = self.take("id")
        own = str(given)[:MAX_LICENCE_CHARACTERS] if isinstance(given, str | int) else ""
        key = own or self.row.key
        licence = self.take("licence")
        licence = licence.strip()[:MAX_LICENCE_CHARACTERS] if isinstance(licence, str) else ""
        meta = self._meta() | ({"id": key} if key else {})
        return Sample(
            uid=make_uid(self.source.name, key, _digest(parts)), task=self.source.task, parts=parts,
            source=self.source.name, licence=licence or self.source.licence, meta=meta,
        )  # fmt: skip

    def _meta(self) -> dict[str, Any]:
        """What the row knows besides: values of other columns that JSON can hold; `meta` and `json` are unfolded."""
        known: dict[str, Any] = {}
        for name, value in self.values.items():
            if name in ("meta", "json"):
                known |= {key: item for key, item in _unfolded(value).items() if f"{name}.{key}" not in self.used}
            elif name not in self.used and not isinstance(value, Blob | bytes):
                known[name] = value
        known |= {"description": self.description} if self.description else {}
        return {str(name): value for name, value in known.items() if _fits(value) and not _misleads(name, value)}


def _captioned(made: _Shaper) -> Sequence[Part]:
    image, texts = made.take("image"), made.take("text")
    if image is None:
        raise Unfit("no_image")
    if texts is None or texts == []:
        raise Unfit("no_text")
    found = [text_of(text) for text in (texts if isinstance(texts, list) else [texts])]
    description = made.take("description")
    made.description = max(found[1:], key=len, default="") if description is None else text_of(description)
    return [made.image(image), Text(text=found[0], role="caption")]


def _question(made: _Shaper) -> Sequence[Part]:
    value = made.take("image")
    images = [made.image(item) for item in (value if isinstance(value, list) else [value]) if item is not None]
    turns = turns_of(made.take("conversations"), made.take("question"), made.take("answer"))
    marks = sum(turn.text.count(MARK) for turn in turns)
    if marks != len(images) and marks > 0 and len(images) != 1:
        raise Unfit("image_marks")
    if len(images) > 1 and marks:
        return _placed(turns, images)
    return [*images, *(Text(text=turn.text.replace(MARK, "").strip(), role=turn.role) for turn in turns)]


def _placed(turns: Sequence[Text], images: list[Image]) -> list[Part]:
    """Several images where the turns mark them: `first <image> second <image>`."""
    parts: list[Part] = []
    waiting = iter(images)
    for turn in turns:
        for index, text in enumerate(turn.text.split(MARK)):
            if index:
                parts.append(next(waiting))
            if text.strip():
                parts.append(Text(text=text.strip(), role=turn.role))
    return parts


def _edit(made: _Shaper) -> Sequence[Part]:
    before, words, after = (made.take(role) for role in ("source_image", "instruction", "target_image"))
    if isinstance(words, list):  # OmniEdit gives several wordings of one edit
        words = words[0] if words else None
    if words is None:
        raise Unfit("no_text")
    return [made.image(before), Text(text=text_of(words), role="instruction"), made.image(after)]


def _interleaved(made: _Shaper) -> Sequence[Part]:
    images, texts = made.take("images"), made.take("texts")
    if not isinstance(images, list) or not isinstance(texts, list):
        raise Unfit("bad_record")
    parts: list[Part] = []
    for image, text in zip_longest(images, texts):
        if image is not None:
            parts += _if_there(image, made)
        if text is not None and text_of(text):
            parts.append(Text(text=text_of(text)))
    if any(image is not None for image in images) and not any(isinstance(part, Image) for part in parts):
        raise Unfit("no_image")
    return parts


def _if_there(image: Any, made: _Shaper) -> list[Part]:
    """The image; nothing when it could not be downloaded, as many of a web page's cannot: the page goes on without it."""
    try:
        return [made.image(image)]
    except Unfit as error:
        if error.reason in ("no_image", "remote_file"):
            return []
        raise


def _text(made: _Shaper) -> Sequence[Part]:
    text = made.take("text")
    if text is None:
        raise Unfit("no_text")
    return [Text(text=text_of(text))]


PARTS: Mapping[str, Callable[[_Shaper], Sequence[Part]]] = {
    "text": _text,
    "caption": _captioned,
    "text_to_image": _captioned,
    "question": _question,
    "edit": _edit,
    "interleaved_web": _interleaved,
    "interleaved_video": _interleaved,
}


def _digest(parts: Sequence[Part]) -> str:
    """Of what the parts hold, in order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.text.encode() if isinstance(part, Text) else part.data
        digest.update(b"%c%d:" % (ord("t") if isinstance(part, Text) else ord("i"), len(data)) + data)
    return digest.hexdigest()


def _unfolded(value: Any) -> dict[str, Any]:
    found = json_of(value) if isinstance(value, Blob | bytes | str) and value else value
    return dict(found) if isinstance(found, Mapping) else {}


def _misleads(name: Any, value: Any) -> bool:
    """Whether curate-images would take for a size what is none."""
    return name in SIZES and (not isinstance(value, int) or value <= 0)


def _fits(value: Any) -> bool:
    try:
        return len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) <= MAX_META_CHARACTERS
    except (ValueError, TypeError, RecursionError):  # bytes, dates, not a number, half of a surrogate pair
        return False
