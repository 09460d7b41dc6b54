"""Cold sequential streaming of token shards out of S3 through the local cache: bytes fetched ÷ bytes used.

    python benchmarks/stream_shards.py

moto's S3 server stands behind a proxy that counts every byte it sends, headers and manifests included. The cache starts
empty and has room for two shards and a half of eight; every code is read. Peer: boto3's own download of the same files.
"""

import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import boto3
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from counting_proxy import counting_proxy
from moto.server import ThreadedMotoServer

from arm import manifest
from arm.manifest import NAME, Manifest, entries_of
from arm.model import token_shards
from arm.records import Image, Sample, make_uid
from arm.storage import open_folder

SHARDS, SAMPLES, SIDE = 8, 4_000, 32
IDENTITY = {"tokenizer_fingerprint": "f", "num_codes": 65_536}


def main() -> None:
    """Upload shards, then read them all, cold, and print the ratio and the peer's."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with tempfile.TemporaryDirectory() as cache, counting_proxy(f"http://{host}:{port}") as proxy:
        os.environ.update(
            AWS_ENDPOINT_URL_S3=proxy.address, AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="us-east-1", ARM_CACHE_DIR=f"{cache}/writer",
        )  # fmt: skip
        boto3.client("s3", endpoint_url=proxy.address, region_name="us-east-1").create_bucket(Bucket="shards")
        size = upload("s3://shards/tokens")
        os.environ.update(ARM_CACHE_DIR=f"{cache}/reader", ARM_CACHE_BYTES=str(size * 5 // 2))
        for name, read in {"ours": stream, "boto3": download}.items():
            before, started = proxy.num_bytes, time.perf_counter()
            used = read("s3://shards/tokens", Path(cache))
            fetched, seconds = proxy.num_bytes - before, time.perf_counter() - started
            print(
                f"{name}: {fetched / 1e6:.1f} MB fetched for {used / 1e6:.1f} MB used, ratio {fetched / used:.4f}, {seconds:.1f} s"
            )
        kept = sum(path.stat().st_size for path in Path(cache, "reader").rglob("*.arrow"))
        print(f"the cache holds {kept / 1e6:.1f} MB of {int(os.environ['ARM_CACHE_BYTES']) / 1e6:.1f} MB allowed")
    server.stop()


def upload(url: str) -> int:
    """Write the shards and their manifest; return the size of one."""
    folder, rng = open_folder(url), np.random.default_rng(0)
    image = Image(data=b"", format="png", height=512, width=512)
    for number in range(SHARDS):
        samples = [
            Sample(uid=make_uid(f"{number} {row}"), task="caption", parts=(image,), source="s")
            for row in range(SAMPLES)
        ]
        codes = list(rng.integers(0, 65_536, (SAMPLES, SIDE, SIDE), dtype=np.uint16))
        files = token_shards.ShardFiles("default", f"s-{number:05d}")
        with folder.publish(files.shard) as path:
            token_shards.write_shard(path, samples, codes, **IDENTITY)
            size = path.stat().st_size
    found = Manifest(
        kind="token-shards", job="benchmark", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=entries_of(folder), folder=folder,
    )  # fmt: skip
    folder.write(NAME, found.to_json())
    return size


def stream(url: str, cache: Path) -> int:
    """Read every shard in order, verified; return the bytes of the shards."""
    tokens = manifest.load(url)
    entries = tokens.select("shards/", ".arrow")
    return sum(len(path.read_bytes()) for path in tokens.stream(entries))


def download(url: str, cache: Path) -> int:
    """The same files by boto3, unverified."""
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], region_name="us-east-1")
    used = 0
    for item in client.list_objects_v2(Bucket="shards", Prefix="tokens/shards/")["Contents"]:
        target = cache / Path(item["Key"]).name
        client.download_file("shards", item["Key"], str(target))
        used += target.stat().st_size
        target.unlink()
    return used


if __name__ == "__main__":
    main()
