"""Memory of curate-images' decisions a sample: keys and reasons, ranks, and the comparison in this process or on Spark.

    python benchmarks/decisions.py           what stays with the driver where Spark compares: all but the comparison itself
    python benchmarks/decisions.py here      everything, near duplicates compared in this process
    python benchmarks/decisions.py spark     everything, compared on Spark, whose JVM and workers are not counted

Each size has a process of its own, and what it used at its peak (the resident set) is compared with the size before: a
sample costs the difference. The peer is one dict a sample with everything measured, which is what decisions were before.
"""

import multiprocessing
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arm.data.config import CurateConfig, SourceRule, SparkConfig
from arm.data.curation_index import Index
from arm.data.decisions import decide
from arm.data.looks import rank_looks
from arm.data.measured import open_measured
from arm.data.measuring import MEASURED

SIZES = (250_000, 1_000_000)
PEER_ROWS = 50_000
TABLE_ROWS = 10_000


def main() -> None:
    """Print bytes a sample."""
    place = next(iter(sys.argv[1:]), "driver")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        write_tables(Path(name), SIZES[-1])
        peaks = []
        for size in SIZES:
            with context.Pool(1) as pool:
                peaks.append(pool.apply(peak_of_decisions, (name, size, place)))
            print(f"{size:>9,} samples  {peaks[-1] / 1e6:7.0f} MB at the peak")
        print(f"a sample more costs {(peaks[-1] - peaks[0]) / (SIZES[-1] - SIZES[0]):,.0f} bytes")
        with context.Pool(1) as pool:
            print(f"as a dict each      {pool.apply(peak_of_rows, (name,)):,.0f} bytes")


def write_tables(folder: Path, num_rows: int) -> None:
    """Random measured tables: one row in ten is a copy, one in ten looks like an earlier one, one is too small."""
    rng = np.random.default_rng(0)
    for number in range(num_rows // TABLE_ROWS):
        pq.write_table(made_up(rng), folder / f"{number:05d}.parquet")


def made_up(rng: np.random.Generator) -> pa.Table:
    """A measured table of captioned images."""
    keys, near = (rng.integers(0, 256, (TABLE_ROWS, width), dtype=np.uint8) for width in (32, 32))
    copied, alike = (rng.choice(TABLE_ROWS, TABLE_ROWS // 10, replace=False) for _ in range(2))
    keys[copied, :16] = keys[0, :16]
    near[alike] = near[alike - 1]
    hashes = [[row.tobytes()] for row in near]
    columns = {
        "uid": [row.tobytes().hex() for row in keys[:, 16:]], "source": ["crawl"] * TABLE_ROWS,
        "content": [row.tobytes() for row in keys[:, :16]],
        "side": rng.integers(190, 2_000, TABLE_ROWS), "aspect": rng.random(TABLE_ROWS) + 1,
        "entropy": rng.random(TABLE_ROWS) * 8, "sharpness": rng.random(TABLE_ROWS) * 500,
        "text_area": rng.random(TABLE_ROWS), "similarity": rng.random(TABLE_ROWS),
        "exact": [[row.tobytes()] for row in keys[:, :16]],
        "phash": [[value] for value in rng.integers(0, 2**63, TABLE_ROWS).tolist()], "near": hashes,
        "thumbnails": [[bytes(432)]] * TABLE_ROWS, "md5": [[row[0][:16]] for row in hashes],
        "sha256": hashes, "pdq": hashes,
    }  # fmt: skip
    nothing = [None] * TABLE_ROWS
    return pa.table([pa.array(columns.get(field.name, nothing), field.type) for field in MEASURED], schema=MEASURED)


def peak_of_decisions(folder: str, size: int, place: str) -> int:
    """Bytes that this process had at its peak."""
    measured = open_measured(sorted(Path(folder).glob("*.parquet"))[: size // TABLE_ROWS])
    spark = SparkConfig(driver_memory="2g", shuffle_partitions=8)
    config = CurateConfig(spark_above=0 if place == "spark" else size, spark=spark)
    alone = replace(config, rules=(SourceRule(near_duplicates=False),))
    with tempfile.TemporaryDirectory() as scratch:
        made = decide(measured, None, Index(), set(), alone if place == "driver" else config, Path(scratch))
        if place == "driver":
            looks, _ = rank_looks(measured, made.kept(), made.uids, Index(), config)
            looks.write(Path(scratch))
    assert made.counts()["duplicate"] >= size // 11
    assert place == "driver" or made.counts()["near_duplicate"] >= size // 20
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_of_rows(folder: str) -> float:
    """Bytes that a row costs as a dict."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    paths = sorted(Path(folder).glob("*.parquet"))[: PEER_ROWS // TABLE_ROWS]
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / len(rows)


if __name__ == "__main__":
    main()
