"""Decoding ahead of the encoder: a bad image costs its sample and is counted by reason, an odd one is brought to size."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pictures import artifact, picture
from test_images import encoded, png_header

from arm.data.shards import write_shard
from arm.records import Image, Sample, Text, make_uid
from arm.tokenizer.config import EncodeConfig, ResolutionConfig, VariantConfig
from arm.tokenizer.encoding import decoding
from arm.tokenizer.encoding.decoding import Row, windows
from arm.tokenizer.encoding.lengths import Measure
from arm.tokenizer.encoding.units import units_of

SQUARE = ResolutionConfig(min_short_side=16, max_long_side=16)
CONFIG = EncodeConfig(variants=(VariantConfig(resolution=SQUARE),))


def sample(name: str, data: bytes) -> Sample:
    image = Image(data=data, format="png", height=16, width=16)
    return Sample(uid=make_uid(name), task="caption", parts=(image, Text(text=name, role="caption")), source="s")


def rows_of(folder: Path, files: dict[str, bytes], config: EncodeConfig = CONFIG) -> tuple[list[Row], Counter[str]]:
    """What becomes of the files, each the image of a sample of one shard."""
    (folder / "shards").mkdir()
    write_shard(folder / "shards/s-00000.tar", [sample(name, data) for name, data in files.items()])
    images = artifact(folder, "curated-shards")
    found = list(windows(units_of(images, 1), images, config, patch=4))
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


@pytest.mark.parametrize("draft", [False, True])
def test_a_jpeg_is_shrunk_while_it_is_decoded_only_where_that_is_asked_for(
    tmp_path: Path, draft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 × 256 for sizes of 32 × 16 and 64 × 32: the larger needs an eighth of each side."""
    large = ResolutionConfig(min_short_side=16, max_long_side=64)
    variants = (VariantConfig(name="small", resolution=SQUARE), VariantConfig(name="large", resolution=large))
    seen: list[Any] = []
    real = decoding.fit_pixels
    monkeypatch.setattr(decoding, "fit_pixels", lambda pixels, *size: seen.append(pixels.shape) or real(pixels, *size))
    (tmp_path / "shards").mkdir()
    data = encoded(PIL.Image.fromarray(picture(0, 512, 256)), "jpeg")
    part = Image(data=data, format="jpeg", height=512, width=256)
    write_shard(tmp_path / "shards/s-00000.tar", [Sample(uid=make_uid("a"), task="caption", parts=(part,), source="s")])
    images = artifact(tmp_path, "curated-shards")
    config = EncodeConfig(variants=variants, jpeg_draft=draft)
    (window,) = windows(units_of(images, 1), images, config, patch=4)
    assert set(seen) == {(64, 32, 3) if draft else (512, 256, 3)}
    assert set(window.rows[0].pictures[0].pixels) == {(16, 8), (64, 32)}


def test_long_texts_fill_a_window_as_pixels_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three texts of 1,000 bytes, a look after each: the window is full with the second."""
    monkeypatch.setattr(decoding, "CHUNK", 1)
    monkeypatch.setattr(decoding, "WINDOW_BYTES", 1_500)
    (tmp_path / "shards").mkdir()
    samples = [
        Sample(uid=make_uid(name), task="text", parts=(Text(text="é" * 500),), source="s") for name in ("a", "b", "c")
    ]
    write_shard(tmp_path / "shards/s-00000.tar", samples)
    images = artifact(tmp_path, "curated-shards")
    found = list(windows(units_of(images, 1), images, CONFIG, patch=4))
    assert [len(window.rows) for window in found] == [2, 1]


class Words:
    """A text tokenizer whose tokens are letters; it counts the texts that it sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts: list[str], **options: object) -> dict[str, list[list[int]]]:
        self.seen += texts
        return {"input_ids": [[0] * len(text) for text in texts]}


def test_texts_that_were_measured_are_remembered_up_to_a_number_of_characters() -> None:
    words = Words()
    measure = Measure(words, capacity=10)
    for text in ("abcd", "abcd", "abcde", "abcdef", "abcd"):
        sample = Sample(uid=make_uid(text), task="text", parts=(Text(text=text),), source="s")
        assert measure([sample], []) == [[[len(text)]]]
    assert words.seen == ["abcd", "abcde", "abcdef", "abcd"]
