"""Contamination: what training gives away of a test, by its words, by its scene and by its look."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from arm.data.images import encode_image
from arm.data.shards import write_shard
from arm.errors import UserError
from arm.evaluation.contamination.prompts import Asked, PromptIndex, words_of
from arm.evaluation.contamination.report import check_contamination, items_of_rows, items_of_shards, to_json, to_page
from arm.evaluation.contamination.scenes import scene_of_meta, scene_of_text
from arm.manifest import Manifest, entries_of
from arm.records import Sample, Text
from arm.storage import LocalFolder


def shards(folder: Path, samples: list[Sample]) -> Manifest:
    store = LocalFolder(folder)
    with store.publish("shards/a-00000.tar") as path:
        write_shard(path, samples)
    return Manifest(
        kind="image-shards", job="import-samples", version=1, key=folder.name, config={}, inputs={}, counts={},
        metrics={}, files=entries_of(store), licences=(), folder=store,
    )  # fmt: skip


def sample(text: str, image: Any = None, meta: Any = None, role: Any = "caption") -> Sample:
    parts = (Text(text=text, role=role),) if image is None else (encode_image(image), Text(text=text, role=role))
    uid = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Sample(uid=uid, task="caption", parts=parts, source="test", meta=meta or {})


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        ("a photo of a bench", (("bench", 1, ""),)),
        ("A photo of two  benches.", (("bench", 2, ""),)),
        ("a photo of a blue pizza and a red cow", (("cow", 1, "red"), ("pizza", 1, "blue"))),
        ("a photo of a dog right of a teddy bear", (("dog", 1, ""), "right of", ("teddy bear", 1, ""))),
        ("a photo of three knives", (("knife", 3, ""),)),
        ("a photo of an orange", (("orange", 1, ""),)),
        ("a photo of an orange orange", (("orange", 1, "orange"),)),
        ("a photo of a unicorn", None),
        ("two benches in a park", None),
    ],
)
def test_a_sentence_of_the_template_is_read_as_a_scene(text: str, scene: Any) -> None:
    assert scene_of_text(text) == scene


def test_every_prompt_of_geneval_reads_as_its_own_metadata(shared: Path) -> None:
    lines = (shared / "evaldata/geneval/evaluation_metadata.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 553
    assert [row["prompt"] for row in rows if scene_of_text(row["prompt"]) != scene_of_meta(row)] == []


def test_a_known_rl_prompt_set_shares_42_prompts_with_geneval(shared: Path) -> None:
    rows, others = (
        [json.loads(line) for line in (shared / f"evaldata/geneval/{name}.jsonl").read_text().splitlines()]
        for name in ("evaluation_metadata", "flow_grpo_unseen_objects_test_metadata")
    )
    index = PromptIndex([Asked(uid=str(place), text=row["prompt"], meta=row) for place, row in enumerate(rows)])
    for place, row in enumerate(others):
        index.meet(str(place), row["prompt"], row)
    assert {way: len(found) for way, found in index.matches().items()} == {"equal": 42, "scene": 1, "ngrams": 0}


def test_words_are_compared_without_marks_and_case() -> None:
    assert words_of("“A  photo, of\ta Ｂench!”") == ["a", "photo", "of", "a", "bench"]


def test_a_prompt_counts_once_by_the_first_way_that_finds_it() -> None:
    index = PromptIndex(
        [Asked(uid="0", text="a photo of a cow"), Asked(uid="1", text="a photo of a dog and a red cup")]
    )
    index.meet("s1", "A photo of a cow!", {})
    index.meet("s2", "a picture of a cow", {})
    index.meet(
        "s3", "whatever", {"include": [{"class": "cup", "count": 1, "color": "red"}, {"class": "dog", "count": 1}]}
    )
    index.meet("s4", "a photo of a dog and a blue cup", {})
    assert index.matches() == {"equal": {"0": ["s1"]}, "scene": {"1": ["s3"]}, "ngrams": {}}


def test_half_of_the_ngrams_of_a_long_prompt_give_it_away() -> None:
    """16 words hold 9 8-grams; 12 words of them hold 5 (more than half), 11 words hold 4."""
    words = [f"w{number}" for number in range(16)]
    for kept, found in ((12, {"0": ["s"]}), (11, {})):
        index = PromptIndex([Asked(uid="0", text=" ".join(words))])
        index.meet("s", " ".join(["so", *words[:kept], "ends"]), {})
        assert index.matches()["ngrams"] == found


def picture(seed: int) -> Any:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def test_images_are_found_by_their_look_and_texts_by_their_words(tmp_path: Path) -> None:
    brighter = np.clip(picture(1).astype(int) + 3, 0, 255).astype(np.uint8)
    training = [sample("one", picture(0)), sample("two", brighter), sample("a photo of a cow", picture(2))]
    tests = [
        sample("nothing alike", picture(1)),
        sample("another", picture(3)),
        sample("A photo of a cow.", picture(4)),
    ]
    report = check_contamination(
        [shards(tmp_path / "t", training)], [items_of_shards("own", shards(tmp_path / "e", tests))]
    )
    own = report["sets"]["own"]
    assert own["matches"]["image"] == {tests[0].uid: [training[1].uid]}
    assert own["matches"]["equal"] == {tests[2].uid: [training[2].uid]}
    assert (own["items"], own["contaminated"], own["share"], report["largest_share"]) == (3, 2, 0.666667, 0.666667)
    assert report["training"][0]["samples"] == report["training"][0]["images"] == 3
    assert to_json(report) == to_json(json.loads(to_json(report)))
    assert tests[0].uid in to_page(report).decode()


def test_rows_without_an_id_are_named_as_geneval_names_them(tmp_path: Path) -> None:
    rows = [{"tag": "x", "include": [{"class": "cow", "count": 1}], "prompt": "a photo of a cow"}]
    training = shards(tmp_path / "t", [sample("<script>"), sample("a photo of a cow"), sample("cow", role="answer")])
    report = check_contamination([training], [items_of_rows("geneval", rows)])
    assert list(report["sets"]["geneval"]["matches"]["equal"]) == ["00000"]
    assert report["training"][0]["texts"] == 2


def test_nothing_to_compare_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give at least one of each"):
        check_contamination([], [])
    with pytest.raises(UserError, match="Row 1 of x has no prompt"):
        items_of_rows("x", [{"a": 1}])


def test_two_sets_of_one_name_are_refused_before_a_sample_is_read() -> None:
    unread, rows = cast(Manifest, None), [{"prompt": "a"}]
    with pytest.raises(UserError, match="Two evaluation sets have the same name"):
        check_contamination([unread], [items_of_rows("x", rows), items_of_rows("x", rows)])
