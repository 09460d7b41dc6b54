"""filter-pairs against the same rules in plain pandas, and how its cost per row grows.

    python benchmarks/filter_pairs.py                      100,000 rows
    python benchmarks/filter_pairs.py 100000 400000 1000000

Made-up pairs with the skew of a crawl: 5% carry one caption, 30% lie on one host, 2% are one logo on every page. The
languages told apart need no model for these captions: lingua costs everybody the same, and would hide the rest.

The peer is what one would write without Spark: read everything into one data frame, ask the same rules row by row, then
drop_duplicates and groupby. It holds everything in memory, leaves no decision table behind but one Parquet file each of
kept and dropped rows, and cannot go on after a kill. Both must drop the same numbers for the same reasons.

Costs are CPU seconds of the process and all its children, the JVM included, so that other work on the machine does not
show. Two cores cannot be had undisturbed on a busy machine: what is printed is the CPU time with two against one, which
bounds the speed-up (2.00 divided by the ratio), together with the share that no second core can take: this process and
the start of Spark, measured as a run over one row.
"""

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arm.data.config import FilterConfig, SparkConfig
from arm.data.extraction import PAIRS
from arm.data.filtering import filter_pairs
from arm.data.language import detect_languages
from arm.data.normalisation import pair_uid
from arm.data.rules import Pair, judge
from arm.data.tables import DROPPED, write_table
from arm.manifest import Manifest, entries_of
from arm.storage import LocalFolder

SIZES = (100_000,)
PARTS = 8
WORDS = [
    "red", "blue", "green", "old", "new", "small", "large", "house", "garden", "river", "stone", "wooden", "chair",
    "table", "lamp", "portrait", "view", "evening", "summer", "winter", "street", "market", "bird", "horse", "tower",
]  # fmt: skip
CONFIG = FilterConfig(candidate_languages=("ja", "ko"), rows_per_part=25_000)
CHILD_SUBREAPER = 36
"""prctl: orphans, like the JVM, become this process's children, so that their CPU time is counted."""


def main(sizes: tuple[int, ...]) -> None:
    """Run ours on one core and on two, and the peer, at each size, each in processes of their own."""
    ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        start = measured("1", write_pairs(Path(name) / "one", 1, 1), Path(name) / "one-out")[0]
        print(f"start of Spark and a run over one row: {start:.1f} CPU-s")
        for size in sizes:
            pairs = write_pairs(Path(name) / f"in-{size}", size, PARTS)
            runs = {how: measured(how, pairs, Path(name) / f"out-{size}-{how}") for how in ("1", "2", "pandas")}
            assert runs["1"][1] == runs["2"][1] == runs["pandas"][1], runs
            one, two, peer = (runs[how][0] for how in ("1", "2", "pandas"))
            print(f"{size:,} rows: ours {one:.1f} CPU-s on one core ({1e6 * one / size:.0f} us a row, ", end="")
            print(f"{1e6 * (one - start) / size:.0f} without the start), {two:.1f} on two (ratio {two / one:.2f})")
            print(
                f"  pandas {peer:.1f} CPU-s; ours {one / peer:.2f} times that, {(one - start) / peer:.2f} without the start"
            )


