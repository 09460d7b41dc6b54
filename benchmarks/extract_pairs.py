"""extract-pairs on a WAT file, whole (read, resolve, name, write Parquet), against cc2dataset 1.5's process_wat, which only yields.

    python benchmarks/extract_pairs.py [--responses 20000] [--rounds 3]

The files keep request, response and metadata records 1:1:1, with images in 0, 30, 60 and 100% of the responses; the pages
are those of the real crawl in ../shared and of the toy site. Records a second of CPU time; at the end every pair of the
peer is looked up: it is ours, or stands in our table of the dropped with a reason.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.parquet as pq
from _pairs import compare
from _wat import real_pages, toy_pages, write_wats
from cc2dataset import process_wat
from loguru import logger

from arm.data.config import ExtractConfig
from arm.data.extraction import extract_file
from arm.data.normalisation import canonical_url, normalise_caption

SHARES = (0.0, 0.3, 0.6, 1.0)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def main() -> None:
    """Build the files, check the pairs, then measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--responses", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not SHARED.is_dir():
        print("skipped: ../shared with the real crawl is not beside this checkout")
        return
    logger.remove()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = real_pages(SHARED) + toy_pages(87)
        for share, path in write_wats(folder, pages, options.responses, SHARES).items():
            check(path, folder / f"checked-{share}")
            title = f"{3 * options.responses:,} records, images in {share:.0%} of the responses"
            compare(
                title,
                lambda path=path: 3 * options.responses if ours(path, Path(tempfile.mkdtemp(dir=folder))) else 0,
                {"cc2dataset": lambda path=path: 3 * options.responses + 0 * peer(path)},
                rounds=options.rounds,
                clock=time.process_time,
            )


def ours(path: Path, output: Path) -> dict[str, int]:
    """The whole unit of work: the file's pairs and what was dropped, published as Parquet."""
    unit = {"index": 0, "name": path.name, "path": str(path)}
    return extract_file(unit, str(output), ExtractConfig(paths=(path.name,)))


def peer(path: Path) -> int:
    """Everything that the peer yields, in memory."""
    return len(list(process_wat(str(path), "image")))


def check(path: Path, output: Path) -> None:
    """Fail unless each pair of the peer is ours or dropped with a reason."""
    ours(path, output)
    kept = pq.read_table(output / "pairs", columns=["page_url", "url", "caption"]).to_pylist()
    dropped = pq.read_table(output / "dropped", columns=["page_url", "url", "caption"]).to_pylist()
    have = {(row["page_url"], row["url"], row["caption"]) for row in kept}
    lost = {(row["page_url"], row["caption"]) for row in dropped} | {
        (row["page_url"], None) for row in dropped if row["url"] is None
    }
    num_pairs = num_dropped = 0
    for _, url, alt, _, page in process_wat(str(path), "image"):
        num_pairs += 1
        if (page, canonical_url(url), normalise_caption(alt)) not in have:
            assert (page, alt) in lost or (page, None) in lost, (page, url, alt)
            num_dropped += 1
    print(
        f"{path.name}: {num_pairs:,} pairs of the peer, {num_dropped:,} of them in our table of the dropped, none lost"
    )


if __name__ == "__main__":
    main()
