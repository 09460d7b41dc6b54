"""A folder of images that were made elsewhere, taken by the uid of their prompt and their number.

    <uid>.png  <uid>_<number>.png  <uid>/<number>.png       also .jpg, .jpeg and .webp; numbers may have zeros in front

`<uid>.png` stands for number 0. An image that is not there is a failed item: never left out in silence.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arm.errors import UserError
from arm.evaluation.inference import read_image
from arm.evaluation.items import Pixels
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.files import files_digest
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed, Unable

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class MadeImages(Unable):
    """Whoever made them, they are judged like everybody's."""

    independent = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self._digest = folder, folder.name, files_digest(folder)
        self.images: dict[tuple[str, int], Path] = {}
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()):
            self._add(path)

    def protocol(self) -> dict[str, Any]:
        """Names and sizes of the files."""
        return {"files": self._digest, "seeded": False}

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        """The image of each drawing."""
        return [self._read(drawing) for drawing in drawings]

    def edit(self, drawings: Sequence[Drawing]) -> list[Pixels | Failed]:
        """The image of each drawing; its source is not looked at."""
        return [self._read(drawing) for drawing in drawings]

    def _add(self, path: Path) -> None:
        name = path.relative_to(self.folder).with_suffix("").as_posix()
        self._claim((name, 0), path)
        for mark in ("_", "/"):
            uid, found, number = name.rpartition(mark)
            if found and number.isdecimal():
                self._claim((uid.removesuffix("/samples"), int(number)), path)

    def _claim(self, key: tuple[str, int], path: Path) -> None:
        other = self.images.setdefault(key, path)
        if other != path:
            raise UserError(f"{other} and {path} are both image {key[1]} of {key[0]!r}; leave one of them out.")

    def _read(self, drawing: Drawing) -> Pixels | Failed:
        path = self.images.get((drawing.uid, drawing.number))
        if path is None:
            return Failed("no image in the folder")
        try:
            return read_image(path)
        except UserError as error:
            return Failed(str(error))


def load(config: ModelConfig) -> MadeImages:
    """Look through the folder."""
    folder = Path(config.model).expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder of images at {config.model!r}.")
    made = MadeImages(folder)
    if not made.images:
        raise UserError(f"{config.model} holds no image that ends in {', '.join(ENDINGS)}.")
    return made
