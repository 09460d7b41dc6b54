"""Hostile and unusual image files: what each becomes, and the reason for which it is dropped."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import picture

from arm.data.images import MAX_PIXELS, MAX_PROFILE_BYTES, BadImageError, decode_image, open_image, plain_image
from arm.data.shards import read_shard, write_shard
from arm.records import Image, Sample, make_uid

WHITE = [255, 255, 255]


def encoded(image: PIL.Image.Image, format: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The pixels of bytes whose part says something wrong about them."""
    return decode_image(Image(data=data, format="png", height=1, width=1), at_least=at_least)


def reason_of(data: bytes) -> str:
    with pytest.raises(BadImageError) as caught:
        decoded(data)
    return caught.value.reason


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a single row of zeros."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_001, 10_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    assert MAX_PIXELS == 10_000 * 10_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # pytest has filters of its own
        assert reason_of(png_header(*size)) == "too_many_pixels"
        with pytest.raises(BadImageError, match="too_many_pixels"):
            open_image(png_header(*size))


@pytest.mark.parametrize("size", [(65_536, 1), (1, 65_536)])
def test_a_picture_of_few_pixels_that_is_longer_than_a_jpeg_can_be_is_refused_by_its_header(
    size: tuple[int, int],
) -> None:
    assert reason_of(png_header(*size)) == "too_many_pixels"
    assert decoded(encoded(PIL.Image.new("L", (65_535, 1)))).shape == (1, 65_535, 3)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_file_that_breaks_off_is_truncated(format: str) -> None:
    data = encoded(PIL.Image.fromarray(picture(0)), format)
    assert {reason_of(data[: len(data) * share // 10]) for share in (5, 9)} == {"truncated"}
    assert reason_of(data[:20]) == "truncated"


def jpeg_without_rows() -> bytes:
    data = bytearray(encoded(PIL.Image.fromarray(picture(0)), "jpeg"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 7] = b"\0\0"
    return bytes(data)


@pytest.mark.parametrize("data", [b"", png_header(0, 5), png_header(5, 0), jpeg_without_rows()])
def test_no_bytes_and_no_pixels_are_empty(data: bytes) -> None:
    assert reason_of(data) == "empty"


@pytest.mark.parametrize(
    "data", [b"<html>", b"GIF89a\x01\x00\x01\x00", b"BM" + bytes(60), b"RIFF\0\0\0\0WAVE", b"\x89PN"]
)
def test_what_is_not_png_jpeg_or_webp_is_no_image(data: bytes) -> None:
    assert reason_of(data) == "not_an_image"


def test_a_stream_that_cannot_be_decompressed_is_damage() -> None:
    data = bytearray(encoded(PIL.Image.fromarray(picture(0, 64, 64))))
    data[data.index(b"IDAT") + 4] ^= 0xFF
    assert reason_of(bytes(data)) == "damaged"


def test_cmyk_becomes_rgb() -> None:
    """Full cyan, no magenta, yellow or black: no red, all green and blue, but for JPEG's rounding."""
    data = encoded(PIL.Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "jpeg", quality=95)
    assert np.abs(decoded(data).astype(int) - [0, 255, 255]).max() <= 3


def test_of_16_bits_the_high_byte_stays() -> None:
    values = np.array([[0x0000, 0x12FF], [0x8000, 0xFFFF]], np.uint16)
    assert decoded(encoded(PIL.Image.fromarray(values))).tolist() == [[[0] * 3, [0x12] * 3], [[0x80] * 3, WHITE]]


@pytest.mark.parametrize("format", ["png", "webp"])
def test_of_an_animation_the_first_frame_counts(format: str) -> None:
    first, second = PIL.Image.new("RGB", (8, 8), "red"), PIL.Image.new("RGB", (8, 8), "blue")
    data = encoded(first, format, save_all=True, append_images=[second], lossless=True)
    assert (decoded(data) == [255, 0, 0]).all()
    assert (decoded(plain_image(data)) == [255, 0, 0]).all()
    assert not getattr(PIL.Image.open(io.BytesIO(plain_image(data))), "is_animated", False)


def test_a_photo_with_a_second_picture_is_a_jpeg() -> None:
    """Phones write MPO: a JPEG that holds another one, such as a depth map, behind its end."""
    first, second = PIL.Image.new("RGB", (16, 16), "red"), PIL.Image.new("RGB", (16, 16), "blue")
    data = encoded(first, "mpo", save_all=True, append_images=[second])
    assert open_image(data).format == "jpeg"
    assert np.abs(decoded(data).astype(int) - [254, 0, 0]).max() <= 2
    assert plain_image(data) == data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(orientation: int) -> None:
    """Tag 6 stores the upright [[1 2 3] [4 5 6]] lying on its side; Pillow's own rule is the reference for all eight."""
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)[:, :, None].repeat(3, axis=2) * 40
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PIL.Image.fromarray(stored), exif=exif)
    corners = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1), 7: np.rot90(stored, 2).transpose(1, 0, 2), 8: np.rot90(stored, 1),
    }  # fmt: skip
    assert decoded(data).tolist() == corners[orientation].tolist()
    opened = open_image(data)
    assert (opened.height, opened.width) == ((3, 2) if orientation >= 5 else (2, 3))
    assert decoded(plain_image(data)).tolist() == corners[orientation].tolist()


