"""A small artifact of token shards, a base model and a visual tokenizer's record, for the tests of training."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from tiny_lmm import CODES, WORDS, saved_base, word_tokenizer
from transformers import AutoTokenizer

from arm import config as configs
from arm.manifest import Manifest, entries_of
from arm.model.token_shards import (
    ShardFiles,
    index_bytes,
    lengths_batch,
    text_fingerprint,
    write_lengths,
    write_shard,
)
from arm.model.vocabulary import text_ids
from arm.records import Image, Sample, Text, make_uid
from arm.storage import LocalFolder
from arm.training.config import StageConfig

COUNTS = {
    "text": 40, "caption": 60, "question": 50, "text_to_image": 120, "edit": 60,
    "interleaved_video": 30, "interleaved_web": 30,
}  # fmt: skip


def artifact(folder: Path, kind: str) -> Manifest:
    """A manifest over what lies in a folder."""
    local = LocalFolder(folder)
    return Manifest(
        kind=kind, job=kind, version=1, key="0" * 64, config={}, inputs={}, counts={}, metrics={},
        files=entries_of(local), folder=local,
    )  # fmt: skip


def make_store(folder: Path, *, shards_per_task: int = 2) -> dict[str, Manifest]:
    """The inputs of train-model: {"tokens", "base", "tokenizer"}."""
    saved_base(folder / "base" / "model")
    record = {"fingerprint": CODES.fingerprint, "index_order": 1, "quantizer": {"levels": CODES.levels}}
    (folder / "tokenizer" / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer" / "visual_tokenizer.json").write_text(json.dumps(record))
    tokenizer = AutoTokenizer.from_pretrained(folder / "base" / "model")
    rng = random.Random(0)
    for task, count in COUNTS.items():
        for number in range(shards_per_task):
            rows = [_row(task, f"{task} {number} {i}", rng) for i in range(count)]
            _write(folder / "tokens", f"{task}-{number:05d}", rows, tokenizer)
    kinds = {"tokens": "token-shards", "base": "weights", "tokenizer": "tokenizer"}
    return {name: artifact(folder / name, kind) for name, kind in kinds.items()}


def finished_run(folder: Path, output: Path, config: dict[str, Any]) -> Manifest:
    """The manifest that `jobs.run` would give an output of train-model on the store in `folder`."""
    inputs = {name: artifact(folder / name, name).digest for name in ("tokens", "base", "tokenizer")}
    steps = pq.read_table(output / "ledger" / "steps-00000.parquet").to_pydict()
    counts = {"steps": len(steps["step"]), "documents": sum(steps["documents"]), "tokens": sum(steps["tokens"])}
    local, identity = LocalFolder(output), configs.identity(configs.from_dict(StageConfig, config))
    return Manifest(
        kind="model", job="train-model", version=1, key="0" * 64, config=identity, inputs=inputs, counts=counts,
        metrics={}, files=entries_of(local), folder=local,
    )  # fmt: skip


def image(rng: random.Random) -> npt.NDArray[np.uint16]:
    """The codes of a 2×2 image."""
    return np.asarray(rng.choices(range(8), k=4), np.uint16).reshape(2, 2)


def text(rng: random.Random, role: Any = "text", words: int = 3) -> Text:
    """A text part of known words."""
    return Text(text=" ".join(rng.choices(WORDS, k=words)), role=role)


def _row(task: str, name: str, rng: random.Random) -> tuple[Sample, list[npt.NDArray[np.uint16]]]:
    """A sample whose images have no pixels, and their codes."""
    makers: dict[str, Any] = {
        "text": lambda: [text(rng, words=rng.randint(4, 12))],
        "caption": lambda: [image(rng), text(rng, "caption")],
        "question": lambda: [image(rng), *(text(rng, role, 2) for _ in range(2) for role in ("question", "answer"))],
        "text_to_image": lambda: [image(rng), text(rng, "caption", rng.randint(1, 5))],
        "edit": lambda: [image(rng), text(rng, "instruction"), image(rng)],
        "interleaved_video": lambda: [image(rng), text(rng), image(rng)],
        "interleaved_web": lambda: [text(rng), image(rng), text(rng)],
    }
    made = makers[task]()
    empty = Image(data=b"", format="png", height=24, width=24)
    parts = tuple(part if isinstance(part, Text) else empty for part in made)
    sample = Sample(uid=make_uid(name), task=task, parts=parts, source=task, licence="x")
    return sample, [part for part in made if not isinstance(part, Text)]


def _write(folder: Path, unit: str, rows: list[tuple[Sample, list[npt.NDArray[np.uint16]]]], tokenizer: Any) -> None:
    files = ShardFiles("default", unit)
    for name in (files.shard, files.lengths, files.index):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    samples, grids = [sample for sample, _ in rows], [grid for _, images in rows for grid in images]
    identity = {"tokenizer_fingerprint": CODES.fingerprint, "num_codes": CODES.num_codes}
    index = write_shard(folder / files.shard, samples, grids, **identity, batch_rows=25)
    (folder / files.index).write_bytes(index_bytes(index))
    lengths = [
        [[len(text_ids(tokenizer, [part.text])[0])] if isinstance(part, Text) else [9] for part in sample.parts]
        for sample in samples
    ]
    held_out = [bytes.fromhex(sample.uid)[0] < 16 for sample in samples]
    batch = lengths_batch(samples, grids, lengths, held_out)
    write_lengths(folder / files.lengths, [batch], text_fingerprint=text_fingerprint(tokenizer))


__all__ = ["COUNTS", "artifact", "finished_run", "image", "make_store", "text", "word_tokenizer"]
