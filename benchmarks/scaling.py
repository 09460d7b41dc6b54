"""How extraction, filtering and deduplication grow with the rows, and what a second core brings, by the clock.

    python benchmarks/scaling.py                                          100,000 and 2,000,000 rows, some 40 minutes
    python benchmarks/scaling.py filter --sizes 100000 400000

Each measurement is a process of its own that may use one core or two (its affinity, which the JVM and Spark's workers
inherit), and does its work twice: on 1,000 rows, whose seconds are what a job costs at any size (Spark's workers import
ours), then on all. A row's cost is what remains of the second when the first is taken off. Rows are made up with the skew of a
crawl (`filter_pairs.py`, `near_duplicates.py`); extraction reads WAT files of real pages (`_wat.py`) and counts its pairs.
Nothing else should run: the clock counts whatever does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _wat import real_pages, toy_pages, write_wats
from filter_pairs import run_ours as filter_rows
from filter_pairs import write_pairs
from near_duplicates import BOUNDS, made_up

from arm.data.config import ExtractConfig, SparkConfig
from arm.data.extraction import extract_pairs
from arm.data.near_duplicates_spark import find_on_spark, write_rows
from arm.data.spark import spark_session
from arm.storage import LocalFolder

SIZES = (100_000, 2_000_000)
FIRST = 1_000
ROWS_PER_FILE = 25_000
SHARED = Path(__file__).resolve().parents[2] / "shared"
Work = Callable[[Path, Path, int, int], int]
"""(folder of the input, folder of the output, rows, cores) -> rows that were worked on."""


def main() -> None:
    """Measure each work at each size, on one core and on two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", help=", ".join(WORKS))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--measure", nargs=3, metavar=("FOLDER", "ROWS", "CORES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        folder, rows, cores = options.measure
        print(json.dumps(measure(WORKS[options.works[0]], Path(folder), int(rows), int(cores))))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in options.works or WORKS:
            made = Path(folder) / name
            for rows in (FIRST, *options.sizes):
                PREPARE[name](made / str(rows), rows)
            for rows in options.sizes:
                report(name, rows, *(in_its_own_process(name, made, rows, cores) for cores in (1, 2)))


def report(name: str, rows: int, one: dict[str, float], two: dict[str, float]) -> None:
    """One line: the cost of a row on one core, and how much faster two are, with and without what any size costs."""
    net = [(run["seconds"] - run["first"]) for run in (one, two)]
    print(
        f"{name:16} {rows:>9,} rows ({one['rows']:,.0f} counted): one core {one['seconds']:6.1f} s, "
        f"{1e6 * net[0] / one['rows']:5.1f} us a row besides {one['first']:.1f} s; two cores {two['seconds']:6.1f} s: "
        f"{one['seconds'] / two['seconds']:.2f} times as fast, {net[0] / net[1]:.2f} without what any size costs",
        flush=True,
    )


def in_its_own_process(name: str, folder: Path, rows: int, cores: int) -> dict[str, float]:
    """The measurement, by a fresh interpreter on so many cores."""
    mine = sorted(os.sched_getaffinity(0))[:cores]
    if len(mine) < cores:
        raise SystemExit(f"{cores} cores are measured and this process may use {len(mine)}.")
    command = [sys.executable, __file__, name, "--measure", str(folder), str(rows), str(cores)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, mine)
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(work: Work, folder: Path, rows: int, cores: int) -> dict[str, float]:
    """Seconds of the small run and of the whole one, after one small run that starts the JVM."""
    with tempfile.TemporaryDirectory() as name:
        output = Path(name)
        work(folder / str(FIRST), output / "warm", FIRST, cores)
        started = time.perf_counter()
        work(folder / str(FIRST), output / "first", FIRST, cores)
        first = time.perf_counter() - started
        started = time.perf_counter()
        counted = work(folder / str(rows), output / "all", rows, cores)
        return {"seconds": time.perf_counter() - started, "first": first, "rows": counted}


def prepare_pairs(folder: Path, rows: int) -> None:
    """Made-up pairs in files of 25,000 rows."""
    write_pairs(folder, rows, max(1, rows // ROWS_PER_FILE))


def run_filter(source: Path, output: Path, rows: int, cores: int) -> int:
    """filter-pairs."""
    return filter_rows(source, output, cores)["pairs_read"]


def prepare_crawl(folder: Path, rows: int) -> None:
    """WAT files of real pages with about so many pairs: one file under many names."""
    if not SHARED.is_dir():
        raise SystemExit("../shared with the real crawl is not beside this checkout; leave out `extract`.")
    folder.mkdir(parents=True)
    pages = real_pages(SHARED) + toy_pages(87)
    num_responses = 2 * min(rows, ROWS_PER_FILE) // 9  # 4.5 pairs a response where 60% have images
    made = write_wats(folder, pages, num_responses, (0.6,))[0.6]
    for number in range(max(1, rows // ROWS_PER_FILE)):
        os.link(made, folder / f"part-{number:05d}.warc.wat.gz")
    made.unlink()


def run_extract(source: Path, output: Path, rows: int, cores: int) -> int:
    """extract-pairs."""
    config = ExtractConfig(paths=(f"{source}/*.wat.gz",), spark=SparkConfig(master=f"local[{cores}]"))
    return extract_pairs(output=LocalFolder(output), config=config).counts["candidates_found"]


def prepare_hashes(folder: Path, rows: int) -> None:
    """Made-up hashes in files of 25,000 rows."""
    folder.mkdir(parents=True)
    hashes, thumbnails = made_up(rows)
    for number, places in enumerate(np.array_split(np.arange(rows), max(1, rows // ROWS_PER_FILE))):
        write_rows(folder / f"{number}.parquet", places, hashes[places], thumbnails[places])


def run_near_duplicates(source: Path, output: Path, rows: int, cores: int) -> int:
    """The near duplicates of curate-images, on Spark."""
    output.mkdir(parents=True)
    config = SparkConfig(master=f"local[{cores}]", driver_memory="3g", shuffle_partitions=8)
    with spark_session(config, output) as spark:
        find_on_spark(spark, str(source), BOUNDS)
    return rows


WORKS: dict[str, Work] = {"extract": run_extract, "filter": run_filter, "near-duplicates": run_near_duplicates}
PREPARE: dict[str, Callable[[Path, int], None]] = {
    "extract": prepare_crawl, "filter": prepare_pairs, "near-duplicates": prepare_hashes,
}  # fmt: skip

if __name__ == "__main__":
    main()
