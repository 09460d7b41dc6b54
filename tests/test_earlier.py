"""A second crawl finds the first in the store, itself never; run again it finds the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from arm import manifest
from arm.config import to_json
from arm.data.config import CurateConfig, FilterConfig, SourceRule, SparkConfig
from arm.data.extraction import PAIRS
from arm.data.images import encode_image
from arm.data.normalisation import pair_uid
from arm.data.shards import read_samples, write_shard
from arm.data.tables import write_table
from arm.earlier import with_earlier
from arm.errors import UserError
from arm.launch import launch
from arm.manifest import Manifest, entries_of
from arm.records import Sample, Text, make_uid
from arm.storage import LocalFolder
from arm.tracking.lineage import impact, upstream


def made(family: Path, key: str, **inputs: Manifest) -> Manifest:
    """A finished artifact, the newest of its family."""
    folder = LocalFolder(family / (key * 16))
    found = Manifest(
        kind="k", job="j", version=1, key=key * 64, config={}, inputs={n: item.digest for n, item in inputs.items()},
        counts={"pairs_remembered": 1}, metrics={}, files=entries_of(folder), folder=folder,
    )  # fmt: skip
    folder.write(manifest.NAME, found.to_json())
    manifest.point(str(family), found)
    return found


def seen(store: Path, pairs: Manifest) -> str | None:
    return with_earlier("filter-pairs", {"pairs": pairs.url}, f"{store}/06-filter-pairs", str(store)).get("seen")


def test_each_crawl_takes_the_one_before_it_and_again_the_same(tmp_path: Path) -> None:
    crawls = [made(tmp_path / "05-extract-pairs", key) for key in "abcd"]
    family = tmp_path / "06-filter-pairs"
    assert seen(tmp_path, crawls[0]) is None
    first = made(family, "1", pairs=crawls[0])
    assert seen(tmp_path, crawls[0]) is None
    assert seen(tmp_path, crawls[1]) == first.url
    second = made(family, "2", pairs=crawls[1], seen=first)
    assert seen(tmp_path, crawls[1]) == first.url
    assert seen(tmp_path, crawls[2]) == second.url
    third = made(family, "3", pairs=crawls[1], seen=second)  # the same crawl after itself: back to what is another
    assert seen(tmp_path, crawls[1]) == first.url
    assert seen(tmp_path, crawls[3]) == third.url
    assert seen(tmp_path, crawls[0]) is None  # an older crawl again: as it was before
    manifest.point(str(family), first)  # … and found complete: it is no crawl after the third
    assert (seen(tmp_path, crawls[0]), seen(tmp_path, crawls[3])) == (None, third.url)
    apart = made(family, "4", pairs=crawls[0])  # with other rules, say: crawls follow it from now on
    assert seen(tmp_path, crawls[3]) == apart.url


def test_curation_tells_crawls_by_what_it_reads_and_not_by_its_judges(tmp_path: Path) -> None:
    old, new, one, other = (made(tmp_path / f"{key}", key) for key in "abcd")
    first = made(tmp_path / "10-curate", "1", crawled=old, scorer=one)
    made(tmp_path / "10-curate", "2", crawled=new, scorer=one, known=first)
    given = {"crawled": new.url, "imported": None, "scorer": other.url}
    found = with_earlier("curate-images", given, "elsewhere/10-curate", str(tmp_path))
    assert found == {**given, "known": first.url}


def test_a_version_without_what_was_taken_down_stands_where_the_whole_one_stood(tmp_path: Path) -> None:
    crawls = [made(tmp_path / "05-extract-pairs", key) for key in "abc"]
    family = tmp_path / "06-filter-pairs"
    first = made(family, "1", pairs=crawls[0])
    second = made(family, "2", pairs=crawls[1], seen=first)
    compacted = made(family, "3", compacted=second)
    assert seen(tmp_path, crawls[1]) == first.url
    assert seen(tmp_path, crawls[2]) == compacted.url


def test_an_attempt_takes_the_one_before_it_of_its_own_pairs(tmp_path: Path) -> None:
    first, second = (made(tmp_path / "06-filter-pairs", key) for key in "ab")
    family, none = tmp_path / "07-download-images", made(tmp_path / "site", "c")

    def retried(pairs: Manifest, attempt: int) -> str | None:
        inputs = {"pairs": pairs.url, "site": None}
        return with_earlier("download-images", inputs, str(family), str(tmp_path), attempt).get("retry_failures")

    one = made(family, "1", pairs=first)
    assert retried(first, 1) is None
    assert retried(first, 2) == one.url
    two = made(family, "2", pairs=first, retry_failures=one)
    assert retried(first, 2) == one.url  # run again: the same
    assert retried(first, 3) == two.url
    made(family, "3", pairs=second)
    assert (retried(first, 2), retried(first, 3)) == (one.url, two.url)  # another crawl was downloaded since
    with pytest.raises(UserError, match="holds 0 outputs of download-images that are attempt 2"):
        retried(second, 3)
    made(family, "4", pairs=first, site=none)
    made(family, "5", pairs=second)
    with pytest.raises(UserError, match="holds 2 outputs of download-images that are attempt 1"):
        retried(first, 2)


def test_an_attempt_takes_a_compacted_version_only_once_the_whole_one_is_deleted(tmp_path: Path) -> None:
    pairs, family = made(tmp_path / "06-filter-pairs", "a"), tmp_path / "07-download-images"

    def retried(attempt: int) -> str | None:
        inputs = {"pairs": pairs.url}
        return with_earlier("download-images", inputs, str(family), str(tmp_path), attempt).get("retry_failures")

    one = made(family, "1", pairs=pairs)
    two = made(family, "2", pairs=pairs, retry_failures=one)
    compacted = made(family, "3", pairs=pairs, compacted=one)
    assert (retried(2), retried(3)) == (one.url, two.url)
    shutil.rmtree(family / ("1" * 16))
    assert (retried(2), retried(3)) == (compacted.url, two.url)


def test_a_second_attempt_needs_the_store_of_the_first() -> None:
    with pytest.raises(UserError, match="the store of the attempts before"):
        with_earlier("download-images", {"pairs": "x"}, "store/07", "", 2)


@pytest.mark.parametrize(("job", "store"), [("filter-pairs", ""), ("extract-pairs", "store")])
def test_without_a_store_and_for_other_jobs_nothing_is_added(job: str, store: str) -> None:
    assert with_earlier(job, {"pairs": "x"}, "store/06", store) == {"pairs": "x"}


@pytest.mark.slow
def test_a_second_crawl_keeps_what_is_new_and_says_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = FilterConfig(candidate_languages=("ja", "ko"), spark=SparkConfig(master="local[1]", shuffle_partitions=1))

    def crawl(key: str, *captions: str) -> Manifest:
        rows = [_pair(caption) for caption in captions]
        write_table(
            LocalFolder(tmp_path / "pairs" / (key * 16)), "pairs/part-00000.parquet", pa.Table.from_pylist(rows, PAIRS)
        )
        return made(tmp_path / "pairs", key)

    def filtered(pairs: Manifest) -> Manifest:
        output, earlier = str(tmp_path / "06-filter-pairs"), str(tmp_path)
        return launch("filter-pairs", pairs=pairs.url, output=output, config=to_json(config), earlier=earlier).manifest

    first = filtered(crawl("a", "a red circle", "a blue square"))
    again = crawl("b", "a red circle", "a green triangle", "a blue square")
    second = filtered(again)
    assert first.counts["pairs_kept"] == 2
    assert "seen" not in first.inputs
    told = {"pairs_read": 3, "pairs_known": 2, "pairs_new": 1, "pairs_kept": 1, "dropped/seen_before": 2}
    assert told.items() <= second.counts.items()
    assert filtered(again).digest == second.digest
    assert json.loads((tmp_path / "06-filter-pairs/current.json").read_text())["digest"] == second.digest


@pytest.mark.slow
def test_the_images_of_a_second_crawl_are_those_of_both_and_lineage_shows_both(tmp_path: Path) -> None:
    config = to_json(CurateConfig(workers=1, rules=(SourceRule(near_duplicates=False),)))

    def downloaded(key: str, *colours: int) -> Manifest:
        path = tmp_path / "11-download-images" / (key * 16) / "shards/crawl-00000.tar"
        path.parent.mkdir(parents=True)
        write_shard(path, [_image(colour) for colour in colours])
        return made(tmp_path / "11-download-images", key)

    def curated(crawled: Manifest) -> Manifest:
        output, earlier = str(tmp_path / "12-curate-images"), str(tmp_path)
        return launch("curate-images", crawled=crawled.url, output=output, config=config, earlier=earlier).manifest

    crawls = [downloaded("a", 1, 2), downloaded("b", 2, 3)]
    first, second = (curated(crawled) for crawled in crawls)
    assert second.inputs["known"] == first.digest
    told = {"samples_known": 2, "samples_taken_over": 2, "samples_read": 2, "samples_kept": 1, "dropped/duplicate": 1}
    assert told.items() <= second.counts.items()
    assert [sample.uid for sample in read_samples(second)] == [make_uid(str(colour)) for colour in (1, 2, 3)]
    assert {first.digest, crawls[1].digest} <= {node.digest for node in upstream(str(tmp_path), second.digest)}
    assert second.digest in {node.digest for node in impact(str(tmp_path), first.digest)}
    assert [curated(crawled).digest for crawled in crawls] == [first.digest, second.digest]


def _image(colour: int) -> Sample:
    pixels = np.full((8, 8, 3), 40 * colour, np.uint8)
    parts = (encode_image(pixels), Text(text=f"colour {colour}", role="caption"))
    return Sample(uid=make_uid(str(colour)), task="caption", parts=parts, source="crawl")


def _pair(caption: str) -> dict[str, str]:
    url = f"http://garden.test/{caption.replace(' ', '-')}.png"
    uid = pair_uid(url, caption)
    return {"uid": uid, "url": url, "caption": caption, "kind": "alt", "page_url": "http://garden.test/"}
