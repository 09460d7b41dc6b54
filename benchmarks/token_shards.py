"""Random reads of single samples from token shards, against what else could hold codes.

    python benchmarks/token_shards.py

1,024 codes a sample (a 512 x 512 image), a warm page cache, one thread: what a shuffling loader does. Everybody gives
the codes of a sample with their shape: first untouched (a view, where the format allows one), then summed up, which
costs everybody the same. Rates count CPU time, so that other work on the machine does not show.

    bare memory map           np.load(mmap_mode="r")[row]: an array of one shape, no texts, no checksums
    memory map, ndarray       np.asarray of that map: no class of NumPy's that remembers the file, so its cheapest view
    flat memory map           the same with offset, height and width of each sample: any shape
    .npy in a tar, indexed    offset and size of each member known, so one seek and one read, then np.load
    .npy in a tar             tarfile.open(...).extractfile(name), its members listed once
    .npy a sample             np.load of a file
    Parquet                   the row group of 100 that holds the sample
"""

import io
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arm.manifest import Manifest, entries_of
from arm.model import token_shards
from arm.records import Image, Sample, make_uid
from arm.storage import LocalFolder
from benchmarks._pairs import compare

SAMPLES, SIDE, READS = 4_000, 32, 2_000
Use = Callable[[np.ndarray], bool]


def main() -> None:
    """Write the same samples in each format and read them in the same random order."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 65_536, (SAMPLES, SIDE, SIDE), dtype=np.uint16)
    order = rng.integers(0, SAMPLES, READS).tolist()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = write_ours(folder / "ours", codes)
        for row in order[:20]:
            (part,) = shard.parts(row)
            assert part.codes is not None
            assert (part.codes.reshape(part.height, part.width) == codes[row]).all()
        peers = write_peers(folder, codes)
        for title, use in {"codes with their shape": _view, "codes with their shape, summed up": _sum}.items():
            compare(
                title,
                lambda use=use: sum(use(shard.parts(row)[0].codes) for row in order),
                {name: lambda read=read, use=use: read(order, use) for name, read in peers.items()},
                clock=time.process_time,
            )


def write_ours(folder: Path, codes: np.ndarray) -> token_shards.Shard:
    """One token shard with its sidecar, opened as the loader opens it."""
    files = token_shards.ShardFiles("default", "benchmark-00000")
    for path in (files.shard, files.lengths, files.index):
        (folder / path).parent.mkdir(parents=True)
    image = Image(data=b"", format="png", height=512, width=512)
    samples = [
        Sample(uid=make_uid(str(row)), task="caption", parts=(image,), source="benchmark") for row in range(len(codes))
    ]
    identity = {"tokenizer_fingerprint": "f", "num_codes": 65_536}
    index = token_shards.write_shard(folder / files.shard, samples, list(codes), **identity)
    (folder / files.index).write_bytes(token_shards.index_bytes(index))
    lengths = [[[SIDE * SIDE + token_shards.SPECIALS_PER_IMAGE]]] * len(samples)
    batch = token_shards.lengths_batch(samples, list(codes), lengths, [False] * len(samples))
    token_shards.write_lengths(folder / files.lengths, [batch], text_fingerprint="t")
    local = LocalFolder(folder)
    manifest = Manifest(
        kind="token-shards", job="benchmark", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=entries_of(local), folder=local,
    )  # fmt: skip
    (shard,) = token_shards.open_shards(manifest, **identity)
    return shard


def write_peers(folder: Path, codes: np.ndarray) -> dict[str, Callable[[list[int], Use], int]]:
    """The same codes in the other formats, and how each is read."""
    np.save(folder / "all.npy", codes)
    with tarfile.open(folder / "codes.tar", "w") as archive:
        for row, grid in enumerate(codes):
            np.save(folder / f"{row}.npy", grid)
            archive.add(folder / f"{row}.npy", f"{row}.npy")
    pq.write_table(
        pa.table({"codes": list(codes.reshape(len(codes), -1))}), folder / "codes.parquet", row_group_size=100
    )
    mapped = np.load(folder / "all.npy", mmap_mode="r")
    tar = tarfile.open(folder / "codes.tar")  # noqa: SIM115 (open while the peer reads)
    places = {int(member.name[:-4]): (member.offset_data, member.size) for member in tar.getmembers()}
    raw, parquet = (folder / "codes.tar").open("rb", buffering=0), pq.ParquetFile(folder / "codes.parquet")

    plain = np.asarray(mapped)
    flat, starts = mapped.reshape(-1), np.arange(len(codes) + 1) * SIDE * SIDE
    heights = widths = np.full(len(codes), SIDE)

    def any_shape(row: int) -> np.ndarray:
        grid, _ = flat[starts[row] : starts[row + 1]], (int(heights[row]), int(widths[row]))
        return grid

    def indexed(row: int) -> np.ndarray:
        place, size = places[row]
        raw.seek(place)
        return np.load(io.BytesIO(raw.read(size)))

    def listed(row: int) -> np.ndarray:
        member = tar.extractfile(f"{row}.npy")
        assert member is not None
        return np.load(io.BytesIO(member.read()))

    def grouped(row: int) -> np.ndarray:
        return parquet.read_row_group(row // 100)["codes"][row % 100].values.to_numpy().reshape(SIDE, SIDE)

    def reader(read: Callable[[int], np.ndarray], share: int = 1) -> Callable[[list[int], Use], int]:
        return lambda order, use: sum(use(read(row)) for row in order[: len(order) // share])

    return {
        "bare memory map": reader(lambda row: mapped[row]),
        "memory map, ndarray": reader(lambda row: plain[row]),
        "flat memory map": reader(any_shape),
        ".npy in a tar, indexed": reader(indexed, 4),
        ".npy in a tar": reader(listed, 40),
        ".npy a sample": reader(lambda row: np.load(folder / f"{row}.npy"), 4),
        "Parquet": reader(grouped, 40),
    }


def _sum(codes: np.ndarray) -> bool:
    return codes.sum() > 0


def _view(codes: np.ndarray) -> bool:
    return codes.size > 0


if __name__ == "__main__":
    main()
