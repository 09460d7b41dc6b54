"""Hash lists: what is read, what is hit, and that a list which comes later needs no image."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import artifact, captioned, picture, shards

from arm.data import pdq
from arm.data.config import CurateConfig, HashList, SourceRule
from arm.data.curation import curate_images
from arm.data.hash_lists import apply_lists, main, near_places, read_lists, url_digest
from arm.data.shards import read_shard
from arm.errors import UserError
from arm.records import Image, Sample, make_uid
from arm.storage import LocalFolder

FOUND = hashlib.sha256(b"the file as it was found").hexdigest()
SAMPLES = (
    captioned("md5", picture(1)),
    captioned("sha256", picture(2)),
    captioned("pdq", picture(3)),
    replace(captioned("url", picture(4)), meta={"url": "http://garden.test/a.png"}),
    replace(captioned("found", picture(5)), meta={"sha256": FOUND}),
    captioned("small and listed", picture(6, 20, 20)),
    captioned("good", picture(7)),
)
BROKEN = replace(SAMPLES[0], uid=make_uid("broken"), parts=(Image(data=b"junk", format="png", height=9, width=9),))


def file_of(sample: Sample) -> bytes:
    image = sample.parts[0]
    assert isinstance(image, Image)
    return image.data


def write_lists(folder: Path) -> tuple[HashList, ...]:
    """Lists that hold all samples but the last."""
    grey = np.tensordot(picture(3)[None].astype(np.float32), np.array([0.299, 0.587, 0.114], np.float32), axes=(3, 0))
    near = pdq.hash_grey(grey)[0] ^ np.array([0, 2**20 - 1, 0, 0b11111111111], np.uint64)  # 31 bits
    (folder / "md5.csv").write_text(f"# ours\n{hashlib.md5(file_of(SAMPLES[0])).hexdigest().upper()},a comment\n\n")
    with gzip.open(folder / "sha256.txt.gz", "wt") as stream:
        digests = [hashlib.sha256(data).hexdigest() for data in map(file_of, (SAMPLES[1], SAMPLES[5], BROKEN))]
        stream.write("\n".join([*digests, FOUND]))
    (folder / "pdq.txt").write_text(pdq.to_hex(near) + "\n")
    (folder / "url.txt").write_text("HTTP://garden.test:80/x/../a.png#top\n" + "0" * 64 + "\n")
    names = {"md5": "md5.csv", "sha256": "sha256.txt.gz", "pdq": "pdq.txt", "url": "url.txt"}
    return tuple(HashList(kind=kind, path=str(folder / name)) for kind, name in names.items())  # type: ignore[arg-type]


def test_whoever_is_listed_is_quarantined_before_anything_else_is_asked(tmp_path: Path) -> None:
    config = CurateConfig(rules=(SourceRule(min_side=30),), hash_lists=write_lists(tmp_path), workers=1)
    crawled = shards(tmp_path / "a", *SAMPLES, BROKEN)
    outcome = curate_images(output=LocalFolder(tmp_path / "out"), config=config, crawled=crawled)
    assert outcome.counts == {"samples_read": 8, "samples_kept": 1, "dropped/hash_list": 7, "kept/crawl": 1}
    hits = pq.read_table(tmp_path / "out/quarantine/part-00000.parquet").to_pylist()
    assert sorted((hit["kind"], hit["list"], hit["distance"]) for hit in hits) == [
        ("md5", "md5.csv", 0), ("pdq", "pdq.txt", 31), *[("sha256", "sha256.txt.gz", 0)] * 4, ("url", "url.txt", 0),
    ]  # fmt: skip
    assert [sample.uid for sample in read_shard(tmp_path / "out/shards/crawl-00000.tar")] == [make_uid("good")]


def test_a_list_that_comes_later_finds_the_same_without_the_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = write_lists(tmp_path)
    config = CurateConfig(rules=(SourceRule(min_side=30),), workers=1)
    curate_images(output=LocalFolder(tmp_path / "out"), config=config, crawled=shards(tmp_path / "a", *SAMPLES, BROKEN))
    manifest = artifact(tmp_path / "out", "curated-shards")
    (tmp_path / "out/manifest.json").write_bytes(manifest.to_json())
    for path in [*(tmp_path / "out/shards").iterdir(), *(tmp_path / "a/shards").iterdir()]:
        path.unlink()
    assert set(apply_lists(manifest, lists, 31)["uid"].to_pylist()) == {s.uid for s in (*SAMPLES[:-1], BROKEN)}
    main([str(tmp_path / "out"), lists[1].path, "--kind", "sha256", "--output", str(tmp_path / "taken")])
    assert "4 samples are on the lists" in capsys.readouterr().out
    hit = (SAMPLES[1], SAMPLES[4], SAMPLES[5], BROKEN)
    assert (tmp_path / "taken/uids.txt").read_text().split() == sorted(sample.uid for sample in hit)
    stored = sorted(hashlib.sha256(file_of(sample)).hexdigest() for sample in hit)
    assert (tmp_path / "taken/sha256.txt").read_text().split() == stored


@pytest.mark.parametrize(
    ("kind", "line", "sentence"),
    [
        ("md5", "abc", "list.txt, line 1, holds 'abc', which is no md5 hash: give 32 hexadecimal digits."),
        ("pdq", "g" * 64, "is no pdq hash: give 64 hexadecimal digits"),
        ("url", "garden.test/a.png", "is no url hash"),
    ],
)
def test_a_line_that_is_no_hash_is_one_sentence(tmp_path: Path, kind: str, line: str, sentence: str) -> None:
    (tmp_path / "list.txt").write_text(line)
    with pytest.raises(UserError, match=sentence):
        read_lists([HashList(kind=kind, path=str(tmp_path / "list.txt"))])  # type: ignore[arg-type]


def test_an_address_has_one_digest_however_it_is_spelt() -> None:
    assert url_digest("HTTP://Garden.test:80/a.png#x") == hashlib.sha256(b"http://garden.test/a.png").digest()


@pytest.mark.parametrize(
    ("line", "addresses"),
    [
        ("http://a.test/w_300,h_300/b.png", ["http://a.test/w_300", "http://a.test/w_300,h_300/b.png"]),
        ("http://a.test/b.png,reported in May", ["http://a.test/b.png", "http://a.test/b.png,reported"]),
        ("http://a.test/b.png # why", ["http://a.test/b.png"]),
        ("\ufeffhttp://a.test/b.png", ["http://a.test/b.png"]),
        ("  # http://a.test/b.png", []),
        (" , ", []),
    ],
)
def test_an_address_counts_with_its_commas_and_up_to_the_first(tmp_path: Path, line: str, addresses: list[str]) -> None:
    (tmp_path / "list.txt").write_text(line)
    (listed,) = read_lists([HashList(kind="url", path=str(tmp_path / "list.txt"))])
    assert listed.digests == [url_digest(address) for address in addresses]


@pytest.mark.parametrize(
    ("line", "digests"),
    [(",", 0), ("  , # nothing", 0), ("#", 0), ("0" * 32 + "#why", 1), ("0" * 32 + ",a", 1), ("\ufeff" + "0" * 32, 1)],
)
def test_a_line_without_a_hash_is_passed_over_and_what_follows_one_too(tmp_path: Path, line: str, digests: int) -> None:
    (tmp_path / "list.txt").write_text(line)
    (listed,) = read_lists([HashList(kind="md5", path=str(tmp_path / "list.txt"))])
    assert listed.digests == [bytes(16)] * digests


@given(st.integers(0, 31), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_no_hash_within_the_distance_is_missed(distance: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    listed = rng.integers(1, 2**63, (20, 4), dtype=np.uint64)
    hashes = np.repeat(listed, 3, axis=0)
    for row, flips in zip(hashes, rng.integers(0, 40, 60), strict=True):
        for bit in rng.choice(256, flips, replace=False):
            row[bit // 64] ^= np.uint64(1 << int(bit % 64))
    apart = pdq.distances(hashes[:, None], listed[None]).min(axis=1)
    assert near_places(hashes, listed, distance).tolist() == [[i, d] for i, d in enumerate(apart) if d <= distance]
