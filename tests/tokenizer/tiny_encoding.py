"""A small artifact of image shards with every task, and what tokenize-images needs beside it.

python tests/tokenizer/tiny_encoding.py FOLDER      writes images/, tokenizer/ and text/ with manifests
"""

import random
import sys
from pathlib import Path

import numpy as np

from arm import jobs
from arm.data.images import encode_image
from arm.data.shards import write_shard
from arm.manifest import NAME, Manifest
from arm.records import TASKS, Image, Sample, Text, make_uid
from arm.storage import LocalFolder
from arm.tokenizer.config import EncodeConfig, ResolutionConfig, VariantConfig
from tests.tokenizer import tiny

SMALL = ResolutionConfig(min_short_side=8, max_long_side=12)
LARGE = ResolutionConfig(min_short_side=12, max_long_side=24)
PER_SHARD = 42


def config(**options: object) -> EncodeConfig:
    """One variant, two shards a unit, one thread."""
    values: dict[str, object] = {
        "variants": (VariantConfig(resolution=SMALL),), "shards_per_unit": 2, "batch_size": 16, "threads": 1,
        "max_dropped_share": 0.1,
    }  # fmt: skip
    return EncodeConfig(**{**values, **options})  # type: ignore[arg-type]


def picture(rng: random.Random) -> Image:
    """A noisy picture of any small size."""
    size = (rng.randrange(5, 40), rng.randrange(5, 40), 3)
    return encode_image(np.random.default_rng(rng.randrange(1 << 30)).integers(0, 256, size, dtype=np.uint8))


def sample(rng: random.Random, name: str, task: str) -> Sample:
    """A sample of the task."""
    makers: dict[str, tuple[Text | Image, ...]] = {
        "text": (Text(text=rng.choice(tiny.TEXTS)),),
        "caption": (picture(rng), Text(text="a cat", role="caption")),
        "question": (picture(rng), Text(text="red?", role="question"), Text(text="no", role="answer")),
        "text_to_image": (picture(rng), Text(text=rng.choice(tiny.TEXTS), role="caption")),
        "edit": (picture(rng), Text(text="make it red", role="instruction"), picture(rng)),
        "interleaved_video": (picture(rng), picture(rng), Text(text="it moves"), picture(rng)),
        "interleaved_web": (Text(text="first"), picture(rng), Text(text="then"), Text(text="")),
    }
    meta = {"description": "a cat that sleeps"} if task == "caption" else {"url": "http://x"}
    return Sample(uid=make_uid("tiny", name), task=task, parts=makers[task], source="tiny", licence="CC0", meta=meta)


def damaged(rng: random.Random, name: str) -> Sample:
    """A caption whose picture is cut off."""
    good = picture(rng)
    bad = Image(data=good.data[: len(good.data) // 2], format="png", height=good.height, width=good.width)
    return Sample(
        uid=make_uid("tiny", name), task="caption", parts=(bad, Text(text="a", role="caption")), source="tiny"
    )


def make_images(folder: Path, shards: dict[str, int], per_shard: int = PER_SHARD) -> Manifest:
    """Shards of every task; the first of each source holds a damaged picture."""
    rng = random.Random(0)
    (folder / "shards").mkdir(parents=True)
    for source, count in shards.items():
        for number in range(count):
            names = [f"{source} {number} {index}" for index in range(per_shard)]
            samples = [sample(rng, name, TASKS[index % len(TASKS)]) for index, name in enumerate(names)]
            if number == 0:
                samples[3:3] = [damaged(rng, f"{source} bad")]
            write_shard(folder / f"shards/{source}-{number:05d}.tar", samples)
    return saved(folder, "curated-shards")


def make_tokenizer(folder: Path) -> Manifest:
    """A random visual tokenizer."""
    tiny.visual_tokenizer().save_pretrained(folder / "tokenizer")
    return saved(folder, "tokenizer")


def saved(folder: Path, kind: str) -> Manifest:
    """The manifest of what lies in a folder, written into it."""
    made = tiny.manifest(folder, kind)
    LocalFolder(folder).write(NAME, made.to_json())
    return made


def make_inputs(folder: Path, shards: dict[str, int] | None = None, per_shard: int = PER_SHARD) -> dict[str, Manifest]:
    """The inputs of tokenize-images."""
    tiny.make_language_model(folder / "text")
    return {
        "images": make_images(folder / "images", shards or {"garden": 3, "web": 1}, per_shard),
        "tokenizer": make_tokenizer(folder / "tokenizer"),
        "text_tokenizer": saved(folder / "text", "weights"),
    }


if __name__ == "__main__":
    make_inputs(Path(sys.argv[1]))
    assert jobs.find("tokenize-images").divisible
