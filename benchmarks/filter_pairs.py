"""filter-pairs against the same rules in plain pandas, and how its cost per row grows.

    python benchmarks/filter_pairs.py                      100,000 rows
    python benchmarks/filter_pairs.py 100000 400000 1000000

Made-up pairs with the skew of a crawl: 5% carry one caption, 30% lie on one host, 2% are one logo on every page. The
languages told apart need no model for these captions: lingua costs everybody the same, and would hide the rest.

The peer is what one would write without Spark: read everything into one data frame, ask the same rules row by row, then
drop_duplicates and groupby. It holds everything in memory, leaves no decision table behind but one Parquet file each of
kept and dropped rows, and cannot go on after a kill. Both must drop the same numbers for the same reasons.

Costs are CPU seconds of this process and all below it, the JVM included, so that other work on the machine does not show;
the first run, over 1,000 rows, warms up and is printed by itself. Two cores cannot be had undisturbed on a busy machine:
what is printed is the CPU time with two cores against one, which bounds the speed-up (2 divided by the ratio, if no
task waits for another), and the share of this process, which no second core can take.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def main(sizes: tuple[int, ...]) -> None:
    """Run ours on one core and on two, and the peer, at each size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = measured(run_ours, write_pairs(folder / "warm", 1_000, 1), folder / "warm-out", 2)
        print(f"start of Spark and a run over 1,000 rows: {first[0]:.1f} CPU-s", flush=True)
        for size in sizes:
            pairs = write_pairs(folder / f"in-{size}", size, PARTS)
            one, alone, counts = measured(run_ours, pairs, folder / f"one-{size}", 1)
            two, _, same = measured(run_ours, pairs, folder / f"two-{size}", 2)
            peer, _, theirs = measured(run_pandas, pairs, folder / f"pandas-{size}")
            assert common(counts) == common(same) == common(theirs), (counts, same, theirs)
            print(
                f"{size:,} rows: ours {1e6 * one / size:.0f} us a row on one core, of which {alone / one:.0%} in this "
                f"process; on two {two / one:.2f} times that; pandas {1e6 * peer / size:.0f} us a row, "
                f"ours {one / peer:.2f} times that",
                flush=True,
            )


def measured(work: Callable[..., dict[str, int]], *arguments: Any) -> tuple[float, float, dict[str, int]]:
    """CPU seconds of a call with all processes below this one, those of this process alone, and the call's counts."""
    everything, alone = cpu_seconds(), time.process_time()
    counts = work(*arguments)
    return cpu_seconds() - everything, time.process_time() - alone, counts


def cpu_seconds() -> float:
    """CPU time of this process and of all below it, the ended ones included."""
    below: dict[int, list[tuple[int, int]]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append((int(path.parent.name), sum(map(int, fields[11:15]))))

    def ticks(process: int) -> int:
        return sum(own + ticks(child) for child, own in below.get(process, []))

    return time.process_time() + ticks(os.getpid()) / os.sysconf("SC_CLK_TCK")


def common(counts: dict[str, int]) -> dict[str, int]:
    """The counts that both give."""
    return {n: value for n, value in counts.items() if n.startswith(DROPPED) or n in ("pairs_read", "pairs_kept")}


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


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
