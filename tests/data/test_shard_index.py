"""An image shard's samples without their images."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from arm.data.images import encode_image
from arm.data.shard_index import index_shard, read_image
from arm.data.shards import read_shard, write_shard
from arm.errors import IntegrityError
from arm.records import Image, Sample, Text, make_uid


def sample(name: str, *parts: Image | Text) -> Sample:
    return Sample(uid=make_uid("index", name), task="caption", parts=parts, source="index", meta={"name": name})


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    image = encode_image(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))
    path = tmp_path / "a-00000.tar"
    samples = [
        sample("pair", image, Text(text="a größer caption", role="caption")),
        sample("text", Text(text="no image")),
        sample("edit", image, Text(text="turn it", role="instruction"), image),
    ]
    write_shard(path, samples)
    return path


def test_samples_are_those_of_the_shard_but_for_their_pixels(shard: Path) -> None:
    for (found, spans), whole in zip(index_shard(shard), read_shard(shard), strict=True):
        parts = [read_image(shard, p, spans[i]) if isinstance(p, Image) else p for i, p in enumerate(found.parts)]
        assert tuple(parts) == whole.parts
        assert (found.uid, found.task, found.source, found.meta) == (whole.uid, whole.task, whole.source, whole.meta)
        assert all(not part.data for part in found.parts if isinstance(part, Image))


def test_a_sample_that_describes_other_parts_is_refused(tmp_path: Path) -> None:
    uid, path = make_uid("index", "bad"), tmp_path / "bad.tar"
    data = b'{"task": "caption", "parts": [{"kind": "text", "role": null}, {"kind": "text", "role": null}]}'
    with tarfile.open(path, "w") as archive:
        for name, content in ((f"{uid}.0.txt", b"one"), (f"{uid}.json", data)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(IntegrityError, match="1 parts, 2 described"):
        list(index_shard(path))
