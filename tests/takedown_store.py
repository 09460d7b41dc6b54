"""A store of eleven samples, worked out by hand, from pairs to a trained model, for the tests of takedown.

10-filter-pairs       pairs of c0 … c7, two of them on bad.test           11-download-images   the same as image shards
14-tokenize-images    default/a-00000: t0 t1 t2, a-00001: t3 t4, b-00000: c0 … c7       texts of 5, images of 9 + 2 tokens
16-train-model        made_up_ledger's five steps over these shards        23-register-model    a release of it
"""

import dataclasses
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
from made_up_ledger import STEPS, record, write_plan
from made_up_ledger import publish as publish_run

from arm.data.judging import KEPT
from arm.data.normalisation import pair_uid
from arm.data.shards import write_shard as write_tar
from arm.data.tables import write_table
from arm.manifest import NAME, Manifest, entries_of, load, point
from arm.model.token_shards import ShardFiles, index_bytes, lengths_batch, write_lengths, write_shard
from arm.records import Image, Sample, Text, make_uid
from arm.storage import LocalFolder

URLS = [f"http://img.fine.test/{number}.png" for number in range(8)]
URLS[2], URLS[7] = "http://cdn.bad.test/2.png", "http://bad.test/7.png"
UIDS = [pair_uid(url, f"caption {number}") for number, url in enumerate(URLS)]
TEXTS = [make_uid(f"text {number}") for number in range(5)]
FINGERPRINT = "f" * 64


def make_store(store: Path) -> dict[str, Manifest]:
    """Write the store; returns its artifacts."""
    made = {}
    pairs = store / "10-filter-pairs" / ("1" * 16)
    write_table(LocalFolder(pairs), "pairs/part-00000.parquet", pairs_table(), {"pairs_read": 8, "pairs_kept": 8})
    made["pairs"] = publish(pairs, "filtered-pairs", "filter-pairs")
    images = store / "11-download-images" / ("2" * 16)
    (images / "shards").mkdir(parents=True)
    for number, part in enumerate((slice(0, 4), slice(4, 8))):
        write_tar(images / "shards" / f"crawl-{number:05d}.tar", [captioned(i) for i in range(8)[part]])
    made["images"] = publish(images, "image-shards", "download-images", pairs=made["pairs"])
    tokens = store / "14-tokenize-images" / ("3" * 16)
    write_tokens(tokens)
    made["tokens"] = publish(tokens, "token-shards", "tokenize-images", images=made["images"])
    made["model"] = train(store / "16-train-model-pretrain" / ("4" * 16), made["tokens"])
    release = store / "23-register-model" / ("5" * 16)
    LocalFolder(release).write("release.json", b"{}")
    made["release"] = publish(release, "release", "register-model", model=made["model"])
    return made


def publish(folder: Path, kind: str, job: str, **inputs: Manifest) -> Manifest:
    """Write the manifest of what lies in a folder, and point to it."""
    local = LocalFolder(folder)
    made = Manifest(
        kind=kind, job=job, version=1, key=folder.name * 4, config={}, counts={}, metrics={}, files=entries_of(local),
        inputs={name: item.digest for name, item in inputs.items()}, folder=local,
    )  # fmt: skip
    (folder / NAME).write_bytes(made.to_json())
    point(str(folder.parent), made)
    return made


def pairs_table() -> pa.Table:
    """The pairs of c0 … c7, as filter-pairs keeps them."""
    rows = [
        {
            "uid": uid,
            "url": url,
            "caption": f"caption {number}",
            "kind": "alt",
            "page_url": f"http://blog.test/{number}",
        }
        for number, (uid, url) in enumerate(zip(UIDS, URLS, strict=True))
    ]
    return pa.Table.from_pylist(rows, KEPT)


def picture(number: int) -> bytes:
    """A PNG of one colour."""
    stream = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (number, 0, 0)).save(stream, "png")
    return stream.getvalue()


def captioned(number: int) -> Sample:
    """Sample c`number`; what the download noted of it is its checksum as served, 64 times the number."""
    image = Image(data=picture(number), format="png", height=8, width=8)
    meta = {"url": URLS[number], "page_url": f"http://blog.test/{number}", "sha256": str(number) * 64}
    parts = (image, Text(text=f"caption {number}", role="caption"))
    return Sample(uid=UIDS[number], task="caption", parts=parts, source="crawl", meta=meta)


def write_tokens(folder: Path) -> None:
    """Token shards whose names and rows are those of the made-up ledger."""
    texts = [Sample(uid=uid, task="text", parts=(Text(text="a b c d e"),), source="books") for uid in TEXTS]
    captions = [dataclasses.replace(captioned(number), scores={}) for number in range(8)]
    for unit, samples in (("a-00000", texts[:3]), ("a-00001", texts[3:]), ("b-00000", captions)):
        files, grids = (
            ShardFiles("default", unit),
            [np.full((2, 2), 3, np.uint16) for s in samples if len(s.parts) == 2],
        )
        for name in (files.shard, files.lengths, files.index):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        identity = {"tokenizer_fingerprint": FINGERPRINT, "num_codes": 8}
        index = write_shard(folder / files.shard, samples, grids, **identity, batch_rows=3)
        (folder / files.index).write_bytes(index_bytes(index))
        lengths = [[[5]] if len(sample.parts) == 1 else [[9], [2]] for sample in samples]
        batch = lengths_batch(samples, grids, lengths, [False] * len(samples))
        write_lengths(folder / files.lengths, [batch], text_fingerprint="e" * 64)


def train(folder: Path, tokens: Manifest) -> Manifest:
    """The made-up run: c7 is read at the steps 0 and 4 (9 tokens each), c3 at step 2 (8), of 59 tokens."""
    folder.mkdir(parents=True)
    record(folder, STEPS)
    write_plan(folder, STEPS)
    made = publish_run(folder)
    inputs = {"tokens": tokens.digest, "base": "0" * 64}
    (folder / NAME).write_bytes(dataclasses.replace(made, inputs=inputs, key=folder.name * 4).to_json())
    point(str(folder.parent), load(str(folder)))
    return load(str(folder))
