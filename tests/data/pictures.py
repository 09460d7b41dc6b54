"""Made-up pictures, samples and artifacts for the data tests."""

from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from arm.data.images import encode_image
from arm.data.shards import write_shard
from arm.manifest import Manifest, entries_of
from arm.records import Sample, Text, make_uid
from arm.storage import LocalFolder


def artifact(path: Path, kind: str = "image-shards") -> Manifest:
    """The files of a folder as an artifact."""
    folder = LocalFolder(path)
    return Manifest(
        kind=kind, job=kind, version=1, key="0" * 64, config={}, inputs={}, counts={}, metrics={},
        files=entries_of(folder), folder=folder,
    )  # fmt: skip


def picture(seed: int, height: int = 36, width: int = 36) -> NDArray[np.uint8]:
    """A smooth random picture (H, W, 3): different seeds give pictures that look different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return np.asarray(PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC))


def captioned(key: str, pixels: NDArray[np.uint8], caption: str = "a picture", source: str = "crawl") -> Sample:
    """A sample [image, caption]."""
    return Sample(
        uid=make_uid(key),
        task="caption",
        parts=(encode_image(pixels), Text(text=caption, role="caption")),
        source=source,
    )


def shards(path: Path, *samples: Sample, name: str = "crawl") -> Manifest:
    """The samples as an image-shards artifact of one shard."""
    (path / "shards").mkdir(parents=True)
    write_shard(path / "shards" / f"{name}-00000.tar", samples)
    return artifact(path)


def tiny_siglip(folder: Path) -> None:
    """Save a random SigLIP of a few thousand parameters with a tokenizer of 256 bytes."""
    import tokenizers
    import torch
    from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sizes | {"vocab_size": 300, "max_position_embeddings": 32, "projection_size": 16}
    torch.manual_seed(0)
    SiglipModel(
        SiglipConfig(text_config=text, vision_config=sizes | {"image_size": 36, "patch_size": 12})
    ).save_pretrained(folder)
    inner = tokenizers.ByteLevelBPETokenizer()
    inner.train_from_iterator(["a picture"], vocab_size=257, special_tokens=["<pad>"], show_progress=False)
    PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, pad_token="<pad>").save_pretrained(folder)
