"""Formats of data sets that others made: each is a reader, files in, samples out.

    FORMATS["llava"]({"questions.jsonl": path, "images-00000.tar": path}, source)  ->  Sample, Dropped("bad_image"), Sample, ...

A bad item is a Dropped with its reason, never an exception. To add a format: write the reader, add a line to FORMATS and
its name to ImportFormat.

    samples             our own tars: taken as they are
    webdataset          tars of key.png (jpg, webp) + key.txt [+ key.json]
    llava               .json or .jsonl of {image, conversations: [{from: human | gpt, value}]}; images beside them or in tars
    edit_parquet        columns source_image, instruction, target_image [, id, meta]; images as bytes or {bytes, path}
    image_text_folder   name.png + name.txt
    jsonl_text          .jsonl of {text [, id]}
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.config import ImportSource
from arm.data.images import open_image
from arm.data.shards import read_shard
from arm.data.tar import list_members, read_member, read_members
from arm.errors import IntegrityError, UserError
from arm.records import Image, Sample, Text, make_uid

Files = Mapping[str, Path]
"""Name relative to the source's path -> local path, in order."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_LINE_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Dropped:
    """An item that could not be read."""

    reason: str


Reader = Callable[[Files, ImportSource], Iterator[Sample | Dropped]]


def read_own_samples(files: Files, source: ImportSource) -> Iterator[Sample | Dropped]:
    """Our own tars; uid, task, source, licence and meta stay."""
    for path in _ending(files, ".tar"):
        yield from read_shard(path)


def read_webdataset(files: Files, source: ImportSource) -> Iterator[Sample | Dropped]:
    """Captioned images of WebDataset tars; the members of a sample stand together."""
    for path in _ending(files, ".tar"):
        key, members = "", dict[str, bytes]()
        for name, data in read_members(path):
            stem, _, extension = name.rpartition("/")[2].partition(".")
            stem = f"{name.rpartition('/')[0]}/{stem}"
            if stem != key and members:
                yield _captioned(key, members, source)
                members = {}
            key, members[f".{extension.lower()}"] = stem, data
        if members:
            yield _captioned(key, members, source)


def read_image_text_folder(files: Files, source: ImportSource) -> Iterator[Sample | Dropped]:
    """Image files beside text files of the same name."""
    for name, path in files.items():
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            stem = str(PurePosixPath(name).with_suffix(""))
            members = {PurePosixPath(name).suffix.lower(): path.read_bytes()}
            if f"{stem}.txt" in files:
                members[".txt"] = files[f"{stem}.txt"].read_bytes()
            yield _captioned(stem, members, source)


def read_llava(files: Files, source: ImportSource) -> Iterator[Sample | Dropped]:
    """Conversations about an image: [image, question, answer, question, answer, ...]."""
    images = _image_index(files)
    for index, values in enumerate(_json_items(files)):
        if isinstance(values, Dropped):
            yield values
            continue
        try:
            names = values["image"] if isinstance(values["image"], list) else [values["image"]]
            found = [open_image(images[name]()) for name in names]
            turns = tuple(_turn(turn) for turn in values["conversations"])
        except KeyError as error:
            yield Dropped("no_image" if error.args[0] in str(values.get("image")) else "bad_record")
        except (ValueError, TypeError, AttributeError):
            yield Dropped("bad_image" if isinstance(values, dict) and "conversations" in values else "bad_record")
        else:
            meta = {key: value for key, value in values.items() if key not in ("id", "image", "conversations")}
            yield _sample(str(values.get("id", index)), (*found, *turns), source, meta)


def read_edit_parquet(files: Files, source: ImportSource) -> Iterator[Sample | Dropped]:
    """Editing triplets: [image, instruction, image]."""
    for name, path in files.items():
        if not name.endswith(".parquet"):
            continue
        for index, row in enumerate(_parquet_rows(path)):
            try:
                before, after = (open_image(_bytes(row[column])) for column in ("source_image", "target_image"))
                meta = json.loads(row.get("meta") or "{}")
                parts = (before, Text(text=str(row["instruction"]), role="instruction"), after)
            except KeyError:
                yield Dropped("bad_record")
            except (ValueError, TypeError):
                yield Dropped("bad_image")
            else:
                yield _sample(str(row.get("id") or f"{name}:{index}"), parts, source, meta)