def measured(how: str, pairs: Path, output: Path) -> tuple[float, str]:
    """CPU seconds of one run with all its children, and what it counted."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, __file__, how, pairs, output], stdout=subprocess.PIPE, text=True, check=True)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def run_ours(pairs: Path, output: Path, cores: int) -> dict[str, int]:
    """filter-pairs on so many cores."""
    folder = LocalFolder(pairs)
    manifest = Manifest(
        kind="pairs", job="benchmark", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=entries_of(folder), folder=folder,
    )  # fmt: skip
    spark = SparkConfig(master=f"local[{cores}]")
    config = FilterConfig(candidate_languages=("ja", "ko"), rows_per_part=25_000, spark=spark)
    return filter_pairs(pairs=manifest, output=LocalFolder(output), config=config).counts


def run_pandas(pairs: Path, output: Path) -> dict[str, int]:
    """The same decisions in one data frame."""
    frame = pq.read_table(pairs / "pairs").to_pandas()
    frame["language"] = detect_languages(frame["caption"].tolist(), CONFIG.candidate_languages, 0.3)
    columns = zip(frame["url"], frame["caption"], frame["language"], strict=True)
    frame["reason"] = [judge(Pair(url=u, caption=c, language=language), CONFIG) for u, c, language in columns]
    fit = frame[frame["reason"].isna()]
    frame.loc[fit.index[fit.duplicated("uid")], "reason"] = "duplicate_pair"
    fit = frame[frame["reason"].isna()]
    repeats = fit.groupby("caption")["uid"].transform("size")
    frame.loc[fit.index[repeats > CONFIG.max_caption_repeats], "reason"] = "popular_caption"
    fit = frame[frame["reason"].isna()]
    frame.loc[fit.index[fit.groupby("url").cumcount() >= CONFIG.captions_per_url], "reason"] = "other_caption"
    output.mkdir()
    kept, dropped = frame[frame["reason"].isna()], frame[frame["reason"].notna()]
    for name, rows in {"kept": kept, "dropped": dropped}.items():
        pq.write_table(pa.Table.from_pandas(rows.sort_values("uid")), output / f"{name}.parquet", compression="zstd")
    counts = Counter({f"{DROPPED}{reason}": int(n) for reason, n in dropped["reason"].value_counts().items()})
    return dict(counts) | {"pairs_read": len(frame), "pairs_kept": len(kept)}


def write_pairs(folder: Path, num_rows: int, num_parts: int) -> Path:
    """Made-up pairs, the same for the same numbers."""
    per_part = num_rows // num_parts
    for part in range(num_parts):
        rng = np.random.default_rng((num_rows, part))
        words, chance = rng.integers(0, len(WORDS), (per_part, 5)), rng.random((per_part, 5))
        images = rng.integers(0, num_rows, per_part)
        rows = [_row(n, words[n], chance[n], int(images[n]), f"part-{part}") for n in range(per_part)]
        write_table(LocalFolder(folder), f"pairs/part-{part:05d}.parquet", pa.Table.from_pylist(rows, PAIRS), {})
    return folder


def _row(number: int, words: np.ndarray, chance: np.ndarray, image: int, file: str) -> dict[str, object]:
    host = "big.test" if chance[0] < 0.3 else f"h{int(20_000 * chance[1] ** 3)}.test"
    url, caption = f"http://{host}/images/{image}.jpg", " ".join(WORDS[word] for word in words)
    if chance[2] < 0.5:
        caption += f" {image % 50}"
    if chance[3] < 0.15:
        caption = "product image of our shop" if chance[3] < 0.05 else "red"
    if chance[4] < 0.02:
        url, caption = "http://big.test/logo.png", "our logo with a bird"
    place = {
        "position": number % 50,
        "page_url": f"http://{host}/p/{number // 50}.html",
        "file": file,
        "offset": number,
    }
    return {"uid": pair_uid(url, caption), "url": url, "caption": caption, "kind": "alt", "attribute": "src"} | place


def run(how: str, pairs: str, output: str) -> None:
    """One measured run: print the counts that both can give."""
    counts = run_pandas(Path(pairs), Path(output)) if how == "pandas" else run_ours(Path(pairs), Path(output), int(how))
    print(
        sorted(
            (name, n) for name, n in counts.items() if name.startswith(DROPPED) or name in ("pairs_read", "pairs_kept")
        )
    )


if __name__ == "__main__":
    if len(sys.argv) == 4 and not sys.argv[2].isdigit():
        run(*sys.argv[1:])
    else:
        main(tuple(map(int, sys.argv[1:])) or SIZES)
