"""A small artifact of token shards, a base model and a visual tokenizer's record, for the tests of training."""

import json
import random
from pathlib import Path
from typing import Any

from tiny_lmm import CODES, WORDS, saved_base, word_tokenizer
from transformers import AutoTokenizer

from arm.manifest import Manifest, entries_of
from arm.model.token_shards import write_lengths, write_shard
from arm.model.vocabulary import text_ids
from arm.records import make_uid
from arm.storage import LocalFolder

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
    for name in ("shards", "lengths"):
        (folder / "tokens" / name).mkdir(parents=True)
    rng = random.Random(0)
    for task, count in COUNTS.items():
        for number in range(shards_per_task):
            rows = [_row(task, f"{task} {number} {i}", rng) for i in range(count)]
            _write(folder / "tokens", f"{task}-{number:05d}", rows, tokenizer)
    kinds = {"tokens": "token-shards", "base": "weights", "tokenizer": "tokenizer"}
    return {name: artifact(folder / name, kind) for name, kind in kinds.items()}


def image(rng: random.Random) -> dict[str, Any]:
    """A 2×2 image part."""
    return {"kind": "image", "role": "", "text": "", "codes": rng.choices(range(8), k=4), "height": 2, "width": 2}


def text(rng: random.Random, role: str = "text", words: int = 3) -> dict[str, Any]:
    """A text part of known words."""
    sentence = " ".join(rng.choices(WORDS, k=words))
    return {"kind": "text", "role": role, "text": sentence, "codes": [], "height": 0, "width": 0}


def _row(task: str, name: str, rng: random.Random) -> dict[str, Any]:
    makers = {
        "text": lambda: [text(rng, words=rng.randint(4, 12))],
        "caption": lambda: [image(rng), text(rng, "caption")],
        "question": lambda: [image(rng), *(text(rng, role, 2) for _ in range(2) for role in ("question", "answer"))],
        "text_to_image": lambda: [image(rng), text(rng, "caption", rng.randint(1, 5))],
        "edit": lambda: [image(rng), text(rng, "instruction"), image(rng)],
        "interleaved_video": lambda: [image(rng), text(rng), image(rng)],
        "interleaved_web": lambda: [text(rng), image(rng), text(rng)],
    }
    uid = bytes.fromhex(make_uid(name))
    return {"uid": uid, "task": task, "parts": makers[task](), "source": task, "licence": "x", "meta": "{}"}


def _write(folder: Path, name: str, rows: list[dict[str, Any]], tokenizer: Any) -> None:
    path = folder / "shards" / f"{name}.arrow"
    write_shard(path, rows, tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes)
    lengths = [
        [9 if part["kind"] == "image" else len(text_ids(tokenizer, [part["text"]])[0]) for part in row["parts"]]
        for row in rows
    ]
    held_out = [row["uid"][0] < 16 for row in rows]
    write_lengths(folder / "lengths" / f"{name}.parquet", lengths, held_out, text_fingerprint="t")


__all__ = ["COUNTS", "artifact", "image", "make_store", "text", "word_tokenizer"]
