"""Codes and latents of the training images, computed once and kept on the working disk, read through memory maps.

    <scratch>/<shard>/<H>x<W>.safetensors   codes (n, h, w) int32, latents (n, C, h', w') bfloat16,
                                            source_rows (n,) int64: row in sources, or -1; sources (m, C, h', w') bfloat16

Every shard gives at most max_images / shards images, batched inside the shard alone: a machine's ranks share out the
shards, and the files do not depend on how many ranks there are. A shard's folder appears whole, so a killed preparation goes on.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from arm.data.shards import read_shard
from arm.errors import UserError
from arm.model.token_shards import is_held_out
from arm.progress import track
from arm.records import Image
from arm.tokenizer.config import DetokenizerConfig, ResolutionConfig
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.tokenizer.images import Pixels, decode_curated, fit_pixels, to_images
from arm.tokenizer.protocol import ImageTokenizer
from arm.tokenizer.resolution import Size, target_size
from arm.training.engine import patient_group, rank

EDIT = "edit"


@dataclass(frozen=True, slots=True)
class Example:
    """What the detokenizer shall render, and the source of it where it is an edit."""

    pixels: Pixels
    source: Pixels | None

    @property
    def size(self) -> Size:
        """(height, width)."""
        return (self.pixels.shape[0], self.pixels.shape[1])


def read_examples(
    path: Path, config: DetokenizerConfig, stride: int, *, held_out: bool, refused: Collection[str] = ()
) -> Iterator[Example]:
    """The first image of each sample of a shard; with source_condition an edit's last image, with the first as source."""
    for sample in read_shard(path, refused):
        images = [part for part in sample.parts if isinstance(part, Image)]
        if not images or is_held_out(bytes.fromhex(sample.uid)) != held_out:
            continue
        edit = config.source_condition and sample.task == EDIT and len(images) > 1
        pixels = decode_curated(images[-1 if edit else 0], sample.uid, path)
        resolution = draw_resolution(sample.uid, config.seed, config.resolutions)
        height, width = target_size(pixels.shape[0], pixels.shape[1], resolution, stride)
        source = fit_pixels(decode_curated(images[0], sample.uid, path), height, width) if edit else None
        yield Example(fit_pixels(pixels, height, width), source)


def draw_resolution(uid: str, seed: int, resolutions: Sequence[ResolutionConfig]) -> ResolutionConfig:
    """The resolution that a sample draws: the same whenever it is asked for."""
    digest = hashlib.sha256(f"resolution/{seed}/{uid}".encode()).digest()
    return resolutions[int.from_bytes(digest[:8]) % len(resolutions)]


def batches_of_one_size(examples: Iterable[Example], count: int) -> Iterator[list[Example]]:
    """Examples in batches of `count` and of one size each, in an order that depends on the examples alone."""
    waiting: dict[Size, list[Example]] = {}
    for example in examples:
        batch = waiting.setdefault(example.size, [])
        batch.append(example)
        if len(batch) == count:
            yield waiting.pop(example.size)
    yield from waiting.values()


