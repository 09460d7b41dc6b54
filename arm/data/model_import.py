"""import-model: a Hugging Face checkpoint becomes an artifact, with its licence; nothing in it can run code.

model/config.json, model/model.safetensors, ...    what `from_pretrained` wants
model.json                                         {name, role, licence, model_type}
"""

import json
import shutil
import struct
from math import prod
from pathlib import Path
from typing import Any

from arm.data.config import ImportModelConfig
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.outside import matches, outside_files
from arm.progress import track
from arm.storage import Folder, copy_file

UNSAFE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".npz", ".py", ".so"}
)
"""Pickles, other frameworks' weights and code."""
MODEL_TYPES = {
    "encoder": ("siglip", "siglip2", "siglip_vision_model", "siglip2_vision_model"),
    "language_model": ("qwen2",),
    "autoencoder": ("AutoencoderKL", "AutoencoderDC"),
}
"""Role -> `model_type` of transformers, `_class_name` of diffusers."""
MAX_HEADER_BYTES = 100_000_000
"""What the safetensors format allows for its header."""


def import_model(*, output: Folder, config: ImportModelConfig, source: Manifest | None = None) -> Outcome:
    """Check a checkpoint's files and copy them under `model/`."""
    files = _files(config, source)
    _refuse_unsafe(files, config)
    model_type = _model_type(files, config)
    weights = {name: path for name, path in files.items() if name.endswith(".safetensors")}
    if not weights:
        raise UserError(f"{config.path} holds no .safetensors file; convert the checkpoint to safetensors first.")
    num_parameters = sum(count_parameters(path) for path in weights.values())
    copy = copy_file if source else shutil.copyfile  # a link to a file outside the store would change with it
    for name, path in track(sorted(files.items()), "import-model", total=len(files)):
        if not output.exists(f"model/{name}"):
            with output.publish(f"model/{name}") as target:
                copy(path, target)
    described = {"name": config.name, "role": config.role, "licence": config.licence, "model_type": model_type}
    output.write("model.json", (json.dumps(described, sort_keys=True, indent=1) + "\n").encode())
    return Outcome(counts={"files_copied": len(files), "parameters": num_parameters})


def count_parameters(path: Path) -> int:
    """Numbers stored in a safetensors file; UserError when header and size disagree."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, MAX_HEADER_BYTES):
                raise ValueError("header too long")
            header = json.loads(stream.read(length))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            end = max((entry["data_offsets"][1] for entry in tensors), default=0)
            if 8 + length + end != size:
                raise ValueError(f"{size} bytes, expected {8 + length + end}")
            return sum(prod(entry["shape"]) for entry in tensors)
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no safetensors file, or damaged ({error}); fetch it again.") from None


def _files(config: ImportModelConfig, source: Manifest | None) -> dict[str, Path]:
    """The checkpoint's files by their names inside it; caches and dot files are left out."""
    if source is None:
        files = outside_files(config.path)
    else:
        root = config.path.rstrip("/")
        found = [entry for entry in source.files if matches(entry.path, root)]
        files = {entry.path.removeprefix(root).lstrip("/"): source.local(entry) for entry in found}
    return {name: path for name, path in files.items() if not any(part.startswith(".") for part in Path(name).parts)}


def _refuse_unsafe(files: dict[str, Path], config: ImportModelConfig) -> None:
    unsafe = sorted(name for name in files if Path(name).suffix.lower() in UNSAFE_SUFFIXES)
    if unsafe:
        raise UserError(
            f"{config.path} holds {', '.join(unsafe[:3])}: pickles and code are not imported; "
            "give a folder with safetensors alone."
        )


def _model_type(files: dict[str, Path], config: ImportModelConfig) -> str:
    """What the checkpoint says it is, checked against the role that it shall play."""
    if "config.json" not in files:
        raise UserError(f"{config.path} holds no config.json: not a Hugging Face checkpoint.")
    try:
        values: dict[str, Any] = json.loads(files["config.json"].read_bytes())
        found = str(values.get("model_type") or values.get("_class_name"))
    except (ValueError, AttributeError):
        raise UserError(f"{config.path}/config.json is not a JSON object.") from None
    if "auto_map" in values:
        raise UserError(f"{config.path} needs code of its own (auto_map), which is not run; use a stock architecture.")
    if found not in MODEL_TYPES[config.role]:
        known = ", ".join(MODEL_TYPES[config.role])
        raise UserError(f"{config.path} is a {found!r}, no {config.role}; known for this role: {known}.")
    return found
