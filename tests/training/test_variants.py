"""Variants of token shards that a stage reads together: every task in one of them."""

import json
from pathlib import Path

import pytest
from tiny_lmm import CODES
from token_store import artifact

from arm.errors import UserError
from arm.manifest import Manifest
from arm.model.token_shards import ShardFiles, index_bytes, write_lengths, write_shard
from arm.records import Sample, Text, make_uid
from arm.training.config import StageConfig
from arm.training.stages import open_variants

TASKS_OF = {"small": ("text", "caption"), "large": ("edit",), "larger": ("edit", "text_to_image")}


@pytest.fixture
def tokens(tmp_path: Path) -> Manifest:
    """Three variants; of the last two, both hold edits."""
    for variant, tasks in TASKS_OF.items():
        files = ShardFiles(variant, "s-00000")
        for name in (files.shard, files.lengths, files.index):
            (tmp_path / name).parent.mkdir(parents=True)
        samples = [
            Sample(uid=make_uid(variant, task), task=task, parts=(Text(text=task),), source="s") for task in tasks
        ]
        identity = {"tokenizer_fingerprint": CODES.fingerprint, "num_codes": CODES.num_codes}
        index = write_shard(tmp_path / files.shard, samples, [], **identity)  # type: ignore[arg-type]
        (tmp_path / files.index).write_bytes(index_bytes(index))
        write_lengths(tmp_path / files.lengths, [[[1]]] * len(tasks), [False] * len(tasks), text_fingerprint="t")
    return artifact(tmp_path, "token-shards")


def test_the_shards_of_the_chosen_variants_are_read_in_their_order(tokens: Manifest) -> None:
    shards = open_variants(tokens, CODES, ("large", "small"))
    assert [(shard.name, shard.tasks.tolist()) for shard in shards] == [
        ("large/s-00000", ["edit"]),
        ("small/s-00000", ["text", "caption"]),
    ]


def test_a_task_in_two_variants_would_be_read_twice(tokens: Manifest) -> None:
    with pytest.raises(UserError, match="The variants large and larger both hold the task edit; choose one"):
        open_variants(tokens, CODES, ("small", "large", "larger"))


def test_a_variant_that_is_not_there_is_named_and_of_several_one_must_be_chosen(tokens: Manifest) -> None:
    with pytest.raises(UserError, match="no variant 'medium'; it holds large, larger, small"):
        open_variants(tokens, CODES, ("small", "medium"))
    with pytest.raises(UserError, match="holds the variants large, larger, small; name the one"):
        open_variants(tokens, CODES, ())


def test_the_only_variant_needs_no_name(tokens: Manifest) -> None:
    small = [entry for entry in tokens.files if "/small/" in entry.path]
    alone = Manifest(
        kind="token-shards", job="t", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=tuple(small), folder=tokens.folder,
    )  # fmt: skip
    assert [shard.name for shard in open_variants(alone, CODES, StageConfig().variants)] == ["small/s-00000"]
    assert len(json.loads(alone.local("index/small/s-00000.json").read_text())["batches"]) == 1
