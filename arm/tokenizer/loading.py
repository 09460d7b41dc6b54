"""The detokenizer of an artifact: ours, or the decoder of an imported tokenizer."""

import json
from pathlib import Path

from arm.errors import UserError
from arm.manifest import Manifest
from arm.tokenizer.adapters import OwnDecoder
from arm.tokenizer.detokenizer.model import CONFIG_NAME, Detokenizer
from arm.tokenizer.protocol import ImageDetokenizer

FOLDER = "detokenizer"
"""Where an artifact of train-detokenizer, or of import-model with role `image_tokenizer`, keeps its detokenizer."""


def detokenizer_folder(manifest: Manifest) -> Path:
    """The local folder of an artifact's detokenizer; a tokenizer without a decoder has none."""
    if not manifest.select(f"{FOLDER}/"):
        raise UserError(
            f"{manifest.url} ({manifest.kind}) renders no images: train a detokenizer on its tokenizer's codes."
        )
    return manifest.local_folder(FOLDER)


def load_detokenizer(folder: Path) -> ImageDetokenizer:
    """Load the detokenizer of a folder."""
    record = json.loads((folder / CONFIG_NAME).read_text())
    if "model_type" in record:
        return OwnDecoder(str(record["tokenizer_fingerprint"]))
    return Detokenizer.from_pretrained(folder)
