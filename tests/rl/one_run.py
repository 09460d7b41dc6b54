"""train-policy on tiny inputs, in a process that can be killed.

python one_run.py make FOLDER            write model, tokenizer and prompts
python one_run.py run FOLDER OUTPUT      run the job on them; the judge's address stands in ARM_JUDGE_ADDRESS
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_policy import CodesAsPixels, tiny_config, tiny_model  # type: ignore[import-not-found]
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from arm.data.images import encode_image
from arm.data.shards import write_shard
from arm.manifest import Manifest, Outcome, entries_of
from arm.model import lmm
from arm.model.vocabulary import Vocabulary
from arm.records import Sample, Text, make_uid
from arm.rl import training
from arm.rl.config import RewardConfig
from arm.storage import LocalFolder

RECORD = '{"index_order": 1, "fingerprint": "tiny", "quantizer": {"levels": [2, 2, 2]}}'


def text_tokenizer() -> Any:
    alphabet = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def samples() -> list[Sample]:
    asked = [
        Sample(
            uid=make_uid(f"t{i}"), task="text_to_image", parts=(Text(text=f"two cats {i}", role="caption"),), source="p"
        )
        for i in range(9)
    ]
    pixels = np.full((4, 4, 3), 32, np.uint8)
    edits = [
        Sample(
            uid=make_uid(f"e{i}"), task="edit", parts=(encode_image(pixels), Text(text=f"go {i}", role="instruction")), source="p"
        )
        for i in range(9)
    ]  # fmt: skip
    return asked + edits


def make(folder: Path) -> None:
    """Write the inputs."""
    tokenizer = text_tokenizer()
    vocabulary = Vocabulary.create(tokenizer, num_text=280, num_shapes=4, num_codes=8, visual_fingerprint="tiny")
    lmm.save(tiny_model(size=vocabulary.size), tokenizer, vocabulary, folder / "model" / "model")
    for name in ("tokenizer/tokenizer", "prompts/shards"):
        (folder / name).mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer" / "visual_tokenizer.json").write_text(RECORD)
    write_shard(folder / "prompts" / "shards" / "p-00000.tar", samples())


def manifest_of(folder: Path) -> Manifest:
    store = LocalFolder(folder)
    return Manifest(
        kind=folder.name, job="made", version=1, key="k", config={}, inputs={}, counts={}, metrics={},
        files=entries_of(store), folder=store,
    )  # fmt: skip


def run(folder: Path, output: Path, **changes: Any) -> Outcome:
    """Run the joint stage with a renderer that spells the codes."""
    training.load_renderer = lambda tokenizer, detokenizer, config: CodesAsPixels()  # type: ignore[assignment,return-value]
    torch.set_num_threads(1)
    values: dict[str, Any] = {
        "stage": "joint", "edit_share": 0.5, "steps": 6, "checkpoint_every": 1, "samples_every": 3, "learning_rate": 2e-3,
        "reward": RewardConfig(judge="t", num_retries=1, retry_seconds=0.01),
    }  # fmt: skip
    config = tiny_config(**(values | changes))
    inputs = {name: manifest_of(folder / name) for name in ("model", "prompts", "tokenizer")}
    return training.train_policy(**inputs, detokenizer=inputs["tokenizer"], output=LocalFolder(output), config=config)


def digests(folder: Path) -> dict[str, str]:
    """Digest of every published file."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)
    }


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), Path(sys.argv[2])))
