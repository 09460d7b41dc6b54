"""What train-detokenizer measures on held-out images: the autoencoder alone, the way through the codes, and edits."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arm.storage import Folder
from arm.tokenizer.config import DetokenizerConfig
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.tokenizer.detokenizer.prepared import Example, batches_of_one_size, read_examples
from arm.tokenizer.images import Pixels, to_images
from arm.tokenizer.metrics import finite_means, psnr
from arm.tokenizer.pictures import save_sheet
from arm.tokenizer.protocol import ImageTokenizer

MAX_TEST = 256
"""Held-out images, and held-out edits, that the metrics read."""
UNTOUCHED = 2.5 / 255
"""A pixel whose channels differ by less between source and target, two grey levels at most, was not edited."""

Values = dict[str, list[float]]


def evaluate(
    detokenizer: Detokenizer,
    visual: ImageTokenizer,
    paths: Sequence[Path],
    output: Folder,
    config: DetokenizerConfig,
    refused: Collection[str] = (),
) -> dict[str, float]:
    """Metrics of held-out images, also by size where there are several; grids of samples."""
    found: Values = {}
    grid = "samples/reconstruction.png"
    for batch in batches_of_one_size(
        _held_out(paths, visual.stride, config, refused, edits=False), config.encode_batch
    ):
        _reconstruct(batch, detokenizer, visual, found, output, grid)
        grid = ""
    if config.source_condition:
        grid = "samples/edits.png"
        for batch in batches_of_one_size(
            _held_out(paths, visual.stride, config, refused, edits=True), config.encode_batch
        ):
            _keep_sources(batch, detokenizer, visual, found, output, grid)
            grid = ""
    one_size = len({name for name in found if name.startswith("reconstruction/psnr/")}) < 2
    columns = {
        name: torch.tensor(values, dtype=torch.float64)
        for name, values in sorted(found.items())
        if not (one_size and name.count("/") > 1)
    }
    return {name: round(value, 4) for name, value in finite_means(columns).items()}


def _held_out(
    paths: Sequence[Path], stride: int, config: DetokenizerConfig, refused: Collection[str], *, edits: bool
) -> Iterator[Example]:
    read = (read_examples(path, config, stride, held_out=True, refused=refused) for path in paths)
    found = (example for examples in read for example in examples)
    wanted = (example for example in found if not edits or example.source is not None)
    return (example for example, _ in zip(wanted, range(MAX_TEST), strict=False))


def _reconstruct(
    batch: Sequence[Example], detokenizer: Detokenizer, visual: ImageTokenizer, found: Values, output: Folder, grid: str
) -> None:
    """PSNR by the autoencoder alone and through the codes."""
    images = _images([example.pixels for example in batch], visual)
    height, width = batch[0].size
    alone = detokenizer.codec.decode(detokenizer.encode(images))[..., :height, :width]
    rendered = detokenizer.render(visual.encode(images), visual, seeds=range(len(images)))
    for name, made in (("autoencoder/psnr", alone), ("reconstruction/psnr", rendered)):
        values = psnr(made, images).tolist()
        found.setdefault(name, []).extend(values)
        found.setdefault(f"{name}/{height}x{width}", []).extend(values)
    if grid:
        save_sheet(output, grid, images[:16], alone[:16], rendered[:16])


def _keep_sources(
    batch: Sequence[Example], detokenizer: Detokenizer, visual: ImageTokenizer, found: Values, output: Folder, grid: str
) -> None:
    """PSNR of the true edit's codes, where nothing was edited and where something was, without and with the source."""
    images = _images([example.pixels for example in batch], visual)
    sources = _images([example.source for example in batch if example.source is not None], visual)
    codes, seeds = visual.encode(images), range(len(images))
    untouched = ((images - sources).abs() <= UNTOUCHED).all(dim=1, keepdim=True)
    without = detokenizer.render(codes, visual, seeds=seeds)
    beside = detokenizer.render(codes, visual, seeds=seeds, sources_BCHW=sources)
    for suffix, made in (("", without), ("_with_source", beside)):
        for part, mask in (("untouched", untouched), ("edited", ~untouched)):
            found.setdefault(f"edits/{part}_psnr{suffix}", []).extend(masked_psnr(made, images, mask))
    if grid:
        save_sheet(output, grid, sources[:16], images[:16], without[:16], beside[:16])


def masked_psnr(images: Tensor, reference: Tensor, mask_B1HW: Tensor) -> list[float]:
    """PSNR in dB over the pixels of each image's mask, at most 100; images without such a pixel are left out."""
    counts = mask_B1HW.sum(dim=(1, 2, 3)) * images.shape[1]
    errors = ((images - reference).square() * mask_B1HW).sum(dim=(1, 2, 3))[counts > 0] / counts[counts > 0]
    return [float(value) for value in -10 * torch.log10(errors.clamp(min=1e-10))]


def _images(pixels: Sequence[Pixels], visual: ImageTokenizer) -> Tensor:
    return to_images(np.stack(pixels)).to(visual.device)
