"""Decoding ahead of the encoder: a bad image costs its sample and is counted by reason, an odd one is brought to size."""

from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
from pictures import artifact, picture
from test_images import encoded, png_header

from arm.data.shards import write_shard
from arm.records import Image, Sample, Text, make_uid
from arm.tokenizer.config import EncodeConfig, ResolutionConfig, VariantConfig
from arm.tokenizer.encoding.decoding import Row, windows
from arm.tokenizer.encoding.units import units_of

SQUARE = ResolutionConfig(min_short_side=16, max_long_side=16)
CONFIG = EncodeConfig(variants=(VariantConfig(resolution=SQUARE),))


def sample(name: str, data: bytes) -> Sample:
    image = Image(data=data, format="png", height=16, width=16)
    return Sample(uid=make_uid(name), task="caption", parts=(image, Text(text=name, role="caption")), source="s")


def rows_of(folder: Path, files: dict[str, bytes]) -> tuple[list[Row], Counter[str]]:
    """What becomes of the files, each the image of a sample of one shard."""
    (folder / "shards").mkdir()
    write_shard(folder / "shards/s-00000.tar", [sample(name, data) for name, data in files.items()])
    images = artifact(folder, "curated-shards")
    found = list(windows(units_of(images, 1), images, CONFIG, patch=4))
    assert sum(window.num_read for window in found) == len(files)
    return [row for window in found for row in window.rows], sum((window.dropped for window in found), Counter())


def test_bad_images_are_counted_by_reason(tmp_path: Path) -> None:
    good = encoded(PIL.Image.fromarray(picture(0)))
    broken = bytearray(good)
    broken[good.index(b"IDAT") + 4] ^= 0xFF
    files = {
        "good": good, "bomb": png_header(30_000, 30_000), "cut": good[: len(good) // 2], "nothing": b"",
        "no columns": png_header(0, 5), "page": b"<html>", "broken": bytes(broken),
    }  # fmt: skip
    rows, dropped = rows_of(tmp_path, files)
    assert [row.sample.uid for row in rows] == [make_uid("good")]
    assert dropped == {"too_many_pixels": 1, "truncated": 1, "empty": 2, "not_an_image": 1, "damaged": 1}


def test_odd_images_become_pixels_of_the_size_that_is_asked_for(tmp_path: Path) -> None:
    red = PIL.Image.new("RGB", (16, 16), "red")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    files = {
        "cmyk": encoded(PIL.Image.new("CMYK", (16, 16)), "jpeg"),
        "16 bits": encoded(PIL.Image.fromarray(np.full((16, 16), 0x8000, np.uint16))),
        "animated": encoded(red, "webp", save_all=True, append_images=[PIL.Image.new("RGB", (16, 16), "blue")]),
        "wrong name": encoded(red, "jpeg"),
        "turned": encoded(PIL.Image.new("RGB", (16, 8), "red"), "jpeg", exif=exif),
    }
    rows, dropped = rows_of(tmp_path, files)
    assert not dropped
    sizes = [size for row in rows for size in row.pictures[0].pixels]
    assert sizes == [(16, 16)] * 4 + [(16, 8)]
