"""Near-duplicate detection up to 2 million hashes: CPU time a row must stay flat, whatever the buckets are like.

    python benchmarks/near_duplicates.py           in this process, 250,000 to 2,000,000 rows
    python benchmarks/near_duplicates.py spark     the same rows on Spark, JVM and workers included

The rows are hard on purpose: one band's buckets follow Zipf's law, another holds 5% of all rows in one bucket, and one
row in five is a copy with a few bits changed. The peer is what most tools do: compare all pairs of a bucket.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arm.data.config import SparkConfig
from arm.data.near_duplicates import NUM_BANDS, Bounds, Found, find
from arm.data.near_duplicates_spark import find_on_spark, write_rows
from arm.data.pdq import Hashes, bands
from arm.data.spark import spark_session

SIZES = (250_000, 500_000, 1_000_000, 2_000_000)
BOUNDS = Bounds(distance=31, difference=24.0, max_bucket=10_000)
PAIRS_PER_SECOND = 20e6
"""What NumPy compares of 256-bit hashes on one core here."""
Rows = tuple[Hashes, NDArray[np.uint8]]


def main() -> None:
    """Print CPU time a row for each size."""
    on_spark = "spark" in sys.argv[1:]
    sizes = [int(word) for word in sys.argv[1:] if word.isdigit()] or SIZES
    for size in sizes:
        rows = made_up(size)
        seconds, found = (spark_seconds if on_spark else own_seconds)(rows)
        peer = pairs_of_buckets(rows[0]) / PAIRS_PER_SECOND
        print(
            f"{size:>9,} rows  {seconds:6.1f} s CPU  {1e6 * seconds / size:5.1f} us a row   "
            f"{len(found.duplicates):,} duplicates, {len(found.popular):,} popular; all pairs: {peer:,.0f} s"
        )


def made_up(size: int, seed: int = 0) -> Rows:
    """Random hashes with copies, Zipf buckets in the first band and a bucket of 5% in the second; black thumbnails."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, (size, 4), dtype=np.uint64) << np.uint64(1)
    copies = rng.choice(size, size // 5, replace=False)
    hashes[copies] = hashes[rng.integers(0, size, size // 5)]
    for _ in range(6):
        flips = np.uint64(1) << rng.integers(0, 64, len(copies)).astype(np.uint64)
        hashes[copies, rng.integers(0, 4, len(copies))] ^= flips
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    zipf = np.minimum(rng.zipf(1.1, size), 1 << 31).astype(np.uint64)
    zipf_rows = rng.random(size) < 0.5
    hashes[zipf_rows, 0] = (zipf[zipf_rows] << high) | (hashes[zipf_rows, 0] & low)
    crowd = rng.random(size) < 0.05
    hashes[crowd, 0] = (hashes[crowd, 0] & ~low) | np.uint64(12_345)
    return hashes, np.zeros((size, 432), np.uint8)


def own_seconds(rows: Rows) -> tuple[float, Found]:
    """CPU time in this process."""
    started = time.process_time()
    found = find(*rows, BOUNDS)
    return time.process_time() - started, found


def spark_seconds(rows: Rows) -> tuple[float, Found]:
    """CPU time of this process and of everything that Spark started, its start left out."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows").mkdir()
        for number, places in enumerate(np.array_split(np.arange(len(rows[0])), 8)):
            write_rows(Path(folder) / "rows" / f"{number}.parquet", places, rows[0][places], rows[1][places])
        with spark_session(SparkConfig(driver_memory="3g", shuffle_partitions=8), Path(folder)) as spark:
            spark.range(1).collect()
            before = _tree_seconds()
            found = find_on_spark(spark, f"{folder}/rows", BOUNDS)
            return _tree_seconds() - before, found


def pairs_of_buckets(hashes: Hashes) -> int:
    """How many pairs all buckets hold."""
    sizes = (np.unique(keys, return_counts=True)[1] for keys in bands(hashes, NUM_BANDS).T)
    return sum(int((counts * (counts - 1) // 2).sum()) for counts in sizes)


def _tree_seconds() -> float:
    """CPU time of this process and of all below it, the living and the dead."""
    own, ticks = resource.getrusage(resource.RUSAGE_SELF), 100
    total, known = own.ru_utime + own.ru_stime, {str(Path("/proc/self").resolve().name)}
    fields = {path.parent.name: path.read_text().rpartition(")")[2].split() for path in _stats()}
    while new := {process for process, words in fields.items() if words[1] in known} - known:
        known |= new
        total += sum(sum(map(int, fields[process][11:15])) for process in new) / ticks
    return total


def _stats() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]


if __name__ == "__main__":
    main()