def read_jsonl_text(files: Files, source: ImportSource) -> Iterator[Sample | Dropped]:
    """Documents of text alone."""
    for index, values in enumerate(_json_items(files)):
        if isinstance(values, Dropped) or not isinstance(values.get("text"), str):
            yield values if isinstance(values, Dropped) else Dropped("bad_record")
            continue
        meta = {key: value for key, value in values.items() if key not in ("id", "text")}
        yield _sample(str(values.get("id", index)), (Text(text=values["text"]),), source, meta)


FORMATS: Mapping[str, Reader] = {
    "samples": read_own_samples,
    "webdataset": read_webdataset,
    "llava": read_llava,
    "edit_parquet": read_edit_parquet,
    "image_text_folder": read_image_text_folder,
    "jsonl_text": read_jsonl_text,
}


def _sample(key: str, parts: tuple[Text | Image, ...], source: ImportSource, meta: dict[str, Any]) -> Sample:
    uid = make_uid(source.name, key)
    return Sample(uid=uid, task=source.task, parts=parts, source=source.name, licence=source.licence, meta=meta)


def _captioned(key: str, members: Mapping[str, bytes], source: ImportSource) -> Sample | Dropped:
    """A sample of an image and its caption, from members by extension."""
    data = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
    if data is None or ".txt" not in members:
        return Dropped("no_image" if data is None else "no_text")
    try:
        meta = json.loads(members.get(".json", b"{}"))
        text = Text(text=members[".txt"].decode().strip(), role="caption")
    except ValueError:
        return Dropped("bad_record")
    try:
        return _sample(key, (open_image(data), text), source, meta if isinstance(meta, dict) else {})
    except ValueError:
        return Dropped("bad_image")


def _turn(turn: Mapping[str, str]) -> Text:
    """A turn of a conversation without its <image> mark."""
    text = turn["value"].replace("<image>", "").strip()
    return Text(text=text, role="question" if turn["from"] in ("human", "user") else "answer")


def _json_items(files: Files) -> Iterator[Any]:
    """The objects of .jsonl files line by line and of .json files that hold a list; Dropped for what is no object."""
    for name, path in files.items():
        if name.endswith(".jsonl"):
            with path.open("rb") as stream:
                while line := stream.readline(MAX_LINE_BYTES):
                    if line.strip():
                        yield _json_object(line)
        elif name.endswith(".json"):
            yield from (item if isinstance(item, dict) else Dropped("bad_record") for item in _json_list(path))


def _json_list(path: Path) -> list[Any]:
    try:
        items = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is no JSON, or damaged ({error}); fetch it again.") from None
    if not isinstance(items, list):
        raise UserError(f"{path} holds no JSON list of objects; give one, or one object a line in a .jsonl.")
    return items


def _json_object(line: bytes) -> Any:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return Dropped("bad_record")
    return values if isinstance(values, dict) else Dropped("bad_record")


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a few in memory at a time."""
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is no Parquet file, or damaged ({error}); fetch it again.") from None


def _image_index(files: Files) -> dict[str, Callable[[], bytes]]:
    """How to read an image by its name: a file beside the JSON, or a member of a tar; nothing is read yet."""
    index: dict[str, Callable[[], bytes]] = {}
    for name, path in files.items():
        if name.endswith(".tar"):
            for member, offset, length in list_members(path):
                index[member] = lambda path=path, offset=offset, length=length: read_member(path, offset, length)  # type: ignore[misc]
        elif PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            index[name] = path.read_bytes
    return index


def _bytes(value: Any) -> bytes:
    """Image bytes of a Parquet cell: plain, or Hugging Face's {bytes, path}."""
    found = value["bytes"] if isinstance(value, dict) else value
    if not isinstance(found, bytes):
        raise ValueError("the cell holds no bytes")
    return found


def _ending(files: Files, suffix: str) -> list[Path]:
    paths = [path for name, path in files.items() if name.endswith(suffix)]
    if not paths:
        raise IntegrityError(f"None of {len(files)} files ends in {suffix}: {', '.join(list(files)[:3])}.")
    return paths
