"""import-model: a Hugging Face checkpoint becomes an artifact, with its licence; nothing in it can run code.

model/config.json, model/model.safetensors, ...    what `from_pretrained` wants
model.json                                         {name, role, licence, model_type}

In the role `image_tokenizer` the tokenizer alone is taken, so that the artifact serves as the input `tokenizer` of other
jobs, and as their `detokenizer` where it has a decoder:

tokenizer/visual_tokenizer.json, config.json, model.safetensors
detokenizer/detokenizer.json                       {model_type, tokenizer_fingerprint}: the tokenizer renders by itself
"""

import json
import shutil
from math import prod
from pathlib import Path

from arm.data import image_tokenizers
from arm.data.config import ImportModelConfig
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.outside import matches, outside_files, refuse_links
from arm.progress import track
from arm.storage import Folder, copy_file, publish_tree

UNSAFE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".npz", ".py", ".so"}
)
"""Pickles, other frameworks' weights and code."""
MODEL_TYPES = {
    "encoder": ("siglip", "siglip2", "siglip_vision_model", "siglip2_vision_model"),
    "language_model": ("qwen2",),
    "autoencoder": ("AutoencoderKL", "AutoencoderDC"),
    "backbone": ("FluxTransformer2DModel", "SanaTransformer2DModel"),
    "image_tokenizer": image_tokenizers.MODEL_TYPES,
}
"""Role -> `model_type` of transformers, `_class_name` of diffusers."""


def import_model(*, output: Folder, config: ImportModelConfig, source: Manifest | None = None) -> Outcome:
    """Check a checkpoint's files and copy them."""
    files = _files(config, source)
    _refuse_unsafe(files, config)
    model_type = _model_type(files, config)
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{config.path} holds no .safetensors file; convert the checkpoint to safetensors first.")
    publish = _publish_tokenizer if config.role == "image_tokenizer" else _publish_all
    counts = publish(files, output, config, linked=source is not None)
    described = {"name": config.name, "role": config.role, "licence": config.licence, "model_type": model_type}
    output.write("model.json", (json.dumps(described, sort_keys=True, indent=1) + "\n").encode())
    return Outcome(counts=counts)


def count_parameters(path: Path) -> int:
    """Numbers stored in a safetensors file; UserError when header and size disagree."""
    return sum(prod(tensor.shape) for tensor in image_tokenizers.read_header(path).values())


def _publish_all(files: dict[str, Path], output: Folder, config: ImportModelConfig, *, linked: bool) -> dict[str, int]:
    """Copy every file under `model/`; `linked` files lie in the store and never change."""
    num_parameters = sum(count_parameters(path) for name, path in files.items() if name.endswith(".safetensors"))
    copy = copy_file if linked else shutil.copyfile  # a link to a file outside the store would change with it
    for name, path in track(sorted(files.items()), "import-model", total=len(files)):
        if not output.exists(f"model/{name}"):
            with output.publish(f"model/{name}") as target:
                copy(path, target)
    return {"files_copied": len(files), "parameters": num_parameters}


def _publish_tokenizer(
    files: dict[str, Path], output: Folder, config: ImportModelConfig, *, linked: bool
) -> dict[str, int]:
    """Write the image tokenizer alone, which may be a small part of the checkpoint."""
    checkpoint = image_tokenizers.read_checkpoint(files, config.path)
    folder = output.scratch("tokenizer")
    image_tokenizers.extract(checkpoint, folder)
    publish_tree(output, "tokenizer", folder)
    if checkpoint.has_decoder:
        own = {"model_type": checkpoint.model_type, "tokenizer_fingerprint": checkpoint.fingerprint()}
        output.write("detokenizer/detokenizer.json", (json.dumps(own, sort_keys=True, indent=1) + "\n").encode())
    num_parameters = sum(prod(tensor.shape) for tensor in checkpoint.tensors.values())
    return {"files_copied": 3, "parameters": num_parameters, "codes": checkpoint.num_codes}


def _files(config: ImportModelConfig, source: Manifest | None) -> dict[str, Path]:
    """The checkpoint's files by their names inside it; caches and dot files are left out."""
    if source is None:
        files = outside_files(config.path)
        refuse_links(config.path, files.values())
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
    values = image_tokenizers.read_json(files, "config.json", config.path)
    found = str(values.get("model_type") or values.get("_class_name"))
    if "auto_map" in values:
        raise UserError(f"{config.path} needs code of its own (auto_map), which is not run; use a stock architecture.")
    if found not in MODEL_TYPES[config.role]:
        known = ", ".join(MODEL_TYPES[config.role])
        raise UserError(f"{config.path} is a {found!r}, no {config.role}; known for this role: {known}.")
    return found
