"""curate-images: rules, copies, contamination, near duplicates, one reshard; the counts balance."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from pictures import artifact, captioned, picture, shards

from arm.data.config import CurateConfig, SourceRule
from arm.data.curation import curate_images
from arm.data.shards import read_shard
from arm.errors import UserError
from arm.records import Image, Sample, Text, make_uid
from arm.storage import LocalFolder

RULES = (SourceRule(source="crawl", min_side=30, max_aspect=2.0, min_entropy=1.0), SourceRule(near_duplicates=False))
CONFIG = CurateConfig(rules=RULES, samples_per_shard=3, workers=1)


def enlarged(seed: int) -> Sample:
    pixels = np.asarray(PIL.Image.fromarray(picture(seed)).resize((72, 72), PIL.Image.Resampling.BICUBIC))
    return captioned(f"large {seed}", pixels, "the same, larger")


CRAWLED = (
    captioned("good", picture(1)),
    captioned("copy", picture(1)),
    captioned("small", picture(2, 20, 20)),
    captioned("long", picture(3, 36, 90)),
    captioned("blank", np.full((36, 36, 3), 200, np.uint8)),
    captioned("near", picture(4)),
    enlarged(4),
    captioned("held out", picture(5)),
    replace(captioned("shrunk", picture(6, 20, 20)), meta={"original_height": 160, "original_width": 160}),
)
TEXT = Sample(uid=make_uid("text"), task="text", parts=(Text(text="words"),), source="books")
IMPORTED = (
    captioned("import near", picture(1), "other words", "vqa"),
    captioned("import", picture(7), source="vqa"),
    TEXT,
)


def test_every_sample_is_kept_or_dropped_for_its_reason(tmp_path: Path) -> None:
    outcome = curate_images(
        output=LocalFolder(tmp_path / "out"), config=CONFIG,
        crawled=shards(tmp_path / "a", *CRAWLED), imported=shards(tmp_path / "b", *IMPORTED, name="vqa"),
        evaluation=shards(tmp_path / "c", captioned("evaluation", picture(5), "held out", "eval"), name="eval"),
    )  # fmt: skip
    assert outcome.counts == {
        "samples_read": 12, "samples_kept": 6, "dropped/duplicate": 1, "dropped/small": 1, "dropped/aspect": 1,
        "dropped/blank": 1, "dropped/near_duplicate": 1, "dropped/contaminated": 1,
        "kept/crawl": 3, "kept/vqa": 2, "kept/books": 1,
    }  # fmt: skip
    rows = pq.read_table(tmp_path / "out/decisions/part-00000.parquet").to_pylist()
    by_uid = {row["uid"]: row for row in rows}
    assert by_uid[make_uid("copy")]["duplicate_of"] == make_uid("good")
    assert by_uid[make_uid("near")]["duplicate_of"] == make_uid("large 4")
    assert by_uid[make_uid("held out")]["reason"] == "contaminated"
    names = sorted(path.name for path in (tmp_path / "out/shards").iterdir())
    assert names == ["crawl-00000.tar", "vqa-00000.tar"]
    kept = list(read_shard(tmp_path / "out/shards/crawl-00000.tar"))
    assert [sample.uid for sample in kept] == [make_uid(key) for key in ("good", "large 4", "shrunk")]
    assert kept[2].scores["side"] == 160


def test_a_run_that_was_cut_short_ends_with_the_same_bytes(tmp_path: Path) -> None:
    crawled = shards(tmp_path / "a", *CRAWLED)
    for name, workers in (("once", 1), ("twice", 2), ("twice", 1)):
        curate_images(output=LocalFolder(tmp_path / name), config=replace(CONFIG, workers=workers), crawled=crawled)
    for path in (tmp_path / "once").rglob("*.*"):
        if ".work" not in path.parts:
            assert path.read_bytes() == (tmp_path / "twice" / path.relative_to(tmp_path / "once")).read_bytes()


def test_a_second_crawl_adds_only_what_is_new(tmp_path: Path) -> None:
    config = replace(CONFIG, max_bucket=4, rules=(SourceRule(),))
    crowd = [captioned(f"logo {number}", picture(8), f"page {number}") for number in range(5)]
    first = shards(tmp_path / "a", captioned("old", picture(1)), captioned("old large", picture(2, 72, 72)), *crowd)
    counts = curate_images(output=LocalFolder(tmp_path / "1"), config=config, crawled=first).counts
    assert (counts["samples_kept"], counts["dropped/popular_hash"]) == (2, 5)
    second = shards(
        tmp_path / "b", captioned("copy", picture(1)), captioned("larger", picture(1, 144, 144), "larger than the old"),
        captioned("old", picture(5)), captioned("logo again", picture(8), "page 6"), captioned("new", picture(6)),
    )  # fmt: skip
    known = replace(artifact(tmp_path / "1", "curated-shards"), counts=counts)
    counts = curate_images(output=LocalFolder(tmp_path / "2"), config=config, crawled=second, known=known).counts
    assert counts == {
        "samples_read": 5, "samples_kept": 1, "dropped/duplicate": 2, "dropped/near_duplicate": 1,
        "dropped/popular_hash": 1, "kept/crawl": 1, "samples_known": 2, "samples_taken_over": 2,
    }  # fmt: skip
    kept = [sample.uid for path in sorted((tmp_path / "2/shards").iterdir()) for sample in read_shard(path)]
    assert kept == [make_uid(key) for key in ("old", "old large", "new")]
    known = replace(artifact(tmp_path / "2", "curated-shards"), counts=counts)
    counts = curate_images(output=LocalFolder(tmp_path / "3"), config=config, crawled=first, known=known).counts
    assert (counts["dropped/duplicate"], counts["dropped/popular_hash"]) == (2, 5)
    assert (counts["samples_kept"], counts["samples_taken_over"]) == (0, 3)


@pytest.mark.slow
def test_spark_decides_as_memory_does(tmp_path: Path) -> None:
    for name, above in (("memory", 1_000), ("spark", 0)):
        config = replace(CONFIG, spark_above=above)
        curate_images(
            output=LocalFolder(tmp_path / name), config=config, crawled=shards(tmp_path / f"{name} in", *CRAWLED)
        )
    for path in (tmp_path / "memory").rglob("*.*"):
        if ".work" not in path.parts:
            assert path.read_bytes() == (tmp_path / "spark" / path.relative_to(tmp_path / "memory")).read_bytes()


def test_shards_are_closed_at_their_number_of_bytes_too(tmp_path: Path) -> None:
    samples = [captioned(str(seed), picture(seed)) for seed in range(5)]
    size = sum(len(part.data) if isinstance(part, Image) else len(part.text) for s in samples[:2] for part in s.parts)
    config = CurateConfig(shard_bytes=size, samples_per_shard=3, workers=1)
    curate_images(output=LocalFolder(tmp_path / "out"), config=config, crawled=shards(tmp_path / "a", *samples))
    found = [len(list(read_shard(path))) for path in sorted((tmp_path / "out/shards").iterdir())]
    assert found[0] == 2  # by their bytes
    assert sum(found) == 5
    assert max(found) <= 3


def test_a_bound_on_similarity_needs_the_scorer(tmp_path: Path) -> None:
    config = CurateConfig(rules=(SourceRule(min_similarity=0.1),))
    with pytest.raises(UserError, match="scorer"):
        curate_images(output=LocalFolder(tmp_path), config=config, crawled=shards(tmp_path / "a", *CRAWLED))


def test_captions_that_do_not_fit_are_dropped_by_a_siglip_checkpoint(tmp_path: Path) -> None:
    from pictures import tiny_siglip

    tiny_siglip(tmp_path / "weights" / "model")
    samples = [captioned(str(seed), picture(seed), f"picture {seed}") for seed in range(8)]
    keep_all = CurateConfig(rules=(SourceRule(min_similarity=-1.0),), workers=1)
    arguments = {"crawled": shards(tmp_path / "a", *samples), "scorer": artifact(tmp_path / "weights", "weights")}
    curate_images(output=LocalFolder(tmp_path / "all"), config=keep_all, **arguments)  # type: ignore[arg-type]
    cosines = [sample.scores["similarity"] for sample in read_shard(tmp_path / "all/shards/crawl-00000.tar")]
    middle = sorted(cosines)[4]
    half = CurateConfig(rules=(SourceRule(min_similarity=middle),), workers=1)
    outcome = curate_images(output=LocalFolder(tmp_path / "half"), config=half, **arguments)  # type: ignore[arg-type]
    assert len(set(cosines)) == 8
    assert (outcome.counts["samples_kept"], outcome.counts["dropped/dissimilar"]) == (4, 4)
