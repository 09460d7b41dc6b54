"""Where a data set's images lie: found by the end of their path, in whatever folders they were unpacked.

    COCO_val2014_000000310196.jpg      val2014/COCO_val2014_000000310196.jpg          POPE
    262148                             val2014/COCO_val2014_000000262148.jpg          VQAv2: COCO's number
    n161313                            images/n161313.jpg                             GQA: a name without its ending
    12345.jpg, asked in artwork        MME_Benchmark/artwork/images/12345.jpg         MME

The rule: the file at that very path below the folder, else the one whose path ends with it, else the same with `.jpg` or
`.png` behind it. Of several, the one below a folder that is named as the part of the benchmark; two that are left are an
error, since a wrong image makes a wrong number. Names come from the listing of the folder: none leads out of it.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import PIL.Image

from arm.data.images import flatten
from arm.errors import UserError
from arm.evaluation.inference import MAX_PIXELS, read_image
from arm.evaluation.items import Pixels
from arm.storage import Folder

LONGEST_NAME = 1000
"""A longer text is an image in base64."""


class Pictures:
    """The images below a folder, on disk or in object storage."""

    def __init__(self, folder: Folder, names: Sequence[str] | None = None) -> None:
        self.folder, self._names = folder, names

    def find(self, value: str | int, part: str = "") -> str | None:
        """The name of the file that holds an image, or None; UserError where two do."""
        for name in _names_of(value):
            if found := self._ending_with(name, part):
                return found
        return None

    def find_named(self, value: Any, part: str = "") -> str | None:
        """The same for what a row has of an image; None where the row holds the image itself."""
        value = _plain(value)
        return self.find(value, part) if isinstance(value, str | int) else None

    def holds(self, value: Any, part: str = "") -> bool:
        """Whether `read_picture` finds an image for what a row names, or holds itself; long data are not decoded."""
        plain = _plain(value)
        if isinstance(plain, bytes) or (isinstance(plain, str) and len(plain) >= LONGEST_NAME):
            return True
        if self.find_named(plain, part):
            return True
        try:
            _decoded(plain)
        except (TypeError, ValueError, OSError, SyntaxError, PIL.Image.DecompressionBombError):
            return False
        return True

    def _ending_with(self, name: str, part: str) -> str | None:
        fitting = [
            path for path in self._by_last_part.get(_last(name), []) if path == name or path.endswith(f"/{name}")
        ]
        if name in fitting or len(fitting) < 2:
            return name if name in fitting else next(iter(fitting), None)
        within = [path for path in fitting if part in path.split("/")[:-1]]
        if len(within) == 1:
            return within[0]
        first, second, *_ = within or fitting
        raise UserError(f"{self.folder.url} holds {first} and {second}, which may both be {name}; leave one of them.")

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.folder.list() if self._names is None else self._names:
            found.setdefault(_last(path), []).append(path)
        return found


def read_picture(value: Any, pictures: Pictures | None, part: str = "") -> Pixels:
    """An image as data files hold it: a name of `pictures`, base64, bytes, or {"bytes", "path"} of Parquet."""
    value = _plain(value)
    if pictures is not None and (name := pictures.find_named(value, part)):
        image = read_image(pictures.folder.fetch(name))
        pictures.folder.release(name)
        return image
    try:
        return _decoded(value)
    except (TypeError, ValueError, OSError, SyntaxError, PIL.Image.DecompressionBombError):
        where = f" below {pictures.folder.url}" if pictures else "; give the folder of the images"
        raise UserError(f"There is no image {str(value)[:80]!r}{where}.") from None


def _decoded(value: Any) -> Pixels:
    """Pixels out of bytes or base64."""
    if isinstance(value, int):
        raise ValueError("a number, no image")
    data = base64.b64decode(value, validate=True) if isinstance(value, str) else bytes(value)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"{picture.width}×{picture.height} pixels")
        return np.asarray(flatten(picture))


def _plain(value: Any) -> Any:
    return value.get("bytes") or value.get("path") if isinstance(value, Mapping) else value


def _names_of(value: str | int) -> list[str]:
    """What the file may be called: GQA names images without ending, VQAv2 by their number in COCO."""
    if isinstance(value, int):
        return [f"COCO_val2014_{value:012d}.jpg", f"{value:012d}.jpg", f"{value}.jpg"]
    return [value, f"{value}.jpg", f"{value}.png"] if 0 < len(value) < LONGEST_NAME else []


def _last(path: str) -> str:
    return path.rpartition("/")[2]
