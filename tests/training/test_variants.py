"""Variants: of token shards that a stage reads together, of texts, and frames of videos."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_lmm import CODES, tiny_lmm, word_tokenizer
from token_store import artifact

from arm.errors import UserError
from arm.manifest import Manifest
from arm.model.documents import KEEP_ALL, TextEncoder, build, document_lengths, strided
from arm.model.token_shards import ShardFiles, index_bytes, lengths_batch, open_shards, write_lengths, write_shard
from arm.records import Image, Sample, Text, make_uid
from arm.storage import LocalFolder
from arm.training.config import MixtureConfig, StageConfig
from arm.training.plan.index import ShardIndex
from arm.training.shards import Shards, open_later

TASKS_OF = {"small": ("text", "caption"), "large": ("edit",), "larger": ("edit", "text_to_image")}


def write(
    folder: Path,
    variant: str,
    samples: Sequence[Sample],
    lengths: list[list[list[int]]],
    grid: tuple[int, int] = (1, 1),
) -> None:
    """One shard of a variant; every image has the grid."""
    files = ShardFiles(variant, "s-00000")
    for name in (files.shard, files.lengths, files.index):
        (folder / name).parent.mkdir(parents=True)
    grids = [np.ones(grid, np.uint16) for s in samples for part in s.parts if not isinstance(part, Text)]
    identity = {"tokenizer_fingerprint": CODES.fingerprint, "num_codes": CODES.num_codes}
    index = write_shard(folder / files.shard, samples, grids, **identity)  # type: ignore[arg-type]
    (folder / files.index).write_bytes(index_bytes(index))
    batch = lengths_batch(samples, grids, lengths, [False] * len(samples))
    write_lengths(folder / files.lengths, [batch], text_fingerprint="t")


@pytest.fixture
def tokens(tmp_path: Path) -> Manifest:
    """Three variants; of the last two, both hold edits."""
    for variant, tasks in TASKS_OF.items():
        samples = [
            Sample(uid=make_uid(variant, task), task=task, parts=(Text(text=task),), source="s") for task in tasks
        ]
        write(tmp_path, variant, samples, [[[1]]] * len(tasks))
    return artifact(tmp_path, "token-shards")


def index_of(shards: Shards, **changes: object) -> ShardIndex:
    return ShardIndex(shards.lengths, shards.names, MixtureConfig(**changes), seed=0)  # type: ignore[arg-type]


def test_the_shards_of_the_chosen_variants_are_read_in_their_order(tokens: Manifest) -> None:
    shards = open_later(tokens, CODES, ("large", "small"))
    assert shards.names == ("large/s-00000", "small/s-00000")
    assert [shard.tasks.tolist() for shard in shards] == [["edit"], ["text", "caption"]]


def test_a_shard_is_fetched_when_it_is_needed_and_released_when_others_were_used(tokens: Manifest) -> None:
    class Watched(LocalFolder):
        calls: list[str] = []  # noqa: RUF012

        def fetch(self, name: str) -> Path:
            self.calls.append(name)
            return super().fetch(name)

        def release(self, name: str) -> None:
            self.calls.append(f"release {name}")

    watched = Watched(Path(tokens.folder.url))
    manifest = dataclasses.replace(tokens, folder=watched)
    shards = Shards(manifest, [ShardFiles(name, "s-00000") for name in ("small", "large")], CODES, max_open=1)
    assert shards[1].tasks.tolist() == ["edit"]
    lengths = "lengths/large/s-00000.parquet"
    assert watched.calls == ["shards/large/s-00000.arrow", lengths, f"release {lengths}"]
    assert len(shards[0]) == 2
    assert "release shards/large/s-00000.arrow" in watched.calls
    shards.close()


def test_a_task_in_two_variants_would_be_read_twice(tokens: Manifest) -> None:
    index = index_of(open_later(tokens, CODES, ("small", "large", "larger")))
    assert len(index.find("edit", 1, 0).rows) == 1
    with pytest.raises(UserError, match="The variants large and larger both hold the task edit; choose one"):
        index.find("edit", 2, 0)


def test_with_weights_each_epoch_reads_a_sample_in_one_variant(tmp_path: Path) -> None:
    samples = [Sample(uid=make_uid(str(n)), task="edit", parts=(Text(text="a"),), source="s") for n in range(400)]
    for variant in ("large", "larger"):
        write(tmp_path, variant, samples, [[[1]]] * len(samples))
    shards = open_later(artifact(tmp_path, "token-shards"), CODES, ("large", "larger"))
    index = index_of(shards, variant_weights=(3.0, 1.0))
    read = [[set(index.find("edit", shard, epoch).rows.tolist()) for shard in (0, 1)] for epoch in (0, 1)]
    for large, larger in read:
        assert large | larger == set(range(400))
        assert not large & larger
        assert len(large) == pytest.approx(300, abs=40)
    assert read[0] != read[1]
    with pytest.raises(UserError, match="has 1 weights for the variants large, larger; give one each"):
        index_of(shards, variant_weights=(1.0,))


def test_weights_say_nothing_of_a_task_that_one_variant_alone_holds(tmp_path: Path) -> None:
    """Texts lie in `understanding`, images in both others: each epoch reads every sample once, with a weight of 0 or of 1."""
    tasks = {"understanding": "text", "images-512": "text_to_image", "images-1024": "text_to_image"}
    for variant, task in tasks.items():
        samples = [Sample(uid=make_uid(str(n)), task=task, parts=(Text(text="a"),), source="s") for n in range(50)]
        write(tmp_path, variant, samples, [[[1]]] * len(samples))
    tokens = artifact(tmp_path, "token-shards")
    made_of = [{"name": name, "tasks": [task]} for name, task in tasks.items()]
    shards = open_later(dataclasses.replace(tokens, config={"variants": made_of}), CODES, tuple(tasks))

    def index(*weights: float) -> ShardIndex:
        mixture = MixtureConfig(variant_weights=weights)
        return ShardIndex(shards.lengths, shards.names, mixture, seed=0, tasks=shards.tasks)

    for weights in ((0.0, 1.0, 1.0), (1.0, 1.0, 1.0)):
        for epoch in (0, 1):
            found = [index(*weights).find(kind, shard, epoch).rows for shard, kind in enumerate(tasks.values())]
            assert len(found[0]) == 50
            assert sorted([*found[1], *found[2]]) == list(range(50))
            assert len(found[1]) not in (0, 50)
    with pytest.raises(
        UserError, match="are 0 for images-512 and images-1024, which alone hold the task text_to_image"
    ):
        index(1.0, 0.0, 0.0).find("text_to_image", 1, 0)


def test_an_image_without_a_shape_token_is_refused_when_it_is_planned(tmp_path: Path) -> None:
    parts = (Text(text="a"), Image(data=b"", format="png", height=60, width=12))
    sample = Sample(uid=make_uid("a"), task="text_to_image", parts=parts, source="s")
    write(tmp_path, "default", [sample], [[[1], [10]]], grid=(5, 1))
    shards = open_later(artifact(tmp_path, "token-shards"), CODES)
    for longest, grid_sides in ((5, (1, 1024)), (4, (1, 4)), (None, (1, 1024))):
        mixture = MixtureConfig(grid_sides=grid_sides)
        index = ShardIndex(shards.lengths, shards.names, mixture, seed=0, longest_side=longest)
        assert len(index.find("text_to_image", 0, 0).rows) == (grid_sides == (1, 1024))
    index = ShardIndex(shards.lengths, shards.names, MixtureConfig(), seed=0, longest_side=4)
    with pytest.raises(UserError, match="has an image of 5 × 1 codes, and num_shapes is 4"):
        index.find("text_to_image", 0, 0)


def test_a_variant_that_is_not_there_is_named_and_of_several_one_must_be_chosen(tokens: Manifest) -> None:
    with pytest.raises(UserError, match="no variant 'medium'; it holds large, larger, small"):
        open_later(tokens, CODES, ("small", "medium"))
    with pytest.raises(UserError, match="holds the variants large, larger, small; name the one"):
        open_later(tokens, CODES, ())


def test_the_only_variant_needs_no_name(tokens: Manifest) -> None:
    small = [entry for entry in tokens.files if "/small/" in entry.path]
    alone = Manifest(
        kind="token-shards", job="t", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=tuple(small), folder=tokens.folder,
    )  # fmt: skip
    assert open_later(alone, CODES, StageConfig().variants).names == ("small/s-00000",)
    assert len(json.loads(alone.local("index/small/s-00000.json").read_text())["batches"]) == 1


def test_planned_lengths_of_text_variants_and_frame_strides_are_those_of_the_documents(tmp_path: Path) -> None:
    """A caption of 2 words with a description of 5; a video of 3 frames with texts of 1, 2 and 3 words."""
    image = Image(data=b"", format="png", height=12, width=12)
    caption = Sample(
        uid=make_uid("c"), task="caption", source="s", parts=(image, Text(text="a circle", role="caption")),
        meta={"description": "a red circle is left"},
    )  # fmt: skip
    words = ("a", "a red", "a red circle")
    frames = [part for text in words for part in (image, Text(text=text))]
    video = Sample(uid=make_uid("v"), task="interleaved_video", source="s", parts=tuple(frames))
    write(tmp_path, "default", [caption, video], [[[6], [2, 5]], [[6], [1], [6], [2], [6], [3]]])
    (shard,) = open_shards(
        artifact(tmp_path, "token-shards"), tokenizer_fingerprint=CODES.fingerprint, num_codes=CODES.num_codes
    )
    encode, (_, _, vocabulary) = TextEncoder(word_tokenizer()), tiny_lmm()

    def planned(row: int, kind: str, variant: int, stride: int) -> int:
        drawn = {"variants": np.asarray([variant]), "strides": np.asarray([stride])}
        return int(document_lengths(shard, np.asarray([row]), kind, np.asarray([KEEP_ALL]), **drawn)[0])

    def built(row: int, kind: str, variant: int, stride: int) -> int:
        return len(build(kind, strided(shard.parts(row, variant), stride), KEEP_ALL, vocabulary, encode).ids)

    for variant, length in ((0, 6 + 2 + 1), (1, 6 + 5 + 1), (2, 6 + 2 + 1)):
        assert planned(0, "caption", variant, 1) == built(0, "caption", variant, 1) == length
    for stride, length in ((1, 18 + 6 + 1), (2, 12 + 4 + 1), (3, 6 + 1 + 1)):
        assert planned(1, "interleaved_video", 0, stride) == built(1, "interleaved_video", 0, stride) == length
    assert [part.text for part in shard.parts(0, 1)] == ["", "a red circle is left"]
