"""Checkpoints of single-codebook image tokenizers that transformers ships: what they hold, read without loading weights.

    config.json            model_type emu3_vqgan, chameleon_vqgan or janus_vqgan: the tokenizer alone
                           model_type emu3, chameleon or janus: a whole model; the tokenizer is `vq_config` and `*vqmodel.*`
    *.safetensors          weights
    preprocessor_config.json, processor_config.json   how pixels are normalised, if there is one

`extract` writes the tokenizer alone, whichever it came from, as a folder that says what it is:
    visual_tokenizer.json  model_type, num_codes, stride, fingerprint, normalisation of pixels
    config.json, model.safetensors
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from arm.errors import UserError

RECORD_NAME = "visual_tokenizer.json"
MAX_CODES = 65_536
"""Codes are stored as uint16."""
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""What the safetensors format knows, but for numbers of less than a byte."""
MAX_HEADER_BYTES = 100_000_000
"""What the safetensors format allows for its header."""
CODEBOOK_SIZE = {
    "emu3_vqgan": "codebook_size", "chameleon_vqgan": "num_embeddings", "janus_vqgan": "num_embeddings",
}  # fmt: skip
"""`model_type` of a tokenizer -> the field of its config that counts the codes."""
WHOLE = {"emu3": "emu3_vqgan", "chameleon": "chameleon_vqgan", "janus": "janus_vqgan"}
"""`model_type` of a whole model -> that of the tokenizer inside."""
MODEL_TYPES = (*CODEBOOK_SIZE, *WHOLE)
NO_EFFECT = frozenset({"num_patches", "dropout", "attention_dropout", "initializer_range"})
"""Fields of the config that no code depends on: a whole model sets them otherwise than the tokenizer alone."""
INSIDE = "vqmodel."


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies."""

    path: Path
    key: str
    """Its name in the file."""
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def element_bytes(self) -> int:
        """Bytes of one number."""
        return (self.end - self.begin) // max(prod(self.shape), 1)

    def read(self) -> bytes:
        """Its bytes."""
        with self.path.open("rb") as stream:
            stream.seek(self.begin)
            return stream.read(self.end - self.begin)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """(value in [0, 1] x scale - mean) / std, channel by channel: what the tokenizer was trained on."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class TokenizerCheckpoint:
    """A tokenizer inside the files of a checkpoint."""

    model_type: str
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]
    normalisation: Normalisation

    @property
    def num_codes(self) -> int:
        """Size of the codebook."""
        return int(self.config[CODEBOOK_SIZE[self.model_type]])

    @property
    def has_decoder(self) -> bool:
        """Whether codes can be turned back into pixels; Chameleon's decoder is not in transformers."""
        return any(name.startswith("decoder.") for name in self.tensors)

    @property
    def stride(self) -> int:
        """Pixels per code and side: every stage but the last halves the image."""
        return int(2 ** (len(self.config["channel_multiplier"]) - 1))

    def fingerprint(self) -> str:
        """sha256 over class, config, normalisation and every weight."""
        acting = {name: value for name, value in self.config.items() if name not in NO_EFFECT}
        head = [self.model_type, acting, _plain(self.normalisation)]
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            digest.update(tensor.read())
        return digest.hexdigest()

    def record(self) -> dict[str, Any]:
        """What consumers need to know of it."""
        known = {"model_type": self.model_type, "num_codes": self.num_codes, "stride": self.stride}
        return {**known, "normalisation": _plain(self.normalisation), "fingerprint": self.fingerprint()}


def read_checkpoint(files: Mapping[str, Path], name: str) -> TokenizerCheckpoint:
    """Find the tokenizer in a checkpoint's files, named by their paths inside it; UserError calls the checkpoint `name`."""
    values = read_json(files, "config.json", name)
    found = str(values.get("model_type"))
    model_type = WHOLE.get(found, found)
    if model_type not in CODEBOOK_SIZE:
        raise UserError(f"{name} is a {found!r}, no image tokenizer; known: {', '.join(MODEL_TYPES)}.")
    config = _complete_config(model_type, values.get("vq_config") or {} if found in WHOLE else values, name)
    weights = [path for file, path in sorted(files.items()) if file.endswith(".safetensors")]
    tensors = {key: tensor for path in weights for key, tensor in read_header(path).items()}
    if found in WHOLE:
        tensors = {key.partition(INSIDE)[2]: tensor for key, tensor in tensors.items() if INSIDE in key}
    if not tensors:
        raise UserError(f"{name} holds no weights of an image tokenizer in .safetensors files; convert it first.")
    checkpoint = TokenizerCheckpoint(model_type, config, tensors, _normalisation(files, name))
    if not 2 <= checkpoint.num_codes <= MAX_CODES:
        raise UserError(f"{name} has {checkpoint.num_codes:,} codes; token shards hold 2 to {MAX_CODES:,} (uint16).")
    return checkpoint


