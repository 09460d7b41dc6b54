"""A tiny random encoder, language model, VAE and a few shards: enough to run every job of the tokenizer in seconds."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from arm.data.images import encode_image
from arm.data.shards import write_shard
from arm.manifest import Manifest, entries_of
from arm.records import Image, Sample, Text, make_uid
from arm.storage import LocalFolder
from arm.tokenizer.config import FlowConfig, OptimizerConfig, QuantizerConfig, ResolutionConfig, TokenizerConfig
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.visual import VisualTokenizer

SIDE, PATCH = 12, 4
SQUARE = ResolutionConfig(min_short_side=SIDE, max_long_side=SIDE)
TEXTS = ("a red square", "a blue square", "a green square")
FLOW = FlowConfig(width=16, num_blocks=1, num_heads=2, patch=4, prediction="x", skip=True)
QUANTIZER = QuantizerConfig(levels=(2, 2, 2, 2), num_blocks=1, width=16, num_heads=2)
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_steps=1)


def vision_model(kind: str = "siglip") -> Any:
    """A random vision model of either class."""
    from transformers import Siglip2VisionConfig, Siglip2VisionModel, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(0)
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "siglip":
        return SiglipVisionModel(SiglipVisionConfig(image_size=SIDE, patch_size=PATCH, **shared))
    return Siglip2VisionModel(Siglip2VisionConfig(num_patches=9, patch_size=PATCH, **shared))


def visual_tokenizer(kind: str = "siglip", **options: Any) -> VisualTokenizer:
    """A random tokenizer in evaluation mode."""
    import dataclasses

    encoder = FrozenEncoder(vision_model(kind))
    return VisualTokenizer(encoder, dataclasses.replace(QUANTIZER, **options)).eval()


def tokenizer_config(**options: Any) -> TokenizerConfig:
    """A config that trains in a second."""
    import dataclasses

    base = TokenizerConfig(
        resolutions=(SQUARE,), quantizer=QUANTIZER, pixel=FLOW, optimizer=OPTIMIZER, batch_size=4, num_steps=4,
        num_held_out=8, threads=1, save_every=2, log_every=1, caption_length=8, precision="float32",
        zero_shot_classes=("red square", "blue square", "green square"),
    )  # fmt: skip
    return dataclasses.replace(base, **options)


def make_siglip(folder: Path) -> Manifest:
    """A random SiglipModel with a text tokenizer."""
    from arm.toy.config import SiglipTeacherConfig
    from arm.toy.teacher_siglip import make_model, make_text_tokenizer

    torch.manual_seed(0)
    config = SiglipTeacherConfig(
        width=16, num_vision_layers=1, num_text_layers=1, num_heads=2, patch=PATCH, text_length=8
    )
    tokenizer = make_text_tokenizer(list(TEXTS), 8)
    make_model(config, tokenizer).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return manifest(folder, "weights")


def make_language_model(folder: Path) -> Manifest:
    """A random Qwen2 with its byte-level tokenizer."""
    from arm.toy.config import LanguageTeacherConfig
    from arm.toy.teacher_language import make_model, make_tokenizer

    torch.manual_seed(0)
    tokenizer = make_tokenizer(list(TEXTS), 300)
    config = LanguageTeacherConfig(width=16, num_layers=1, num_heads=2, num_kv_heads=1, mlp_width=32)
    make_model(config, tokenizer).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return manifest(folder, "weights")


def make_autoencoder(folder: Path) -> Manifest:
    """A random AutoencoderKL of factor 4."""
    from arm.toy.config import AutoencoderTeacherConfig
    from arm.toy.teacher_autoencoder import make_model

    torch.manual_seed(0)
    make_model(AutoencoderTeacherConfig(widths=(8, 8, 8), latent_channels=2)).save_pretrained(folder / "model")
    return manifest(folder, "weights")


def make_images(folder: Path, count: int = 600) -> Manifest:
    """Two shards of captioned squares, among them some held out, an edit and a text."""
    rng = random.Random(0)
    for shard in range(2):
        samples = [_captioned(rng, f"{shard}/{index}") for index in range(count // 2)]
        if shard == 0:
            image = samples[0].parts[0]
            samples.append(_sample("edit", "edit", (image, Text(text="make it red", role="instruction"), image)))
            samples.append(_sample("text", "text", (Text(text="squares are square"),)))
        path = folder / f"shards/tiny-{shard:05d}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_shard(path, samples)
    return manifest(folder, "curated-shards")


def recorded_barriers(monkeypatch: Any) -> list[timedelta]:
    """How long each barrier from now on would wait."""
    waited: list[timedelta] = []
    barrier = dist.barrier

    def recorded(group: Any = None) -> None:
        chosen = group or dist.group.WORLD
        waited.append(chosen._get_backend(torch.device("cpu")).options._timeout)
        barrier(group)

    monkeypatch.setattr(dist, "barrier", recorded)
    return waited


def manifest(folder: Path, kind: str) -> Manifest:
    """An artifact of what lies in a folder."""
    home = LocalFolder(folder)
    return Manifest(
        kind=kind, job="test", version=1, key=kind, config={}, inputs={}, counts={}, metrics={},
        files=entries_of(home), folder=home,
    )  # fmt: skip


def _captioned(rng: random.Random, name: str) -> Sample:
    number = rng.randrange(3)
    color = [(200, 40, 40), (40, 40, 200), (40, 200, 40)][number]
    pixels = np.full((SIDE, SIDE, 3), 220, np.uint8)
    top, left = rng.randrange(SIDE - 4), rng.randrange(SIDE - 4)
    pixels[top : top + 4, left : left + 4] = color
    return _sample(name, "caption", (encode_image(pixels), Text(text=TEXTS[number], role="caption")))


def _sample(name: str, task: str, parts: tuple[Image | Text, ...]) -> Sample:
    return Sample(uid=make_uid("tiny", name), task=task, parts=parts, source="tiny")
