"""Rows that are files of one name: in WebDataset tars, and in folders.

    x/1.png  x/1.txt  x/1.json      ->  Row("x/1", {"png": Blob, "txt": Blob, "json": Blob})
    7.source.jpg  7.target.jpg      ->  Row("7", {"source.jpg": Blob, "target.jpg": Blob})

WebDataset's rules: the key is the path up to the first dot of the file's name; members of a row stand together; a member
whose name starts with a dot is none. In a folder the key ends at the last dot: people call their pictures `a.b.jpg`.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath

from arm.data.config import ImportSource
from arm.data.formats.files import TAR, Files
from arm.data.formats.rows import IMAGES, Blob, Dropped, Row, Rows
from arm.data.tar import list_members

VIDEOS = ("mp4", "webm", "mkv", "mov", "avi", "m4v")
BESIDE = ("txt", "caption", "json", "vtt", "srt")
"""Extensions of what stands beside an image or a video."""
MAX_MEMBERS = 1_000


def list_tars(files: Files, source: ImportSource) -> list[str]:
    """The tars."""
    return [name for name in files if name.lower().endswith(TAR)]


def read_webdataset(name: str, files: Files, source: ImportSource, start: int) -> Rows:
    """The rows of one tar from row `start` on."""
    path = files[name]
    members = ((*_split(member), Blob(path, offset, length)) for member, offset, length in list_members(path))
    named = (member for member in members if member[1])
    for index, (key, group) in enumerate(groupby(named, key=lambda member: member[0])):
        values: dict[str, Blob] | None = {}
        for _, extension, blob in group:  # a tar may call a million members alike
            if values is not None:
                values = None if extension in values or len(values) >= MAX_MEMBERS else values | {extension: blob}
        if index >= start:
            yield Dropped("bad_record") if values is None else Row(key, values, name)


def list_pictures(files: Files, source: ImportSource) -> list[str]:
    """The images of a folder, or its videos."""
    wanted = VIDEOS if source.task == "interleaved_video" else IMAGES
    return [name for name in files if PurePosixPath(name).suffix[1:].lower() in wanted]


def read_folder(name: str, files: Files, source: ImportSource, start: int) -> Rows:
    """The one row of an image or a video."""
    if start == 0:
        path = PurePosixPath(name)
        values = {path.suffix[1:].lower(): files.blob(name)}
        values |= {kind: files.blob(beside) for kind, beside in _beside(path, files)}
        yield Row(str(path.with_suffix("")), values, name)


def _beside(path: PurePosixPath, files: Files) -> Iterator[tuple[str, str]]:
    for extension in BESIDE:
        name = str(path.with_suffix(f".{extension}"))
        if name in files:
            yield extension, name


def _split(member: str) -> tuple[str, str]:
    """Key and extension, in small letters; no extension for what is no member of a row."""
    folder, _, file = member.rpartition("/")
    stem, _, extension = file.partition(".")
    key = f"{folder}/{stem}" if folder else stem
    return key, extension.lower() if stem else ""