def test_exif_that_cannot_be_read_is_none() -> None:
    data = encoded(PIL.Image.new("RGB", (8, 8), "red"), "jpeg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decoded(data).shape == (8, 8, 3)


def test_the_content_decides_not_the_name() -> None:
    data = encoded(PIL.Image.new("RGB", (8, 8), "red"), "jpeg")
    assert np.abs(decoded(data).astype(int) - [254, 0, 0]).max() <= 2  # its part says png


def palette(transparent: bool) -> bytes:
    """Two pixels: index 0 is red, index 1 green; index 1 may be transparent."""
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    return encoded(image, **({"transparency": 1} if transparent else {}))


def test_a_palette_is_looked_up_and_its_transparency_laid_on_white() -> None:
    assert decoded(palette(False)).tolist() == [[[255, 0, 0], [0, 255, 0]]]
    assert decoded(palette(True)).tolist() == [[[255, 0, 0], WHITE]]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (PIL.Image.new("RGBA", (1, 1), (255, 0, 0, 0)), WHITE),
        (PIL.Image.new("RGBA", (1, 1), (255, 0, 0, 255)), [255, 0, 0]),
        (PIL.Image.new("LA", (1, 1), (0, 0)), WHITE),
        (PIL.Image.new("L", (1, 1), 7), [7, 7, 7]),
        (PIL.Image.new("1", (1, 1), 1), WHITE),
    ],
)
def test_transparency_is_laid_on_white_and_grey_is_repeated(image: PIL.Image.Image, expected: list[int]) -> None:
    assert decoded(encoded(image)).tolist() == [[expected]]


def test_a_transparent_colour_of_an_opaque_mode_is_white() -> None:
    data = encoded(PIL.Image.new("RGB", (1, 1), (1, 2, 3)), transparency=(1, 2, 3))
    assert decoded(data).tolist() == [[WHITE]]


def test_a_colour_profile_is_applied_unless_it_is_srgb_or_broken() -> None:
    red = PIL.Image.new("RGB", (1, 1), (200, 30, 40))
    srgb = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    lab = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("LAB")).tobytes()
    for profile in (srgb, lab, b"broken", b""):
        assert decoded(encoded(red, icc_profile=profile)).tolist() == [[[200, 30, 40]]]
    large = encoded(red, "jpeg", icc_profile=swapped_profile() + bytes(MAX_PROFILE_BYTES))
    assert (decoded(large) == decoded(encoded(red, "jpeg"))).all()
    assert np.abs(decoded(encoded(red, icc_profile=swapped_profile())).astype(int) - [30, 200, 40]).max() <= 1
    assert PIL.Image.open(io.BytesIO(plain_image(encoded(red, icc_profile=swapped_profile())))).getpixel((0, 0)) == (
        tuple(decoded(encoded(red, icc_profile=swapped_profile()))[0, 0].tolist())
    )


def swapped_profile() -> bytes:
    """sRGB with its red and green exchanged: a valid profile whose first number means green."""
    data = bytearray(PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 136 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    text = data.index("sRGB".encode("utf-16-be"))
    data[text : text + 8] = "swap".encode("utf-16-be")  # what says it is sRGB is taken at its word
    return bytes(data)


def test_a_jpeg_shrinks_while_it_is_decoded_but_not_below_what_is_asked_for() -> None:
    data = encoded(PIL.Image.fromarray(picture(1, 256, 512)), "jpeg")
    assert decoded(data).shape == (256, 512, 3)
    assert decoded(data, at_least=(60, 60)).shape == (64, 128, 3)
    assert decoded(data, at_least=(129, 60)).shape == (256, 512, 3)


def test_plain_bytes_stay_and_others_are_rewritten() -> None:
    plain = encoded(PIL.Image.fromarray(picture(2)), "jpeg")
    assert plain_image(plain) is plain
    assert plain_image(plain + b"\0" * 5000) == plain + b"\0" * 5000  # what follows the end is nobody's
    cmyk = encoded(PIL.Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "jpeg", quality=95)
    assert PIL.Image.open(io.BytesIO(plain_image(cmyk))).mode == "RGB"
    assert (decoded(plain_image(cmyk)) == decoded(cmyk)).all()
    with pytest.raises(BadImageError, match="truncated"):
        plain_image(plain[:-200])
    with pytest.raises(BadImageError, match="too_many_pixels"):
        plain_image(plain, max_pixels=36 * 36 - 1)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_altered_bytes_give_pixels_or_one_of_the_reasons(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(["png", "jpeg", "webp"]))
    body = bytearray(encoded(PIL.Image.fromarray(picture(3, 12, 12)), format))
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=6)):
        body[place] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    with contextlib.suppress(BadImageError):  # its reason is asserted where it is made
        assert decoded(cut).dtype == np.uint8


def test_a_part_whose_record_names_another_format_is_read_by_its_content(tmp_path: Path) -> None:
    data = encoded(PIL.Image.new("RGB", (8, 8), "red"), "jpeg")
    sample = Sample(
        uid=make_uid("a"), task="caption", parts=(Image(data=data, format="png", height=8, width=8),), source="s"
    )
    write_shard(tmp_path / "s.tar", [sample])
    (read,) = read_shard(tmp_path / "s.tar")
    assert isinstance(read.parts[0], Image)
    assert decode_image(read.parts[0]).shape == (8, 8, 3)
