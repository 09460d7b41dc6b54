"""PNG files of toy images, twice as fast as a general encoder: all rows have one filter, and zlib works little.

    encode_png(image_36x36x3)             one sample, 36×36 pixels
    encode_png(image_36x36x3, scale=8)    what the site serves: every pixel 8×8 times, 288×288 pixels

The same pixels give the same bytes on one machine; any reader decodes them.
"""

import struct
import zlib

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UP = 2
"""PNG's filter 'difference to the row above' (W3C PNG, 9.2): zero where a row repeats."""


def encode_png(image: npt.NDArray[np.uint8], scale: int = 1) -> bytes:
    """Encode an RGB image (H, W, 3) losslessly, each pixel enlarged to `scale` by `scale`."""
    height, width = image.shape[:2]
    lines = np.repeat(image, scale, axis=1).reshape(height, -1)
    rows = np.zeros((height, scale, 1 + lines.shape[1]), np.uint8)
    rows[:, :, 0] = UP
    rows[0, 0, 1:] = lines[0]
    rows[1:, 0, 1:] = lines[1:] - lines[:-1]
    header = struct.pack(">IIBBBBB", width * scale, height * scale, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
