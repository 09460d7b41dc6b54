"""A second crawl's artifact holds the first one's samples too, without what may not be read any more."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pictures import artifact, captioned, picture, shards

from arm.data import curation_index
from arm.data.config import CurateConfig, HashList, SourceRule
from arm.data.curation import curate_images
from arm.data.hash_lists import apply_lists, url_digest
from arm.data.shards import read_shard
from arm.manifest import Manifest
from arm.records import make_uid
from arm.storage import LocalFolder
from arm.tokenizer.encoding.units import units_of

CONFIG = CurateConfig(rules=(SourceRule(near_duplicates=False),), samples_per_shard=3, workers=1)
OLD = [captioned(f"old {seed}", picture(seed)) for seed in range(5)]
OLD[2] = replace(OLD[2], meta={"url": "http://bad.test/2.png"})
NEW = [captioned(f"new {seed}", picture(10 + seed)) for seed in range(2)]


def curated(path: Path, crawled: Manifest, **arguments: object) -> Manifest:
    """A curated artifact with its counts."""
    outcome = curate_images(output=LocalFolder(path), crawled=crawled, **{"config": CONFIG, **arguments})  # type: ignore[arg-type]
    return replace(artifact(path, "curated-shards"), counts=outcome.counts)


def keys_in(manifest: Manifest) -> list[str]:
    """The keys of all samples, shard by shard."""
    keys = {make_uid(f"{name} {number}"): f"{name} {number}" for name in ("old", "new") for number in range(9)}
    return [keys[s.uid] for entry in manifest.select("shards/") for s in read_shard(manifest.local(entry))]


def test_three_crawls_add_up_and_each_has_its_part_of_the_tables(tmp_path: Path) -> None:
    first = curated(tmp_path / "1", shards(tmp_path / "a", *OLD[:4]))
    second = curated(tmp_path / "2", shards(tmp_path / "b", *OLD), known=first)
    third = curated(tmp_path / "3", shards(tmp_path / "c", *NEW), known=second)
    assert keys_in(third) == ["old 0", "old 1", "old 2", "old 3", "old 4", "new 0", "new 1"]
    assert [item.path for item in third.select("shards/")] == [f"shards/crawl-{number:05d}.tar" for number in range(4)]
    counted = [
        (item.counts.get("samples_taken_over", 0), item.counts["samples_kept"]) for item in (first, second, third)
    ]
    assert counted == [(0, 4), (4, 1), (5, 2)]
    for table, rows in (("decisions", [4, 5, 2]), ("hashes", [4, 5, 2]), ("quarantine", [0, 0, 0])):
        parts = third.select(f"{table}/")
        assert [pq.read_metadata(third.local(entry)).num_rows for entry in parts] == rows
    units = [(unit.name, len(unit.shards)) for unit in units_of(third, 2)]
    assert units == [("crawl-00000", 2), ("crawl-00001", 2)]  # what tokenize-images reads: old and new
    before = {entry.path: entry.sha256 for entry in second.select("shards/")}
    assert before.items() <= {entry.path: entry.sha256 for entry in third.select("shards/")}.items()


def test_what_was_taken_down_and_what_a_new_list_holds_does_not_come_along(tmp_path: Path) -> None:
    first = curated(tmp_path / "1", shards(tmp_path / "a", *OLD))
    listed = tmp_path / "urls.txt"
    listed.write_text(url_digest("http://bad.test/2.png").hex())
    config = replace(CONFIG, hash_lists=(HashList(kind="url", path=str(listed)),))
    known = replace(first, tombstones=frozenset({make_uid("old 4")}))
    second = curated(tmp_path / "2", shards(tmp_path / "b", *NEW), known=known, config=config)
    assert keys_in(second) == ["old 0", "old 1", "old 3", "new 0", "new 1"]
    told = {"samples_known": 5, "samples_taken_over": 3, "dropped_known/hash_list": 1, "dropped_known/tombstone": 1}
    assert told.items() <= second.counts.items()
    assert pq.read_table(tmp_path / "2/quarantine/part-00001.parquet")["uid"].to_pylist() == [make_uid("old 2")]
    third = curated(tmp_path / "3", shards(tmp_path / "c", *NEW), known=second, config=config)
    assert pq.read_metadata(tmp_path / "3/quarantine/part-00002.parquet").num_rows == 0  # told once
    found = apply_lists(third, config.hash_lists, 31)
    assert found["uid"].to_pylist() == [make_uid("old 2")]  # a later list finds what any crawl read


def test_another_evaluation_set_is_looked_for_in_the_crawls_before(tmp_path: Path) -> None:
    held_out = [shards(tmp_path / f"e{seed}", captioned("e", picture(seed)), name="eval") for seed in (0, 3)]
    first = curated(tmp_path / "1", shards(tmp_path / "a", *OLD), evaluation=held_out[0])
    assert keys_in(first) == ["old 1", "old 2", "old 3", "old 4"]
    first = replace(
        first, inputs={"evaluation": held_out[0].digest}, config={"evaluation_distance": 4, "verify_difference": 24.0}
    )
    again, other = (
        curated(tmp_path / name, shards(tmp_path / f"in {name}", *NEW), known=first, evaluation=evaluation)
        for name, evaluation in zip("23", held_out, strict=True)
    )
    assert keys_in(again) == ["old 1", "old 2", "old 3", "old 4", "new 0", "new 1"]
    assert not (tmp_path / "2/.work/measured-known").exists()  # the same sets: nothing is decoded
    assert keys_in(other) == ["old 1", "old 2", "old 4", "new 0", "new 1"]
    assert (other.counts["samples_taken_over"], other.counts["dropped_known/contaminated"]) == (3, 1)


def test_a_take_over_that_was_cut_short_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    first = curated(tmp_path / "1", shards(tmp_path / "a", *OLD))
    known = replace(first, tombstones=frozenset({make_uid("old 4")}))
    crawled = shards(tmp_path / "b", *NEW)
    once, twice = (curated(tmp_path / name, crawled, known=known) for name in ("once", "twice"))
    for name in ("shards/crawl-00001.tar", "decisions/part-00001.parquet", "shards/crawl-00002.tar"):
        (tmp_path / "twice" / name).unlink()
    assert curated(tmp_path / "twice", crawled, known=known).digest == once.digest == twice.digest


def test_the_index_of_the_crawls_before_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, rules=(SourceRule(),), max_bucket=3)
    words = captioned("words", picture(3), "text alone")
    first = curated(tmp_path / "1", shards(tmp_path / "a", *OLD, replace(words, parts=words.parts[1:])), config=config)
    larger = [captioned(f"new {seed}", picture(seed, 72, 72)) for seed in (4, 0)]
    crawled = shards(tmp_path / "b", *larger, *(captioned(f"new {seed}", picture(seed)) for seed in (7, 8)))
    whole = curated(tmp_path / "whole", crawled, known=first, config=config)
    assert whole.counts["dropped/near_duplicate"] == 2
    monkeypatch.setattr(curation_index, "GROUP_ROWS", 2)
    assert curated(tmp_path / "parts", crawled, known=first, config=config).files == whole.files
