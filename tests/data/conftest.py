"""Fixtures of the data tests: artifacts without the machinery of jobs, and pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from arm.data.shards import encode_image, write_shard
from arm.manifest import Manifest, entries_of
from arm.records import Sample, Text, make_uid
from arm.storage import LocalFolder


def artifact(path: Path, kind: str = "image-shards") -> Manifest:
    """The files of a folder as an artifact."""
    folder = LocalFolder(path)
    return Manifest(
        kind=kind, job=kind, version=1, key="0" * 64, config={}, inputs={}, counts={}, metrics={},
        files=entries_of(folder), folder=folder,
    )  # fmt: skip


def picture(seed: int, height: int = 36, width: int = 36) -> NDArray[np.uint8]:
    """A smooth random picture (H, W, 3): different seeds give pictures that look different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    import PIL.Image

    return np.asarray(PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC))


def captioned(key: str, pixels: NDArray[np.uint8], caption: str = "a picture", source: str = "crawl") -> Sample:
    """A sample [image, caption]."""
    return Sample(
        uid=make_uid(key), task="caption", parts=(encode_image(pixels), Text(text=caption, role="caption")), source=source
    )


@pytest.fixture
def shards(tmp_path: Path) -> Callable[..., Manifest]:
    """Write samples as an image-shards artifact of one shard."""

    def write(*samples: Sample, name: str = "crawl") -> Manifest:
        folder = tmp_path / f"shards-{name}"
        (folder / "shards").mkdir(parents=True)
        write_shard(folder / "shards" / f"{name}-00000.tar", samples)
        return artifact(folder)

    return write
