"""Images made to do harm: small files that unfold, and good ones that are very large."""

import io
import struct
import zlib

import PIL.Image
from pictures import picture

from arm.data.images import encode_image

PNG = encode_image(picture(0)).data


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def turned() -> bytes:
    """A JPEG 4 wide and 2 high, to be turned by a quarter."""
    exif, buffer = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (4, 2)).save(buffer, "jpeg", exif=exif)
    return buffer.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A valid PNG of side × side black pixels: 110 KB as one bit each, 2.7 GB as RGB."""
    deflate, rows = zlib.compressobj(6), 100
    data = b"".join(deflate.compress(bytes(rows * (1 + side // 8))) for _ in range(side // rows)) + deflate.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG whose comment unfolds to 8 MB."""
    return PNG[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8 << 20), 1)) + PNG[33:]


def heavy_turned() -> bytes:
    """A JPEG of 39 megapixels, to be turned by a quarter."""
    exif, buffer = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    PIL.Image.new("RGB", HEAVY_SIZE, "teal").save(buffer, "jpeg", exif=exif)
    return buffer.getvalue()


def heavy_transparent() -> bytes:
    """A PNG of 39 megapixels with transparency: 2.3 GB where img2dataset lays it on white."""
    buffer = io.BytesIO()
    PIL.Image.new("RGBA", HEAVY_SIZE, (10, 20, 30, 40)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def heavy_body() -> bytes:
    """A JPEG of 19 MB, nearly all of it behind the picture's end."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (64, 64)).save(buffer, "jpeg")
    return buffer.getvalue() + bytes(19_000_000) + b"\xff\xd9"


HEAVY_SIZE = (6_500, 6_000)
HEAVY = {"heavy-turned": heavy_turned, "heavy-transparent": heavy_transparent, "heavy-body": heavy_body}
"""Images that are good and large, made when they are asked for first."""