def prepare(
    paths: Sequence[Path],
    visual: ImageTokenizer,
    detokenizer: Detokenizer,
    scratch: Path,
    config: DetokenizerConfig,
    refused: Collection[str] = (),
) -> "Prepared":
    """Encode what this machine does not hold yet, its ranks sharing the shards; wait for all; open everything.

    Every machine prepares all images on its own working disk: only then do all ranks draw from the same set.
    """
    patient = patient_group() if dist.is_initialized() else None
    quota = -(-config.max_images // len(paths))
    own = paths[int(os.environ.get("LOCAL_RANK", "0")) :: int(os.environ.get("LOCAL_WORLD_SIZE", "1"))]
    for path in track(own, "train-detokenizer: latents", total=len(own)):
        folder = scratch / path.stem
        if not folder.is_dir():
            unfinished = scratch / f"{path.stem}.rank-{rank()}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            found = read_examples(path, config, visual.stride, held_out=False, refused=refused)
            chosen = (example for example, _ in zip(found, range(quota), strict=False))
            _write(unfinished, chosen, visual, detokenizer, config)
            _keep(unfinished, folder)
    if dist.is_initialized():
        dist.barrier(patient)
    return Prepared([file for path in paths for file in sorted((scratch / path.stem).glob("*.safetensors"))])


def _keep(unfinished: Path, folder: Path) -> None:
    """Give a finished folder its name; where machines share the disk, the first of them wins."""
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(unfinished)


def _write(
    folder: Path,
    examples: Iterable[Example],
    visual: ImageTokenizer,
    detokenizer: Detokenizer,
    config: DetokenizerConfig,
) -> None:
    """Encode a shard's examples and write a file a size."""
    from safetensors.torch import save_file

    encoded: dict[Size, list[dict[str, Tensor]]] = {}
    for batch in batches_of_one_size(examples, config.encode_batch):
        encoded.setdefault(batch[0].size, []).append(_encode(batch, visual, detokenizer))
    for (height, width), parts in encoded.items():
        tensors = {name: torch.cat([part[name] for part in parts]) for name in ("codes", "latents", "sources")}
        present = torch.cat([part["present"] for part in parts])
        tensors["source_rows"] = torch.where(present, present.cumsum(0) - 1, -1)
        save_file(tensors, folder / f"{height}x{width}.safetensors")


def _encode(batch: Sequence[Example], visual: ImageTokenizer, detokenizer: Detokenizer) -> dict[str, Tensor]:
    images = to_images(np.stack([example.pixels for example in batch]))
    latents = detokenizer.encode(images).to(torch.bfloat16).cpu()
    sources = [example.source for example in batch if example.source is not None]
    return {
        "codes": visual.encode(images).to(torch.int32).cpu(),
        "latents": latents,
        "present": torch.tensor([example.source is not None for example in batch]),
        "sources": detokenizer.encode(to_images(np.stack(sources))).to(torch.bfloat16).cpu()
        if sources
        else latents[:0],
    }


@dataclass(frozen=True, slots=True)
class Rows:
    """Prepared images of one size."""

    codes_BHW: Tensor
    latents: Tensor
    sources: Tensor
    """Latents; zeros where an image has no source."""


class Prepared:
    """All prepared images, by size."""

    def __init__(self, files: Sequence[Path]) -> None:
        from safetensors.torch import load_file

        self._files: dict[Size, list[dict[str, Tensor]]] = {}
        for file in files:
            height, width = file.stem.split("x")
            self._files.setdefault((int(height), int(width)), []).append(load_file(file))
        if not self._files:
            raise UserError("The shards hold no image that is not held out; train-detokenizer needs some thousands.")
        self.counts = {size: sum(len(part["codes"]) for part in found) for size, found in sorted(self._files.items())}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def draw(self, count: int, generator: torch.Generator) -> tuple[Size, Tensor]:
        """A size, as likely as its share of the images, and `count` rows of it."""
        chosen = int(torch.randint(len(self), (1,), generator=generator))
        sizes, ends = list(self.counts), np.cumsum(list(self.counts.values()))
        size = sizes[int(np.searchsorted(ends, chosen, side="right"))]
        return size, torch.randint(self.counts[size], (count,), generator=generator)

    def rows(self, size: Size, indices: Tensor) -> Rows:
        """The images of a size at these rows."""
        parts = self._files[size]
        starts = np.cumsum([0, *(len(part["codes"]) for part in parts)])
        codes, latents, sources = [], [], []
        for index in indices.tolist():
            number = int(np.searchsorted(starts, index, side="right")) - 1
            part, row = parts[number], index - int(starts[number])
            source_row = int(part["source_rows"][row])
            codes.append(part["codes"][row])
            latents.append(part["latents"][row].float())
            sources.append(part["sources"][source_row].float() if source_row >= 0 else torch.zeros_like(latents[-1]))
        return Rows(torch.stack(codes).long(), torch.stack(latents), torch.stack(sources))
