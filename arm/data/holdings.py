"""The index of one artifact: which samples it holds, in which file and row, and what they can be taken down by.

    <store>/tombstones/index/1a2b…/places-00.parquet   uid  file  row  tokens     in buckets by the first byte of the uid
                                   keys-00.parquet     key  uid                   in buckets by the first byte of the key
                                   index.json          files, their samples and tokens, the number of buckets; written last

A key is a 128-bit hash of `url http://img.a.test/1.png`, `domain img.a.test`, `domain a.test` or `sha256 9f86…`. A sample has one for
every address (of the image and of the page, whatever the field is called), for every host of these and what it lies in,
and for every checksum: those noted by the download, of the image as it was served, and those of the images as they are
stored. The index is made when a takedown, or a job that reads the artifact after one, first asks: one pass over its
files. After that a takedown reads the buckets that its entries fall into.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm import tombstones
from arm.data.normalisation import canonical_url
from arm.data.sample_rows import Found, rows_of
from arm.manifest import FileEntry, Manifest
from arm.storage import Folder
from arm.tombstones import Held

PLACES = pa.schema([("uid", pa.binary(16)), ("file", pa.int32()), ("row", pa.int64()), ("tokens", pa.int64())])
KEYS = pa.schema([("key", pa.binary(16)), ("uid", pa.binary(16))])
SMALL_BYTES = 1 << 30
"""An artifact below this size gets one bucket, a larger one MANY: ours."""
MANY = 64
FLUSH_ROWS = 1 << 16
INDEX = "index.json"
UNREAD = ("lengths/", "plan/", "ledger/")
"""Tables that name no sample which another file of the artifact does not."""


@dataclass(frozen=True, slots=True)
class Place:
    """A row of an artifact's file."""

    uid: str
    file: str
    row: int
    tokens: int
    """Tokens of the sample in a token shard; 0 elsewhere."""


@dataclass(frozen=True, slots=True)
class Index:
    """The finished index of an artifact."""

    folder: Folder
    files: tuple[str, ...]
    samples: tuple[int, ...]
    """Rows of each file."""
    tokens: tuple[int, ...]
    buckets: int

    def uids_of(self, entries: tombstones.Entries) -> frozenset[str]:
        """The uids that the entries refuse."""
        words = ((kind, value) for kind in ("url", "domain", "sha256") for value in entries.get(kind, ()))
        found = {uid.hex() for uid in self._read("keys", "key", {key_of(*word) for word in words})["uid"].to_pylist()}
        return frozenset(found | {place.uid for place in self.places(entries.get("uid", ()))})

    def places(self, uids: Iterable[str]) -> list[Place]:
        """Every row of some samples, by file and row."""
        table = self._read("places", "uid", {bytes.fromhex(uid) for uid in uids})
        columns = (table[name].to_pylist() for name in ("uid", "file", "row", "tokens"))
        found = [
            Place(uid.hex(), self.files[file], row, tokens) for uid, file, row, tokens in zip(*columns, strict=True)
        ]
        return sorted(found, key=lambda place: (place.file, place.row))

    def _read(self, name: str, column: str, wanted: Collection[bytes]) -> pa.Table:
        """The rows whose column is one of the wanted, from the buckets that these fall into."""
        layout = PLACES if name == "places" else KEYS
        tables = [layout.empty_table()]
        for bucket in sorted({key[0] % self.buckets for key in wanted}):
            table = pq.read_table(self.folder.fetch(_bucket_name(name, bucket)), schema=layout)
            tables.append(table.filter(pc.is_in(table[column], pa.array(sorted(wanted), pa.binary(16)))))
        return pa.concat_tables(tables)


def look_up(store: str, manifest: Manifest) -> Held:
    """What an artifact holds of a store's tombstones as they are now; remembered beside them."""
    versions, held = tombstones.read_versions(store), tombstones.read_held(store, manifest.digest) or Held(0, {})
    index, uids = open_index(store, manifest), dict(held.uids)
    known = held.until(held.state)
    for version in versions[held.state :]:
        uids[version.number] = tuple(sorted(index.uids_of(version.entries) - known))
        known |= frozenset(uids[version.number])
    found = Held(len(versions), uids)
    tombstones.write_held(store, manifest.digest, found)
    return found


