"""Random reads of single samples: our Arrow IPC token shards against a .npy file a sample, and against Parquet.

    python benchmarks/token_shards.py

1,024 codes a sample (a 512 x 512 image), a warm page cache, one thread: what a shuffling loader does.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arm.manifest import FileEntry, Manifest
from arm.model import token_shards
from arm.storage import LocalFolder, sha256_of
from benchmarks._pairs import compare

SAMPLES, CODES, READS = 4_000, 1_024, 2_000


def main() -> None:
    """Write the same samples in three formats and read them in the same random order."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 65_536, (SAMPLES, CODES), dtype=np.uint16)
    order = rng.integers(0, SAMPLES, READS).tolist()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = write_ours(folder, codes)
        write_files(folder, codes)
        pq.write_table(pa.table({"codes": list(codes)}), folder / "codes.parquet", row_group_size=100)
        parquet = pq.ParquetFile(folder / "codes.parquet")
        compare(
            "random single-sample reads",
            lambda: sum(shard.parts(row)[0].codes.sum() > 0 for row in order),
            {
                "numpy, a file a sample": lambda: sum(np.load(folder / f"{row}.npy").sum() > 0 for row in order),
                "pyarrow, Parquet row groups of 100": lambda: read_parquet(parquet, order[:50]),
            },
        )


def write_ours(folder: Path, codes: np.ndarray) -> token_shards.Shard:
    """One token shard with its sidecar, opened as the loader opens it."""
    rows = [
        {
            "uid": index.to_bytes(16, "big"), "task": "caption", "source": "benchmark", "licence": "", "meta": "{}",
            "parts": [{"kind": "image", "role": "", "text": "", "codes": row, "height": 32, "width": 32}],
        }
        for index, row in enumerate(codes)
    ]  # fmt: skip
    (folder / "shards").mkdir()
    (folder / "lengths").mkdir()
    token_shards.write_shard(folder / "shards/a.arrow", rows, tokenizer_fingerprint="f", num_codes=65_536)
    lengths, held_out = [[CODES + 5]] * len(rows), [False] * len(rows)
    token_shards.write_lengths(folder / "lengths/a.parquet", lengths, held_out, text_fingerprint="t")
    files = tuple(
        FileEntry(path=name, bytes=(folder / name).stat().st_size, sha256=sha256_of(folder / name))
        for name in ("lengths/a.parquet", "shards/a.arrow")
    )
    manifest = Manifest(
        kind="token-shards", job="benchmark", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=files, folder=LocalFolder(folder),
    )  # fmt: skip
    (shard,) = token_shards.open_shards(manifest, tokenizer_fingerprint="f", num_codes=65_536)
    return shard


def write_files(folder: Path, codes: np.ndarray) -> None:
    """One .npy file a sample."""
    for index, row in enumerate(codes):
        np.save(folder / f"{index}.npy", row)


def read_parquet(table: pq.ParquetFile, order: list[int]) -> int:
    """The row group that holds the sample, then the sample."""
    return sum(table.read_row_group(row // 100)["codes"][row % 100].values.to_numpy().sum() > 0 for row in order)


if __name__ == "__main__":
    main()
