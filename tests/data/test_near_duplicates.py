"""What looks alike among many images: hubs, components, popular hashes; the same in memory and on Spark."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from arm.data.config import SparkConfig
from arm.data.deduplication import GREY_WEIGHTS, fingerprint_images
from arm.data.near_duplicates import Bounds, Found, choose, components, find, link
from arm.data.near_duplicates_spark import find_components, find_on_spark, write_rows
from arm.data.pdq import Hashes, bands, distances, from_hex, hash_averaged, hash_grey, to_bytes, to_hex
from arm.data.spark import spark_session
from arm.toy.config import WorldConfig
from arm.toy.site import build_pages

BOUNDS = Bounds(distance=31, difference=24.0, max_bucket=15)
BLACK = np.zeros(432, np.uint8)


def grey(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A batch of one grey image."""
    return (pixels.astype(np.float32) @ GREY_WEIGHTS)[None]


def numbers(*values: int) -> Hashes:
    """Hashes whose last word is given."""
    return np.array([[0, 0, 0, value] for value in values], np.uint64)


def made_up(size: int, seed: int) -> tuple[Hashes, NDArray[np.uint8]]:
    """Random hashes, a third of them copies with up to 8 bits changed in chains, a crowd that shares a band."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, (size, 4), dtype=np.uint64)
    for place in range(size // 3, size):
        if rng.random() < 0.5:
            hashes[place] = hashes[rng.integers(place)]
            for bit in rng.integers(0, 64, rng.integers(9)):
                hashes[place, rng.integers(4)] ^= np.uint64(1 << int(bit))
    hashes[rng.choice(size, size // 20, replace=False), 1] = np.uint64(7)
    thumbnails = np.where(rng.random((size, 1)) < 0.1, 200, 0).astype(np.uint8) * np.ones(432, np.uint8)
    return hashes, thumbnails


def test_rows_of_a_bucket_are_linked_to_the_best_that_they_are_near_to() -> None:
    keys, ranks = np.array([3, 5, 5, 5, 5]), np.array([0, 1, 2, 4, 7])
    hashes = numbers(0, 0, 2**40 - 1, 1, 2**40 - 2)
    edges, popular = link(keys, ranks, hashes, BOUNDS)
    assert sorted(edges.tolist()) == [[4, 1], [7, 2]]
    assert popular.tolist() == []


def test_a_bucket_above_the_bound_makes_all_its_rows_popular_and_links_none() -> None:
    keys, ranks = np.array([5] * 16 + [6] * 15), np.arange(31)
    edges, popular = link(keys, ranks, numbers(*[0] * 31), BOUNDS)
    assert popular.tolist() == list(range(16))
    assert edges.tolist() == [[rank, 16] for rank in range(17, 31)]


def test_a_chain_does_not_drop_who_looks_like_no_kept_one() -> None:
    """0 ~ 1 ~ 2, each 20 bits apart, 0 and 2 are 40 apart."""
    hashes = numbers(0, 2**20 - 1, 2**40 - 1)
    thumbnails = np.stack([BLACK] * 3)
    assert choose(np.zeros(3), hashes, thumbnails, BOUNDS).tolist() == [[1, 0]]
    assert choose(np.zeros(3), hashes[[1, 0, 2]], thumbnails, BOUNDS).tolist() == [[1, 0], [2, 0]]


def test_the_same_hash_is_not_enough_the_thumbnail_decides() -> None:
    thumbnails = np.stack([BLACK, BLACK + 25, BLACK + 24, BLACK + 49])
    assert choose(np.zeros(4), numbers(1, 1, 1, 1), thumbnails, BOUNDS).tolist() == [[2, 0], [3, 1]]


def test_components_carry_their_smallest_row() -> None:
    assert components(6, np.array([[5, 4], [4, 3], [0, 2]])).tolist() == [0, 1, 0, 3, 3, 3]


def test_nothing_is_found_among_no_rows_one_row_and_strangers() -> None:
    for hashes in (numbers(), numbers(1), numbers(1, 2**63 - 2**20)):
        found = find(hashes, np.zeros((len(hashes), 432), np.uint8), BOUNDS)
        assert (len(found.duplicates), len(found.popular)) == (0, 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_dropped_row_looks_like_a_better_row_that_is_kept(seed: int) -> None:
    hashes, thumbnails = made_up(600, seed)
    found = find(hashes, thumbnails, BOUNDS)
    row, kept = found.duplicates.T
    assert len(row) > 50
    assert len(found.popular) == 30
    assert (kept < row).all()
    assert not np.isin(kept, row).any()
    assert not np.isin(found.duplicates, found.popular).any()
    assert (distances(hashes[row], hashes[kept]) <= 31).all()
    assert (thumbnails[row] == thumbnails[kept]).all()


def test_the_published_hash_of_a_picture_is_found() -> None:
    """Values of Meta's own C++ program (pdqhash 0.2.8) on 512 × 512 pixels."""
    from skimage.data import astronaut  # type: ignore[import-untyped]

    (found,) = hash_grey(grey(astronaut()))
    digits = "2d6b1af3a956c529e79ca3d2526fa834d4196c81cedd04de0a26b855fc99b724"
    assert to_hex(found) == digits
    assert (from_hex([digits]) == found).all()
    assert to_bytes(found[None]) == [bytes.fromhex(digits)]
    assert [f"{band:08x}" for band in bands(found[None], 8)[0]][:2] == ["2d6b1af3", "a956c529"]
    assert [f"{band:04x}" for band in bands(found[None], 16)[0]][-1] == "b724"


