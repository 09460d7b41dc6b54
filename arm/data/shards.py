"""Image shards: samples in tar archives that webdataset reads too.

    shards/crawl-00000.tar      <uid>.0.png  <uid>.1.txt  <uid>.json      one member per part, in the parts' order
    the json                    {task, source, licence, scores, meta, parts: [{kind, role | format, height, width}]}

The same samples in the same order give the same bytes. Text-only samples have no image member.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from arm.data.images import EXTENSIONS
from arm.data.tar import read_members, write_members
from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest
from arm.progress import track
from arm.records import TASKS, Image, Sample, Text

MAX_PARTS = 1_000
_MEMBER = re.compile(r"([0-9a-f]{32})\.(?:json|(\d{1,4})\.(png|jpg|webp|txt))")
_UID = re.compile(r"[0-9a-f]{32}")


def write_shard(path: Path, samples: Iterable[Sample]) -> int:
    """Write the samples to a tar in the order given; return the number of samples."""
    count = 0

    def members() -> Iterator[tuple[str, bytes]]:
        nonlocal count
        for sample in samples:
            yield from _members_of(sample)
            count += 1

    write_members(path, members())
    return count


def read_shard(path: Path, refused: Collection[str] = ()) -> Iterator[Sample]:
    """Yield the samples of a tar in order, those of refused uids left out; IntegrityError when it is damaged or no image
    shard."""
    parts: dict[int, bytes] = {}
    uid = ""
    for name, data in read_members(path):
        match = _MEMBER.fullmatch(name)
        if match is None or (parts and match[1] != uid) or len(parts) > MAX_PARTS:
            raise IntegrityError(f"{path} is no image shard: unexpected member {name[:80]!r}.")
        uid = match[1]
        if match[2] is not None:
            parts[int(match[2])] = data
            continue
        if uid not in refused:
            yield _sample(uid, data, parts, path)
        parts = {}
    if parts:
        raise IntegrityError(f"{path} ends inside the sample {uid}.")


def read_samples(manifest: Manifest, prefix: str = "shards/") -> Iterator[Sample]:
    """Yield every sample of an image-shards or curated-shards artifact, shard by shard in order of their names; what was
    taken down is left out."""
    for path in shard_paths(manifest, prefix):
        yield from read_shard(path, manifest.tombstones)


def shard_paths(manifest: Manifest, prefix: str = "shards/") -> list[Path]:
    """Local, verified paths of an artifact's shards, in order of their names."""
    entries = manifest.select(prefix, ".tar")
    if not entries:
        raise UserError(f"{manifest.url} ({manifest.kind}) holds no shard under {prefix!r}.")
    return [manifest.local(entry) for entry in track(entries, "check shards", total=len(entries))]


def _members_of(sample: Sample) -> Iterator[tuple[str, bytes]]:
    if not _UID.fullmatch(sample.uid) or sample.task not in TASKS or len(sample.parts) > MAX_PARTS:
        raise UserError(f"The sample {sample.uid!r} has a wrong uid, task ({sample.task!r}) or too many parts.")
    described: list[dict[str, Any]] = []
    for index, part in enumerate(sample.parts):
        if isinstance(part, Text):
            described.append({"kind": "text", "role": part.role})
            yield f"{sample.uid}.{index}.txt", part.text.encode()
        else:
            described.append({"kind": "image", "format": part.format, "height": part.height, "width": part.width})
            yield f"{sample.uid}.{index}.{EXTENSIONS[part.format]}", part.data
    fields = {name: getattr(sample, name) for name in ("task", "source", "licence", "scores", "meta")}
    text = json.dumps(fields | {"parts": described}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    yield f"{sample.uid}.json", text.encode()


def _sample(uid: str, data: bytes, parts: dict[int, bytes], path: Path) -> Sample:
    try:
        values = json.loads(data)
        described = values.pop("parts")
        if len(described) != len(parts):
            raise ValueError(f"{len(parts)} parts, {len(described)} described")
        if values["task"] not in TASKS:
            raise ValueError(f"unknown task {str(values['task'])[:20]!r}")
        built = tuple(_part(spec, parts[index]) for index, spec in enumerate(described))
        return Sample(uid=uid, parts=built, **values)
    except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged at the sample {uid} ({error}).") from None


def _part(spec: dict[str, Any], data: bytes) -> Text | Image:
    if spec["kind"] == "text":
        return Text(text=data.decode(), role=cast(Any, spec["role"]))
    if spec["format"] not in EXTENSIONS:
        raise ValueError(f"unknown image format {str(spec['format'])[:20]!r}")
    return Image(data=data, format=spec["format"], height=spec["height"], width=spec["width"])
