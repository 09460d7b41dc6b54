"""Folders of weights: nothing is fetched here, and weights are safetensors alone."""

import hashlib
from pathlib import Path
from typing import Any

from arm.errors import UserError

WEIGHTS = ".safetensors"
SETTINGS = (".json", ".txt", ".jinja", ".model")
"""Files beside the weights that are small and read in full."""
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
    """A digest of a model's folder: names and sizes of all files, and the bytes of the small ones.

    Weights are not hashed: they take minutes at 7B. Two checkpoints of one shape differ by it only where a config does.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        if path.suffix in SETTINGS and path.stat().st_size < 1 << 24:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]
