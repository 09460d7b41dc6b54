"""SemDeDup: vectors worked out by hand, the same clusters however the images are cut, and images end to end."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pictures import artifact, captioned, picture, shards, tiny_siglip

from arm.data import clusters
from arm.data.clusters import find_alike, find_centres, nearest, quantise
from arm.data.config import CurateConfig, SemanticConfig, SourceRule
from arm.data.curation import curate_images
from arm.data.measured import Measured, open_measured, uid_words
from arm.data.scores import Scorer
from arm.data.semantic import find_semantic
from arm.errors import UserError
from arm.records import make_uid
from arm.storage import LocalFolder


def at(*degrees: float) -> clusters.Directions:
    """Directions in the plane."""
    angles = np.radians(degrees)
    return quantise(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def test_a_direction_is_of_length_4000_and_of_nothing_nought() -> None:
    assert quantise(np.array([[3, 4], [0, 0], [np.nan, 1], [-2, 0]])).tolist() == [
        [2400, 3200], [0, 0], [0, 0], [-4000, 0],
    ]  # fmt: skip


def test_centres_are_the_directions_of_sums() -> None:
    """0° and 90° start; 10° and 20° go to the first, 70° to the second: means 10° and 80°."""
    centres = find_centres(at(0, 90, 10, 20, 70), 2, rounds=20)
    assert np.degrees(np.arctan2(centres[:, 1], centres[:, 0])) == pytest.approx([10, 80], abs=0.02)
    assert nearest(at(44, 46, 200), centres).tolist() == [0, 1, 1]


def test_a_centre_that_nobody_is_nearest_to_stays() -> None:
    assert find_centres(at(0, 0, 10), 2, rounds=20)[1].tolist() == [4000, 0]


def test_the_best_stays_and_no_chain_drops_a_stranger() -> None:
    """cos 10° = .9848, cos 12° = .9781: within .02 lies 10° and not 12°."""
    assert find_alike(at(0, 10, 20, 30, 12), 0.02).tolist() == [[1, 0], [3, 2], [4, 2]]
    assert find_alike(at(0, 10, 20), 0.01).tolist() == []
    assert find_alike(at(0, 16, 8.5), 0.02).tolist() == [[2, 0]]  # the best of those that it is like, not the nearest
    assert find_alike(quantise(np.zeros((3, 2))), 0.02).tolist() == []  # nothing is like nothing


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_blocks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn(100)
    whole = find_alike(vectors, 0.1), find_centres(vectors, 5, 10)
    monkeypatch.setattr(clusters, "BLOCK_ROWS", rows)
    assert np.array_equal(find_alike(vectors, 0.1), whole[0])
    assert np.array_equal(find_centres(vectors, 5, 10), whole[1])
    assert 10 < len(whole[0]) < 90


def test_float32_adds_whole_numbers_without_an_error() -> None:
    rng = np.random.default_rng(0)
    vectors = quantise(rng.normal(size=(64, 1152)))
    exact = vectors.astype(np.int64) @ vectors.astype(np.int64).T
    assert np.array_equal(vectors.astype(np.float32) @ vectors.astype(np.float32).T, exact)


def drawn(size: int) -> clusters.Directions:
    """Directions in eight dimensions, most of them near one of twelve."""
    rng = np.random.default_rng(3)
    middles = rng.normal(size=(12, 8))
    return quantise(middles[rng.integers(12, size=size)] + 0.3 * rng.normal(size=(size, 8)))


def put(folder: Path, vectors: clusters.Directions, num_tables: int) -> Measured:
    """Measured tables with embeddings."""
    folder.mkdir()
    for number, part in enumerate(np.array_split(vectors, num_tables)):
        table = pa.table({"embedding": pa.array([row.tobytes() for row in part], pa.binary())})
        pq.write_table(table, folder / f"{number:05d}.parquet")
    return open_measured(sorted(folder.iterdir()))


def test_one_two_or_eight_parts_give_the_same(tmp_path: Path) -> None:
    vectors, config = drawn(200), SemanticConfig(epsilon=0.1, images_per_cluster=25, fit_images=90)
    rows = np.random.default_rng(1).permutation(200)[:180]  # an order of preference
    uids = uid_words([make_uid(str(row)) for row in rows])
    found = []
    for parts in (1, 2, 8):
        (tmp_path / f"scratch {parts}").mkdir()
        measured = put(tmp_path / str(parts), vectors, parts)
        dropped, kept = find_semantic(measured, rows, uids, config, tmp_path / f"scratch {parts}")
        found.append((dropped.tolist(), kept.tolist()))
    assert found[0] == found[1] == found[2]
    assert 20 < len(found[0][0]) < 160
    place = {row: number for number, row in enumerate(rows.tolist())}
    assert all(place[kept] < place[dropped] for dropped, kept in zip(*found[0], strict=True))
    assert set(found[0][0]).isdisjoint(found[0][1])


def one_by_one(vectors: NDArray[np.float64], order: Sequence[int], epsilon: float) -> dict[int, int]:
    """Who is dropped for whom, by cosines in plain numbers."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kept, dropped = list[int](), dict[int, int]()
    for row in order:
        like = [other for other in kept if units[row] @ units[other] >= 1 - epsilon]
        if like:
            dropped[row] = like[0]
        else:
            kept.append(row)
    return dropped