def extract(checkpoint: TokenizerCheckpoint, folder: Path) -> None:
    """Write the tokenizer alone."""
    folder.mkdir(parents=True, exist_ok=True)
    widest_first = sorted(checkpoint.tensors.items(), key=lambda item: (-item[1].element_bytes, item[0]))
    header, end = {}, 0
    for name, tensor in widest_first:
        size = tensor.end - tensor.begin
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    encoded += b" " * (-len(encoded) % 8)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, tensor in widest_first:
            stream.write(tensor.read())
    _write(folder / "config.json", {"model_type": checkpoint.model_type, **checkpoint.config})
    _write(folder / RECORD_NAME, checkpoint.record())


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Every tensor of a safetensors file; UserError when header and size disagree."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, MAX_HEADER_BYTES):
                raise ValueError("header too long")
            header = json.loads(stream.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            stored = {name: _stored(path, name, entry, 8 + length) for name, entry in entries.items()}
            _check_places(stored, 8 + length, size)
            return stored
        except (
            struct.error,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            ValueError,
            RecursionError,
        ) as error:
            raise UserError(f"{path} is no safetensors file, or damaged ({error}); fetch it again.") from None


def read_json(files: Mapping[str, Path], file: str, name: str) -> dict[str, Any]:
    """A JSON object among a checkpoint's files."""
    if file not in files:
        raise UserError(f"{name} holds no {file}: not a Hugging Face checkpoint.")
    try:
        values = json.loads(files[file].read_bytes())
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{name}/{file} is not a JSON object.")
    return values


def _check_places(stored: Mapping[str, StoredTensor], start: int, size: int) -> None:
    """Refuse tensors that overlap, or leave a part of the file to nobody: a small file could grow without bound."""
    for tensor in sorted(stored.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != start:
            raise ValueError(f"{tensor.key[:80]!r} starts at byte {tensor.begin}, expected {start}")
        start = tensor.end
    if start != size:
        raise ValueError(f"{size} bytes, expected {start}")


def _stored(path: Path, key: str, entry: dict[str, Any], start: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    shape = tuple(int(size) for size in entry["shape"])
    if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= end) or min(shape, default=0) < 0:
        raise ValueError("offsets or shape below zero")
    if end - begin != prod(shape) * DTYPE_BYTES[entry["dtype"]]:
        raise ValueError(f"{end - begin} bytes for {entry['dtype']} of shape {shape}")
    return StoredTensor(path, key, str(entry["dtype"]), shape, start + begin, start + end)


def _complete_config(model_type: str, values: dict[str, Any], name: str) -> dict[str, Any]:
    """The fields of the tokenizer's config, those that the file leaves out at the class's defaults."""
    from huggingface_hub.errors import StrictDataclassError

    config_class = _config_class(model_type)
    known = [field for field in config_class.__dataclass_fields__ if field in config_class.__annotations__]
    try:
        config = config_class(**{field: values[field] for field in known if field in values})
        return {field: _json_value(getattr(config, field)) for field in known}
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = error.__cause__ or error
        raise UserError(f"{name}/config.json does not describe a {model_type} ({reason}).") from None


def _config_class(model_type: str) -> Any:
    import transformers

    stem = {"emu3_vqgan": "Emu3", "chameleon_vqgan": "Chameleon", "janus_vqgan": "Janus"}[model_type]
    return getattr(transformers, f"{stem}VQVAEConfig")


def _normalisation(files: Mapping[str, Path], name: str) -> Normalisation:
    """What the checkpoint's image processor does to pixels; [-1, 1] where it has none."""
    if RECORD_NAME in files:
        record = read_json(files, RECORD_NAME, name).get("normalisation")
        values = {"image_" + key: value for key, value in record.items()} if isinstance(record, dict) else {}
    else:
        values = _image_processor(files, name)
    if not values:
        return Normalisation()
    try:
        scale = float(values.get("image_scale") or 255 * values.get("rescale_factor", 1 / 255))
        mean = tuple(float(value) for value in values["image_mean"])
        deviation = tuple(float(value) for value in values["image_std"])
    except (KeyError, TypeError, ValueError):
        scale, mean, deviation = 0.0, (), ()
    if values.get("do_normalize") is False or not (len(mean) == len(deviation) == 3 and min(scale, *deviation) > 0):
        raise UserError(
            f"{name}'s image processor must normalise by an image_mean and image_std > 0 of three channels."
        )
    return Normalisation(round(scale, 6), mean, deviation)


def _image_processor(files: Mapping[str, Path], name: str) -> dict[str, Any]:
    if "preprocessor_config.json" in files:
        return read_json(files, "preprocessor_config.json", name)
    if "processor_config.json" in files:
        return read_json(files, "processor_config.json", name).get("image_processor") or {}
    return {}


def _plain(normalisation: Normalisation) -> dict[str, Any]:
    return {"scale": normalisation.scale, "mean": list(normalisation.mean), "std": list(normalisation.std)}


def _json_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
