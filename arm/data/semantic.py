"""SemDeDup: of images that mean the same the best is kept (Abbas et al., 2023, arXiv 2303.09540).

    embeddings of the scorer ── k-means on a sample ── every image to its nearest centre ── pairs within a cluster

Images are in the order of preference of the near duplicates: who is like a better one that is kept goes. The paper drops
who is like any better one, kept or not; here no chain a ~ b ~ c drops a stranger. Exact arithmetic (`arm.data.clusters`):
the same result for the same images in the same order, however they are cut into shards. A sample costs 36 bytes in memory,
its embedding lies on the disk, and a cluster is compared a block at a time.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from arm.data.clusters import Directions, find_alike, find_centres, nearest
from arm.data.config import SemanticConfig
from arm.data.measured import Integers, Measured, Words
from arm.progress import track


def find_semantic(
    measured: Measured, rows: Integers, uids: Words, config: SemanticConfig, scratch: Path
) -> tuple[Integers, Integers]:
    """Of measured rows in the order of preference, whose uids are given: those to drop, and the row kept for each."""
    if not len(rows):
        return rows, rows
    centres = _centres(measured, rows, uids, config)
    labels = np.empty(len(rows), np.int32)
    for places, table in measured.take(rows, "embedding"):
        labels[places] = nearest(directions_in(table["embedding"]), centres)
    order = np.argsort(labels, kind="stable")  # inside a cluster the order of preference stays
    vectors = _laid_out(measured, rows[order], centres.shape[1], scratch / "embeddings")
    cuts = np.searchsorted(labels[order], np.arange(len(centres) + 1))
    found = [np.empty((0, 2), np.int64)]
    for low, high in track(pairwise(cuts.tolist()), "semantic duplicates", total=len(centres)):
        found.append(low + find_alike(vectors[low:high], config.epsilon))
    pairs = rows[order[np.concatenate(found)]]
    return pairs[:, 0], pairs[:, 1]


def directions_in(column: pa.ChunkedArray) -> Directions:
    """Directions of one width: array (N, D)."""
    values = column.to_pylist()
    return np.frombuffer(b"".join(values), np.int16).reshape(len(values), -1)


def _centres(measured: Measured, rows: Integers, uids: Words, config: SemanticConfig) -> Directions:
    """Centres found on some images, which the seed and their uids choose."""
    number = -(-len(rows) // config.images_per_cluster)
    order = np.lexsort((uids[1], uids[0], _drawn(uids, config.seed)))[: max(config.fit_images, number)]
    parts = [(places, directions_in(table["embedding"])) for places, table in measured.take(rows[order], "embedding")]
    sample = np.empty((len(order), parts[0][1].shape[1]), np.int16)
    for places, vectors in parts:
        sample[places] = vectors
    return find_centres(sample, number, config.rounds)


def _drawn(uids: Words, seed: int) -> Words:
    """A number for each uid that looks like chance (splitmix64)."""
    start = (seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64
    values = uids[1] + np.uint64(start)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _laid_out(measured: Measured, rows: Integers, width: int, path: Path) -> Directions:
    """The directions of some rows in that order, in a file."""
    vectors = np.memmap(path, np.int16, "w+", shape=(len(rows), width))
    for places, table in measured.take(rows, "embedding"):
        vectors[places] = directions_in(table["embedding"])
    return vectors