def open_index(store: str, manifest: Manifest) -> Index:
    """The index of an artifact, made unless it is there."""
    folder = tombstones.folder_of(store).child(f"index/{manifest.digest[:32]}")
    if not folder.exists(INDEX):
        _make(folder, manifest)
    values = json.loads(folder.read(INDEX))
    return Index(folder, tuple(values["files"]), tuple(values["samples"]), tuple(values["tokens"]), values["buckets"])


def _make(folder: Folder, manifest: Manifest) -> None:
    """One pass over the files of an artifact."""
    entries = [entry for entry in manifest.files if is_indexed(entry)]
    buckets = 1 if sum(entry.bytes for entry in entries) < SMALL_BYTES else MANY
    samples, tokens = [0] * len(entries), [0] * len(entries)
    with (
        tempfile.TemporaryDirectory() as scratch,
        _Buckets(folder, scratch, "places", PLACES, buckets) as places,
        _Buckets(folder, scratch, "keys", KEYS, buckets) as keys,
    ):
        for number, entry in enumerate(entries):
            for row, found in enumerate(rows_of(manifest, entry)):
                uid = bytes.fromhex(found.uid)
                places.add(uid, number, row, found.tokens)
                for key in keys_of(found):
                    keys.add(key, uid)
                samples[number], tokens[number] = row + 1, tokens[number] + found.tokens
    values = {"files": [entry.path for entry in entries], "samples": samples, "tokens": tokens, "buckets": buckets}
    folder.write(INDEX, (json.dumps(values, sort_keys=True) + "\n").encode())


def is_indexed(entry: FileEntry) -> bool:
    """Whether a file may hold rows of samples."""
    return entry.path.endswith((".parquet", ".tar", ".arrow")) and not entry.path.startswith(UNREAD)


def keys_of(found: Found) -> set[bytes]:
    """All keys of a sample."""
    keys = {key_of("sha256", checksum) for checksum in found.checksums}
    return keys.union(*(_keys_of_address(address) for address in found.addresses))


def key_of(kind: str, value: str) -> bytes:
    """The key of an entry."""
    return hashlib.blake2b(f"{kind} {value}".encode(), digest_size=16).digest()


def hosts_of(host: str) -> list[str]:
    """A host and what it lies in, down to two labels; a host of one label is itself.

    img.a.test  ->  ["img.a.test", "a.test"]
    """
    labels = host.split(".")
    return [".".join(labels[start:]) for start in range(max(len(labels) - 1, 1))]


@lru_cache(maxsize=1 << 16)
def _keys_of_address(address: str) -> frozenset[bytes]:
    url = canonical_url(address)
    if url is None:
        return frozenset()
    host = url.split("/", 3)[2].rpartition("@")[2]
    return _keys_of_host(host.partition(":")[0]) | {key_of("url", url)}


@lru_cache(maxsize=1 << 16)
def _keys_of_host(host: str) -> frozenset[bytes]:
    return frozenset(key_of("domain", name) for name in hosts_of(host))


class _Buckets:
    """Writes rows into buckets by their first column; memory holds FLUSH_ROWS of each at most."""

    def __init__(self, folder: Folder, scratch: str, name: str, layout: pa.Schema, count: int) -> None:
        self._folder, self._layout = folder, layout
        self._rows: list[list[tuple[bytes | int, ...]]] = [[] for _ in range(count)]
        self._paths = [Path(scratch) / _bucket_name(name, number) for number in range(count)]
        options = {"compression": "zstd", "use_dictionary": False}  # a sample's keys repeat its uid, no dictionary pays
        self._writers = [pq.ParquetWriter(path, layout, **options) for path in self._paths]

    def __enter__(self) -> "_Buckets":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, (writer, path) in enumerate(zip(self._writers, self._paths, strict=True)):
            self._flush(number)
            writer.close()
            if kind is None:
                with self._folder.publish(path.name) as target:
                    shutil.copyfile(path, target)

    def add(self, key: bytes, *others: bytes | int) -> None:
        """Add a row to the bucket of its first column."""
        number = key[0] % len(self._rows)
        rows = self._rows[number]
        rows.append((key, *others))
        if len(rows) >= FLUSH_ROWS:
            self._flush(number)

    def _flush(self, number: int) -> None:
        columns = list(zip(*self._rows[number], strict=True)) or [()] * len(self._layout)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._layout, strict=True)]
        self._writers[number].write_table(pa.Table.from_arrays(arrays, schema=self._layout))
        self._rows[number] = []


def _bucket_name(name: str, bucket: int) -> str:
    return f"{name}-{bucket:02d}.parquet"