def test_images_that_mean_the_same_to_the_scorer_are_dropped_for_the_largest(tmp_path: Path) -> None:
    tiny_siglip(tmp_path / "weights" / "model")
    samples = [captioned(str(seed), picture(seed, 36 + 4 * seed, 36 + 4 * seed)) for seed in range(9)]
    samples.append(captioned("books", picture(3), source="books"))
    pixels = [picture(seed, 36 + 4 * seed, 36 + 4 * seed) for seed in range(9)]
    _, vectors = Scorer(tmp_path / "weights" / "model", 4)(pixels, ["a picture"] * 9)
    units = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.sort((units @ units.T)[np.triu_indices(9, 1)])
    widest = int(np.argmax(np.diff(cosines[18:30]))) + 18  # a bound that no rounding crosses
    epsilon = float(1 - (cosines[widest] + cosines[widest + 1]) / 2)
    expected = one_by_one(vectors.astype(np.float64), range(8, -1, -1), epsilon)
    rules = (SourceRule(source="books", near_duplicates=False), SourceRule())
    config = CurateConfig(rules=rules, workers=1, near_distance=0, semantic=SemanticConfig(epsilon=epsilon))
    inputs = {"crawled": shards(tmp_path / "a", *samples), "scorer": artifact(tmp_path / "weights", "weights")}
    outcome = curate_images(output=LocalFolder(tmp_path / "out"), config=config, **inputs)  # type: ignore[arg-type]
    assert 0 < len(expected) < 8
    assert outcome.counts["dropped/semantic_duplicate"] == len(expected)
    assert outcome.counts["samples_kept"] == 10 - len(expected)
    rows = pq.read_table(tmp_path / "out/decisions/part-00000.parquet").to_pylist()
    told = {row["uid"]: row["duplicate_of"] for row in rows if row["reason"] == "semantic_duplicate"}
    assert told == {make_uid(str(row)): make_uid(str(kept)) for row, kept in expected.items()}


def test_it_needs_the_scorer_and_an_epsilon_between_nought_and_one(tmp_path: Path) -> None:
    config = CurateConfig(semantic=SemanticConfig())
    with pytest.raises(UserError, match="needs the input scorer"):
        curate_images(
            output=LocalFolder(tmp_path), config=config, crawled=shards(tmp_path / "a", captioned("1", picture(1)))
        )
    with pytest.raises(UserError, match=r"epsilon is 1\.5; give more than 0 and less than 1"):
        SemanticConfig(epsilon=1.5)
