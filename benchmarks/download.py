"""The guarded download-images job against img2dataset as it comes, on small JPEGs from a server on loopback.

    python benchmarks/download.py [images] [rounds]

Both run in turn with the same threads, units and image settings, in this process: Spark, which hands units to workers in
either case, is left out. Ours is the whole job: units planned, every address checked, robots.txt read, rates kept, images
opened before img2dataset decodes them, shards and tables published. The peer writes its own tars and stops there.
"""

import asyncio
import contextlib
import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import img2dataset  # type: ignore[import-untyped]
import numpy as np
import PIL.Image
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arm.data import download
from arm.data.config import DownloadConfig, HostException
from arm.data.downloader import QuietLogger
from arm.manifest import Manifest, entries_of
from arm.records import make_uid
from arm.storage import LocalFolder

IMAGES, ROUNDS, HOSTS, KINDS, SIDE, THREADS, UNIT = 5_000, 5, 50, 100, 224, 16, 500
UNGUARDED = {
    (module, name): getattr(sys.modules[f"img2dataset.{module}"], name)
    for module, name in (
        ("downloader", "download_image_with_retry"), ("downloader", "write_stats"), ("resizer", "SuppressStdoutStderr"),
    )
}  # fmt: skip
"""What a guarded run replaces in its process."""


class Site(asyncio.Protocol):
    """Answers every request with one of the pictures, robots.txt with 404; connections stay open unless asked."""

    pictures: ClassVar[list[bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.held = transport, b""

    def data_received(self, data: bytes) -> None:
        self.held += data
        while b"\r\n\r\n" in self.held:
            request, _, self.held = self.held.partition(b"\r\n\r\n")
            path = request.split(b" ", 2)[1]
            number = path.strip(b"/").partition(b".")[0]
            body = self.pictures[int(number) % KINDS] if number.isdigit() else b""
            status = b"200 OK" if body else b"404 Not Found"
            head = b"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            self.transport.write(head + body)  # type: ignore[attr-defined]
            if b"connection: close" in request.lower():
                self.transport.close()


def serve(answer: Connection) -> None:
    """Be the server: send the port and go on."""
    rng = np.random.default_rng(0)
    for _ in range(KINDS):
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=90)
        Site.pictures.append(buffer.getvalue())

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Site, "0.0.0.0", 0, backlog=1_024)
        answer.send((server.sockets[0].getsockname()[1], statistics.mean(map(len, Site.pictures))))
        await server.serve_forever()

    asyncio.run(run())


def main() -> None:
    """Measure both in turn and print the ratios."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    ours_end, server_end = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(server_end,), daemon=True)
    server.start()
    port, size = ours_end.recv()
    print(f"{images} JPEGs of {SIDE}² pixels, {size / 1000:.1f} KB, {HOSTS} hosts, {THREADS} threads", flush=True)
    download.spark_session = lambda *_: contextlib.nullcontext()  # type: ignore[assignment, attr-defined]
    sys.modules["img2dataset.main"].pyspark_distributor = in_this_process  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        pairs = make_pairs(Path(folder), images, port)
        runs: dict[str, Callable[[Path], int]] = {
            "guarded": lambda output: guarded(pairs, output, port),
            "img2dataset": lambda output: unguarded(pairs, output),
        }
        measure(runs, Path(folder), images, rounds)
    server.terminate()


def make_pairs(folder: Path, images: int, port: int) -> Manifest:
    """Pairs of `images` addresses on HOSTS hosts, all of them this machine."""
    rows = [
        {
            "uid": make_uid(str(number)), "url": f"http://127.0.1.{1 + number % HOSTS}:{port}/{number}.jpg",
            "caption": f"picture {number}", "kind": "img", "page_url": "http://a.test/", "language": "en",
        }
        for number in range(images)
    ]  # fmt: skip
    (folder / "in/pairs").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "in/pairs/part-00000.parquet")
    held = LocalFolder(folder / "in")
    return Manifest(
        kind="filtered-pairs", job="filter-pairs", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=entries_of(held), folder=held,
    )  # fmt: skip


def guarded(pairs: Manifest, output: Path, port: int) -> int:
    """The job, with the hosts of this machine declared."""
    hosts = (f"127.0.1.{1 + number}" for number in range(HOSTS))
    exceptions = tuple(HostException(host=f"{host}:{port}", address=host, port=port) for host in hosts)
    config = DownloadConfig(
        image_size=SIDE, unit_rows=UNIT, threads=THREADS, exceptions=exceptions,
        requests_per_second_per_host=1e6,
    )  # fmt: skip
    with contextlib.redirect_stderr(io.StringIO()):
        return download.download_images(pairs=pairs, output=LocalFolder(output), config=config).counts[
            "images_downloaded"
        ]


def unguarded(pairs: Manifest, output: Path) -> int:
    """img2dataset with the same settings, its logger silenced as in ours."""
    sys.modules["img2dataset.main"].LoggerProcess = QuietLogger  # type: ignore[attr-defined]
    for (module, name), value in UNGUARDED.items():
        setattr(sys.modules[f"img2dataset.{module}"], name, value)
    output.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        img2dataset.download(
            url_list=f"{pairs.folder.url}/pairs", output_folder=str(output / "out"), input_format="parquet",
            output_format="webdataset", url_col="url", caption_col="caption", thread_count=THREADS,
            save_additional_columns=["uid", "kind", "page_url", "language"], number_sample_per_shard=UNIT,
            image_size=SIDE, resize_mode="keep_ratio", resize_only_if_bigger=True, encode_format="jpg",
            encode_quality=95, extract_exif=False, compute_hash="sha256", distributor="pyspark",
        )  # fmt: skip
    tables = [pq.read_table(path, columns=["status"]) for path in (output / "out").glob("*.parquet")]
    return sum(table["status"].to_pylist().count("success") for table in tables)


def measure(runs: dict[str, Callable[[Path], int]], folder: Path, images: int, rounds: int) -> None:
    """The first round warms up; then the order changes from round to round."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in sorted(runs, reverse=bool(number % 2)):
            wall, cpu = time.perf_counter(), time.process_time()
            done = runs[name](folder / f"{name}-{number}")
            assert done == images, f"{name} brought {done} of {images}"
            if number:
                spent[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    for index, what in ((0, "wall"), (1, "CPU")):
        rates = {name: [images / pair[index] for pair in pairs] for name, pairs in spent.items()}
        ratios = sorted(a / b for a, b in zip(rates["guarded"], rates["img2dataset"], strict=True))
        print(
            f"{what}: guarded {statistics.median(rates['guarded']):,.0f} images/s, img2dataset "
            f"{statistics.median(rates['img2dataset']):,.0f} images/s, ratio {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {rounds} rounds)",
            flush=True,
        )


def in_this_process(_: int, downloader: Callable[[Any], Any], reader: Iterable[Any], *__: Any) -> None:
    """In place of img2dataset's Spark distributor."""
    for row in reader:
        downloader(row)


if __name__ == "__main__":
    main()
