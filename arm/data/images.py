"""Image files of unknown origin as pixels: one decoder for the download, the curation and the tokenizer.

The content decides what a file is (PNG, JPEG or WebP), never its name. The header is read before anything is decoded.

    header over the pixel limit     BadImageError too_many_pixels       nothing was decoded
    longer than a JPEG can be       too_many_pixels                     nor here
    no bytes; no rows or columns    empty
    ends before its pixels do       truncated
    not PNG, JPEG or WebP           not_an_image
    anything else that fails        damaged

    turned by EXIF                  upright pixels
    several frames                  the first
    transparent, palette or not     laid on white
    grey                            the same value in red, green and blue
    16 bits                         the high byte
    CMYK, colour profile            converted to sRGB; a profile that cannot be used counts as none
"""

import functools
import io
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import PIL.Image
import PIL.ImageCms
from numpy.typing import NDArray

from arm.records import Image

Result = TypeVar("Result")

EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}
"""Image.format -> extension of the member."""
REASONS = ("too_many_pixels", "empty", "truncated", "not_an_image", "damaged")
"""Why an image is dropped: all the reasons there are."""
MAX_PIXELS = 100_000_000
"""What is decoded at most: 300 MB as RGB. Ours; no camera that people carry makes more."""
MAX_SIDE = 65_535
"""A longer side is refused: what JPEG can hold. Hashes cost 1 KB a pixel of a side, and a PNG of one row can have 100
million."""
MAX_FLOAT_PIXELS = 2_000_000
"""img2dataset lays a transparent picture on white in float64, 60 bytes a pixel: a larger one gets it laid before. Ours."""
BAND_ROWS = 256
"""Rows that are laid on white at once: four copies of a whole picture would be."""
_DECODING = threading.Semaphore(2)
"""So many of a process's threads decode at once: more would not be faster, and each takes 12 bytes a pixel."""
MAX_PROFILE_BYTES = 4 << 20
"""A larger colour profile counts as none; those of printing presses have 3 MB at most. Ours."""
ORIENTATION = 0x0112
"""The EXIF tag."""
UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright; from 5 on, width and height change places."""
MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers of a frame's header, which holds height and width."""
Pixels = NDArray[np.uint8]

warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)  # our own limit decides


class BadImageError(ValueError):
    """An image that cannot be used; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str = "") -> None:
        assert reason in REASONS
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason


def decode_image(image: Image, *, at_least: tuple[int, int] | None = None) -> Pixels:
    """Upright sRGB pixels of an image part: (H, W, 3) uint8. With `at_least` (height, width) a JPEG may be shrunk by
    2, 4 or 8 while it is decoded, never below that size. BadImageError when it cannot be read."""
    return _read(image.data, MAX_PIXELS, lambda picture: np.asarray(converted(picture, at_least)))


def open_image(data: bytes) -> Image:
    """An image part from encoded bytes, its format and upright size read from the header; BadImageError when it is none."""

    def describe(picture: PIL.Image.Image) -> Image:
        height, width = picture.height, picture.width
        if _orientation(picture) >= 5:
            height, width = width, height
        return Image(data=data, format=_format(data), height=height, width=width)

    return _read(data, MAX_PIXELS, describe)


def plain_image(
    data: bytes, max_pixels: int = MAX_PIXELS, before_pixels: Callable[[int], None] = lambda num_pixels: None
) -> bytes:
    """The same image in bytes that any decoder reads as we do: turned, in RGB, one frame, as PNG where it was not.

    A file that looks cut off is decoded to be sure: other decoders fill what is missing with grey. `before_pixels` is
    told the number of pixels before any is decoded; it may wait.
    """

    def rewritten(picture: PIL.Image.Image) -> bytes:
        num_pixels = picture.width * picture.height
        before_pixels(num_pixels)
        is_plain = picture.mode in ("RGB", "RGBA", "L", "LA", "P", "1") and _orientation(picture) == 1
        is_animated = _format(data) != "jpeg" and getattr(picture, "is_animated", False)
        is_heavy = num_pixels > MAX_FLOAT_PIXELS and _is_transparent(picture)
        if is_plain and not is_animated and not is_heavy and _profile(picture) is None:
            if _ends_early(data):
                with _DECODING:
                    picture.load()
            return data
        buffer = io.BytesIO()
        with _DECODING:
            converted(picture, None).save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    return _read(data, max_pixels, rewritten)


def flatten(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture as RGB; transparent pixels become white."""
    if picture.mode.startswith("I"):
        high = (np.clip(np.asarray(picture), 0, 0xFFFF) >> 8).astype(np.uint8)
        return PIL.Image.fromarray(high).convert("RGB")
    if not _is_transparent(picture):
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    flat = PIL.Image.new("RGB", picture.size)
    for top in range(0, picture.height, BAND_ROWS):
        band = picture.crop((0, top, picture.width, min(top + BAND_ROWS, picture.height))).convert("RGBA")
        flat.paste(PIL.Image.alpha_composite(PIL.Image.new("RGBA", band.size, "white"), band).convert("RGB"), (0, top))
    return flat