def test_an_image_too_small_to_hash_has_the_hash_nought() -> None:
    assert hash_grey(np.full((2, 4, 40), 9, np.float32)).tolist() == [[0] * 4] * 2


def pictures_of_the_site(num_images: int) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """The pictures of the toy site, its copies and one resized copy of every third; which picture each one shows."""
    config, pictures, shown = WorldConfig(num_images=num_images, num_pages=30), list[NDArray[np.uint8]](), list[str]()
    for page in build_pages(range(config.num_pages), config):
        for url, answer in page.answers.items():
            name = url.rpartition("/")[2]
            if "/images/" not in url and "/copies/" not in url:
                continue
            picture = PIL.Image.open(io.BytesIO(answer.body)).convert("RGB")
            index = name.split("-")[0].split(".")[0]
            own = "/images/" in url and "-" in name  # a further scene, named after the one that it stands by
            pictures.append(np.asarray(picture))
            shown.append(name if own else index)
            if "-" not in name and int(index) % 3 == 0:
                pictures.append(np.asarray(picture.resize((144, 144))))
                shown.append(index)
    return pictures, shown


def test_copies_on_the_toy_site_are_found_and_no_others() -> None:
    """Precision and recall over what should go: all but one picture of each scene."""
    pictures, shown = pictures_of_the_site(240)
    hashes = np.concatenate([hash_averaged(grey(pixels)) for pixels in pictures])
    thumbnails = np.concatenate([fingerprint_images(pixels[None]).thumbnail for pixels in pictures])
    found = find(hashes, thumbnails, Bounds(distance=31, difference=24.0, max_bucket=10_000))
    superfluous = len(pictures) - len(set(shown))
    right = sum(shown[row] == shown[kept] for row, kept in found.duplicates.tolist())
    assert superfluous > 90
    assert len(found.popular) == 0
    assert right / len(found.duplicates) >= 0.98
    assert right / superfluous >= 0.98


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with spark_session(SparkConfig(), tmp_path_factory.mktemp("spark")) as session:
        yield session


@pytest.mark.slow
def test_spark_finds_the_same_at_1_2_and_8_partitions(spark: object, tmp_path: Path) -> None:
    hashes, thumbnails = made_up(400, 3)
    expected = find(hashes, thumbnails, BOUNDS)
    for partitions in (1, 2, 8):
        folder = tmp_path / str(partitions)
        folder.mkdir()
        for number, places in enumerate(np.array_split(np.arange(400), partitions)):
            write_rows(folder / f"{number}.parquet", places, hashes[places], thumbnails[places])
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))  # type: ignore[attr-defined]
        assert_same(find_on_spark(spark, str(folder), BOUNDS), expected)  # type: ignore[arg-type]


@pytest.mark.slow
def test_components_on_spark_are_those_in_memory_for_long_chains_too(spark: object) -> None:
    rng = np.random.default_rng(0)
    edges = np.concatenate([np.stack([np.arange(1, 60), np.arange(59)], axis=1), rng.integers(60, 200, (60, 2))])
    labels = components(200, edges)
    frame = spark.createDataFrame(edges.tolist(), "rank long, other long")  # type: ignore[attr-defined]
    found = {row["rank"]: row["label"] for row in find_components(frame).collect()}
    assert found == {rank: label for rank, label in enumerate(labels.tolist()) if rank != label}


def assert_same(found: Found, expected: Found) -> None:
    assert found.duplicates.tolist() == expected.duplicates.tolist()
    assert found.popular.tolist() == expected.popular.tolist()
    assert len(expected.duplicates) > 20
    assert len(expected.popular) == 20
