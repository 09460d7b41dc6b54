"""tokenize-images whole (read, decode, resize, encode, write) against the bare encoder, and two workers against one.

    python benchmarks/tokenize_images.py [base] [toy] [--images 96] [--rounds 3]

base   a SigLIP2-base geometry with random weights (width 768, 12 layers, patch 16; projections of 6 blocks) on 256 x 256
       JPEGs; batches of 8
toy    the toy recipe's geometry (width 128, patch embeddings only, 2 blocks) on 36 x 36 PNGs; batches of 256

The bare encoder is `encode` on tensors that are in memory, in the same batches, float32 and one torch thread. The whole
job decodes in one thread beside it: the ratio of seconds needs a free core for that, the ratio of CPU seconds counts it.
Models are loaded before the clock starts. Workers are processes of one torch thread each, ready before the clock starts;
their ratio needs two free cores.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import PIL.Image
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from arm.data.images import open_image
from arm.data.shards import write_shard
from arm.device import make_deterministic
from arm.manifest import Manifest
from arm.records import Sample, Text, make_uid
from arm.storage import LocalFolder
from arm.tokenizer.config import EncodeConfig, QuantizerConfig, ResolutionConfig, VariantConfig
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.encoding import encode as encoding
from arm.tokenizer.visual import VisualTokenizer
from tests.tokenizer import tiny

BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
TOY = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
GEOMETRIES = {
    "base": (BASE, 16, 256, QuantizerConfig(width=768, num_heads=12), 8),
    "toy": (
        TOY, 12, 36,
        QuantizerConfig(
            levels=(2,) * 9, num_blocks=2, width=128, num_heads=4, projection_attention="patch", encoder_layers=(0,)
        ), 256,
    ),
}  # fmt: skip
"""Vision model, patch, side of the images, projections, batch."""
NUM_SHARDS = 4


def main() -> None:
    """Run the geometries that are named, or both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("geometries", nargs="*", default=["toy", "base"])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help="internal: folder of the inputs")
    options = parser.parse_args()
    if options.worker:
        work(Path(options.worker), options.geometries[0])
        return
    for name in options.geometries or ["toy", "base"]:
        number = options.images * (20 if name == "toy" else 1)
        with tempfile.TemporaryDirectory() as folder:
            make_inputs(Path(folder), name, number)
            compare_with_encoder(Path(folder), name, number, options.rounds)
            compare_workers(Path(folder), name, number, options.rounds)


def make_inputs(folder: Path, name: str, number: int) -> None:
    """Shards of pictures with captions, a random tokenizer, a text tokenizer."""
    vision, patch, side, quantizer, _ = GEOMETRIES[name]
    torch.manual_seed(0)
    encoder = FrozenEncoder(SiglipVisionModel(SiglipVisionConfig(image_size=side, patch_size=patch, **vision)))
    VisualTokenizer(encoder, quantizer).eval().save_pretrained(folder / "tokenizer/tokenizer")
    tiny.make_language_model(folder / "text")
    (folder / "images/shards").mkdir(parents=True)
    for shard in range(NUM_SHARDS):
        samples = [picture(index, side) for index in range(shard, number, NUM_SHARDS)]
        write_shard(folder / f"images/shards/benchmark-{shard:05d}.tar", samples)


def picture(index: int, side: int) -> Sample:
    """A smooth picture with noise, as a photograph's JPEG has its bytes: about 1.5 bits a pixel."""
    rng = np.random.default_rng(index)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), PIL.Image.Resampling.BICUBIC)).astype(float)
    pixels = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "jpeg" if side > 100 else "png", quality=90)
    parts = (open_image(buffer.getvalue()), Text(text="a red square", role="caption"))
    return Sample(uid=make_uid(str(index)), task="text_to_image", parts=parts, source="benchmark")


def compare_with_encoder(folder: Path, name: str, number: int, rounds: int) -> None:
    """The whole job and the bare encoder in turn, in this process."""
    *_, side, _, batch = GEOMETRIES[name]
    make_deterministic(threads=1)
    whole, visual = prepared(folder, name)
    images = torch.rand(batch, 3, side, side)

    def bare() -> None:
        for start in range(0, number, batch):
            visual.encode(images[: number - start])

    walls, costs, rates = [], [], []
    for round_index in range(rounds + 1):
        (bare_wall, bare_cost), (wall, cost) = timed(bare), timed(whole)
        if round_index:
            walls.append(bare_wall / wall)
            costs.append(bare_cost / cost)
            rates.append(number / bare_cost)
    print(
        f"{name}: bare encoder {statistics.median(rates):,.1f} images a CPU second; tokenize-images, whole, reaches of it"
    )
    print(f"  {spread(costs)} counted in CPU seconds, {spread(walls)} in seconds", flush=True)


def compare_workers(folder: Path, name: str, number: int, rounds: int) -> None:
    """All units by one worker, then by two, in turn."""
    ratios = []
    for round_index in range(rounds + 1):
        one, two = (elapsed(folder, name, workers) for workers in (1, 2))
        if round_index:
            ratios.append(one / two)
    print(
        f"{name}: two workers make {spread(ratios)} times the images of one in the same seconds ({os.cpu_count()} cores)"
    )


def elapsed(folder: Path, name: str, workers: int) -> float:
    """Seconds from the start signal until the last worker is done."""
    command = [sys.executable, __file__, name, "--worker", str(folder)]
    started = [
        subprocess.Popen(
            command, env={**os.environ, "ARM_PART": f"{part}/{workers}"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for part in range(workers)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    start = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    for process in started:
        assert process.wait() == 0
    return time.perf_counter() - start


def work(folder: Path, name: str) -> None:
    """A worker: load, say so, wait for the signal, make its units."""
    make_deterministic(threads=1)
    whole, visual = prepared(folder, name)
    _, _, side, _, batch = GEOMETRIES[name]
    visual.encode(torch.rand(batch, 3, side, side))
    print("ready", flush=True)
    sys.stdin.read()
    whole()


def prepared(folder: Path, name: str) -> tuple[Callable[[], None], VisualTokenizer]:
    """The whole job into a new folder, with its models already loaded; and its encoder."""
    *_, side, _, batch = GEOMETRIES[name]
    resolution = ResolutionConfig(min_short_side=side, max_long_side=side)
    config = EncodeConfig(
        variants=(VariantConfig(resolution=resolution),),
        shards_per_unit=1,
        batch_size=batch,
        threads=1,
        check_samples=0,
    )
    inputs: dict[str, Manifest] = {
        "images": tiny.manifest(folder / "images", "curated-shards"),
        "tokenizer": tiny.manifest(folder / "tokenizer", "tokenizer"),
        "text_tokenizer": tiny.manifest(folder / "text", "weights"),
    }
    tools = encoding.load_tools(inputs["tokenizer"], inputs["text_tokenizer"], None, config)
    encoding.load_tools = lambda *_: tools

    def whole() -> None:
        with tempfile.TemporaryDirectory() as output:
            encoding.tokenize_images(**inputs, output=LocalFolder(output), config=config)

    return whole, tools.visual


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    wall, cost = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cost


def spread(values: list[float]) -> str:
    """0.97 (0.95 to 0.99, 3 rounds)"""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}, {len(values)} rounds)"


if __name__ == "__main__":
    main()
