"""make-world writes every part in its format, the same bytes each time, and goes on where it was stopped."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from arm.data.images import decode_image
from arm.data.shards import read_shard
from arm.data.tar import read_members
from arm.errors import UserError
from arm.manifest import Outcome
from arm.records import Image, Sample, Text
from arm.storage import LocalFolder, sha256_of
from arm.toy import world_job
from arm.toy.config import SceneConfig, WorldConfig
from arm.toy.scene import CATEGORIES
from arm.toy.verifier import check_edit, check_prompt, read_image
from arm.toy.world_job import chance_scores, list_units, make_world

TINY = WorldConfig(
    num_pages=4, num_images=16, num_captions=20, num_questions=10, num_edits=10, num_documents=4, num_videos=4,
    num_texts=6, num_prompts=12, num_edit_prompts=5, evaluation_prompts_per_category=2, evaluation_questions=20,
    evaluation_edits=5, evaluation_captions=4, samples_per_shard=8, workers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalFolder, Outcome]:
    folder = LocalFolder(tmp_path_factory.mktemp("world"))
    return folder, make_world(output=folder, config=TINY)


def _samples(world: tuple[LocalFolder, Outcome], prefix: str) -> list[Sample]:
    folder = world[0]
    return [sample for name in folder.list(prefix) for sample in read_shard(folder.fetch(name))]


def _texts(sample: Sample, role: str) -> list[str]:
    return [part.text for part in sample.parts if isinstance(part, Text) and part.role == role]


def _image(data: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def test_every_declared_sample_is_written_in_files_of_the_declared_size(world: tuple[LocalFolder, Outcome]) -> None:
    folder, outcome = world
    assert folder.list("imports/captions/") == [f"imports/captions/captions-0000{i}.tar" for i in range(3)]
    counts = {
        prefix: len(_samples(world, prefix)) for prefix in ("imports/captions/", "imports/pages/", "imports/videos/")
    }
    assert counts == {"imports/captions/": 20, "imports/pages/": 4, "imports/videos/": 4}
    assert outcome.counts["samples/captions"] == 20
    assert outcome.counts["pages"] == 4
    assert {name.split("/")[0] for name in folder.list()} == {"crawl", "imports", "prompts", "evaluation"}
    assert len(folder.list()) == len(list_units(TINY)) + 2


def test_captions_are_true_of_their_images(world: tuple[LocalFolder, Outcome]) -> None:
    samples = _samples(world, "imports/captions/")
    assert [sample.task for sample in samples].count("caption") == 5
    verdicts = [check_prompt(decode_image(s.parts[0]), s.meta) for s in samples if isinstance(s.parts[0], Image)]
    assert len(verdicts) == 20
    assert all(verdict.strict for verdict in verdicts)
    assert all(sample.meta["description"].startswith("a ") for sample in samples)


def test_questions_are_llava_lines_with_their_images_in_a_tar(world: tuple[LocalFolder, Outcome]) -> None:
    folder = world[0]
    lines = [json.loads(line) for line in folder.read("imports/questions/questions.jsonl").splitlines()]
    tars = [name for name in folder.list("imports/questions/") if name.endswith(".tar")]
    images = {name: data for tar in tars for name, data in read_members(folder.fetch(tar))}
    assert [line["image"] for line in lines] == sorted(images) == [f"{index:06d}.png" for index in range(10)]
    for line in lines:
        turns = line["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * len(line["kinds"])
        assert turns[0]["value"].startswith("<image>\n")
        held = read_image(_image(images[line["image"]]))
        for kind, question, answer in zip(line["kinds"], turns[::2], turns[1::2], strict=True):
            if kind == "existence":
                words = question["value"].rstrip("?").split()
                seen = (words[-1], words[-2]) in {(item.shape, item.color) for item in held}
                assert answer["value"] == ("yes" if seen else "no")


def test_edits_are_parquet_triplets_whose_target_is_what_the_meta_says(world: tuple[LocalFolder, Outcome]) -> None:
    folder = world[0]
    rows = [row for name in folder.list("imports/edits/") for row in pq.read_table(folder.fetch(name)).to_pylist()]
    assert [row["id"] for row in rows] == [f"e{index:06d}" for index in range(10)]
    for row in rows:
        source, target = _image(row["source_image"]["bytes"]), _image(row["target_image"]["bytes"])
        assert check_edit(target, source, json.loads(row["meta"])).strict
        assert not check_edit(source, source, json.loads(row["meta"])).strict


def test_pages_and_videos_interleave_text_and_images(world: tuple[LocalFolder, Outcome]) -> None:
    for sample in _samples(world, "imports/videos/"):
        assert [isinstance(part, Image) for part in sample.parts] == [True, False, True, False, True]
        frames = [read_image(decode_image(part)) for part in sample.parts if isinstance(part, Image)]
        kinds = [sorted((item.shape, item.color) for item in frame) for frame in frames]
        assert kinds[0] == kinds[1] == kinds[2]
        assert sample.meta["direction"] in _texts(sample, "text")[0]
    for sample in _samples(world, "imports/pages/"):
        assert isinstance(sample.parts[0], Text)
        assert 2 <= sum(isinstance(part, Image) for part in sample.parts) <= 3


def test_prompts_have_meta_but_no_answer(world: tuple[LocalFolder, Outcome]) -> None:
    prompts, edits = _samples(world, "prompts/t2i"), _samples(world, "prompts/edits")
    assert [sample.meta["category"] for sample in prompts] == list(CATEGORIES) * 2
    assert all(len(sample.parts) == 1 and sample.task == "text_to_image" for sample in prompts)
    assert all([type(part) for part in sample.parts] == [Image, Text] for sample in edits)
    assert len({sample.meta["operation"] for sample in edits}) == 5


def test_evaluation_holds_all_four_kinds_and_chance_is_reported(world: tuple[LocalFolder, Outcome]) -> None:
    sizes = {kind: len(_samples(world, f"evaluation/{kind}")) for kind in ("prompts", "questions", "edits", "captions")}
    assert sizes == {"prompts": 12, "questions": 20, "edits": 5, "captions": 4}
    given: dict[str, list[str]] = {}
    for sample in _samples(world, "evaluation/questions"):
        for kind, answer in zip(sample.meta["kinds"], _texts(sample, "answer"), strict=True):
            given.setdefault(kind, []).append(answer)
    for kind, answers in given.items():
        expected = max(answers.count(answer) for answer in answers) / len(answers)
        assert world[1].metrics[f"chance/{kind}"] == round(expected, 6)


def test_no_uid_comes_twice_and_other_seeds_draw_other_samples(world: tuple[LocalFolder, Outcome]) -> None:
    uids = [s.uid for prefix in ("imports/captions/", "imports/pages/", "imports/videos/", "prompts/", "evaluation/") for s in _samples(world, prefix)]  # fmt: skip
    assert len(uids) == len(set(uids)) == 20 + 4 + 4 + 12 + 5 + 12 + 20 + 5 + 4
    assert chance_scores(TINY) != chance_scores(replace(TINY, seed=1))


def test_a_stopped_run_goes_on_and_two_processes_make_the_same_bytes(
    world: tuple[LocalFolder, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    write_unit = world_job.write_unit

    def stop_after_five(unit: world_job.Unit, url: str, config: WorldConfig) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        write_unit(unit, url, config)
        done.append(unit.name)

    folder = LocalFolder(tmp_path / "again")
    monkeypatch.setattr(world_job, "write_unit", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        make_world(output=folder, config=TINY)
    assert sorted(done) == folder.list()
    before = {name: folder.fetch(name).stat().st_mtime_ns for name in done}
    monkeypatch.setattr(world_job, "write_unit", write_unit)
    outcome = make_world(output=folder, config=replace(TINY, workers=2))
    assert {name: folder.fetch(name).stat().st_mtime_ns for name in done} == before
    assert outcome == world[1]
    assert {name: sha256_of(folder.fetch(name)) for name in folder.list()} == {
        name: sha256_of(world[0].fetch(name)) for name in world[0].list()
    }


def test_the_unaligned_world_is_made_by_the_same_code(tmp_path: Path) -> None:
    config = replace(TINY, scene=SceneConfig(aligned=False), num_prompts=0, evaluation_split="tuning")
    folder = LocalFolder(tmp_path)
    make_world(output=folder, config=config)
    assert not folder.list("prompts/t2i")
    samples = [sample for name in folder.list("imports/captions/") for sample in read_shard(folder.fetch(name))]
    verdicts = [check_prompt(decode_image(s.parts[0]), s.meta) for s in samples if isinstance(s.parts[0], Image)]
    assert sum(verdict.strict for verdict in verdicts) >= 19


@pytest.mark.parametrize(
    ("field", "value"), [("num_pages", 0), ("workers", 0), ("questions_per_image", 9), ("junk_share", -1.0)]
)
def test_wrong_sizes_are_refused_in_a_sentence(field: str, value: float) -> None:
    with pytest.raises(UserError, match=field):
        WorldConfig(**{field: value})  # type: ignore[arg-type]