def encode_image(pixels_HWC: Pixels) -> Image:
    """An image part (lossless PNG) from an RGB array (H, W, 3) uint8."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels_HWC).save(buffer, "png", compress_level=6)
    return Image(data=buffer.getvalue(), format="png", height=pixels_HWC.shape[0], width=pixels_HWC.shape[1])


def _read(data: bytes, max_pixels: int, use: Callable[[PIL.Image.Image], Result]) -> Result:
    """What `use` makes of the opened picture; whatever Pillow raises becomes one of REASONS."""
    sides = _sides(data)
    if not data or (sides and 0 in sides):
        raise BadImageError("empty")
    if _format(data) not in EXTENSIONS:
        raise BadImageError("not_an_image")
    try:
        with PIL.Image.open(io.BytesIO(data), formats=list(EXTENSIONS)) as picture:
            if picture.width * picture.height > max_pixels or max(picture.size) > MAX_SIDE:
                raise BadImageError("too_many_pixels", f"{picture.width}×{picture.height}")
            return use(picture)
    except (BadImageError, MemoryError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise BadImageError("too_many_pixels", str(error)) from None
    except Exception as error:  # Pillow raises anything from SyntaxError to struct.error on hostile bytes
        reason = "truncated" if "truncated" in str(error) or _ends_early(data) else "damaged"
        raise BadImageError(reason, f"{type(error).__name__}: {error}") from None


def converted(picture: PIL.Image.Image, at_least: tuple[int, int] | None) -> PIL.Image.Image:
    """The first frame as all of training sees it: sRGB, opaque, upright."""
    orientation = _orientation(picture)
    if at_least is not None:
        height, width = at_least if orientation < 5 else at_least[::-1]
        picture.draft(None, (width, height))
    transform = _profile(picture)
    if transform is not None:
        converted = PIL.ImageCms.applyTransform(picture, transform)
        assert converted is not None
        picture = converted
    picture = flatten(picture)
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def _orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or it cannot be read. Only what stands before the pixels counts:
    Pillow would decode a PNG in search of more, and hide that it is damaged."""
    if "exif" not in picture.info:
        return 1
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # EXIF is as hostile as the rest, and not worth the picture
        return 1
    return found if isinstance(found, int) and found in UPRIGHT else 1


def _is_transparent(picture: PIL.Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def _profile(picture: PIL.Image.Image) -> Any:
    """What turns the picture's colours into sRGB; None where they are, or no profile says what they are."""
    profile = picture.info.get("icc_profile")
    if not isinstance(profile, bytes) or len(profile) > MAX_PROFILE_BYTES or picture.mode not in ("RGB", "CMYK"):
        return None
    return _transform(profile, picture.mode)


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any:
    try:
        source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in PIL.ImageCms.getProfileDescription(source):
            return None
        return PIL.ImageCms.buildTransform(source, PIL.ImageCms.createProfile("sRGB"), mode, "RGB")
    except (OSError, ValueError, TypeError, PIL.ImageCms.PyCMSError):
        return None


def _format(data: bytes) -> str:
    """`png`, `jpeg` or `webp` by the first bytes, else nothing."""
    found = next((name for magic, name in MAGIC.items() if data.startswith(magic)), "")
    return "" if found == "webp" and data[8:12] != b"WEBP" else found


def _ends_early(data: bytes) -> bool:
    """Whether the end that the format demands is missing; bytes after a JPEG's end may hide it."""
    kind = _format(data)
    if kind == "png":
        return b"IEND" not in data[-32:]
    if kind == "jpeg":
        return b"\xff\xd9" not in data[-1024:]
    return kind == "webp" and int.from_bytes(data[4:8], "little") + 8 > len(data)


def _sides(data: bytes) -> tuple[int, int] | None:
    """Height and width in the header of a PNG or JPEG: Pillow cannot open one that has no rows or columns."""
    if _format(data) == "png" and len(data) >= 24:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if _format(data) != "jpeg":
        return None
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        if data[place + 1] in FRAME_HEADERS:
            return int.from_bytes(data[place + 5 : place + 7], "big"), int.from_bytes(
                data[place + 7 : place + 9], "big"
            )
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
