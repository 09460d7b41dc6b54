"""Folders of weights: nothing is fetched here, and weights are safetensors alone."""

from pathlib import Path
from typing import Any

from arm.errors import UserError
from arm.outside import content_digest

WEIGHTS = ".safetensors"
SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
"""How every `from_pretrained` is called."""


def model_folder(path: str, marker: str) -> Path:
    """The folder, which holds the file `marker` and weights; UserError says what to do when it does not."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {path!r}; nothing is downloaded here: fetch the weights first, with "
            f"`hf download NAME --local-dir DIR`, and give DIR."
        )
    if not (folder / marker).is_file():
        raise UserError(f"{path} holds no {marker}, so it is no model of this kind; give the folder that holds it.")
    if not any(folder.rglob(f"*{WEIGHTS}")):
        raise UserError(f"{path} holds no weights in .safetensors files; convert them first (pickles are not read).")
    return folder


def files_digest(folder: Path) -> str:
    """A digest of a model's folder: names and bytes of all files, of which large ones are read once on a machine."""
    return content_digest(str(folder), None)[:32]
