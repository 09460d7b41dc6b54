"""New versions of artifacts without what was taken down: the same files, those that held it written anew without it.

    12-curate-images/1a2b…/shards/crawl-00000.tar      held two of 200 samples
                     9c8d…/shards/crawl-00000.tar      198 samples, in their order
                     9c8d…/shards/crawl-00001.tar      the same bytes, linked where the disk allows it
                     current.json                      points to 9c8d… if it pointed to 1a2b…
                     compacted/1a2b….json              9c8d… stands in for 1a2b…, should that be deleted

The old version stays: what was made of it needs it, and its owner deletes it when nothing does. The new one is another
artifact with another digest, so a stage of training on it is another stage. A killed compaction goes on at the file where
it was.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm import jobs, tombstones
from arm import manifest as manifests
from arm.data.holdings import look_up, open_index
from arm.data.shards import read_shard, write_shard
from arm.data.tables import keep_allowed
from arm.lock import output_lock
from arm.manifest import FileEntry, Manifest
from arm.model.token_shards import ShardFiles, ShardWriter, index_bytes, write_lengths
from arm.storage import Folder, copy_file, open_folder
from arm.takedown.impact import COMPACTION, DATA
from arm.tracking import lineage
from arm.tracking.spool import store_of

VERSION = 2
SOURCE = "compacted"
REMEMBERED = "pairs_remembered"
"""The count of rows under seen/, without which the next crawl's filter-pairs refuses them."""
ASKED = "urls_read"
"""A count of what was asked for, which a takedown does not change: the next attempt of a download takes its share of it."""


def compact_artifact(store: str, manifest: Manifest) -> Manifest | None:
    """Publish a version of an artifact without what a store took down; None when it holds nothing of it, or when a version
    stands in for it already."""
    family = store_of(manifest.folder.url)
    uids = look_up(store, manifest).until(2**31)
    if not uids or open_folder(family).exists(f"compacted/{manifest.key[:16]}.json"):
        return None
    inputs = {SOURCE: manifest.digest, "tombstones": tombstones.digest_of(uids)}
    key = hashlib.sha256(json.dumps([COMPACTION, VERSION, {}, inputs], sort_keys=True).encode()).hexdigest()
    folder = open_folder(family).child(key[:16])
    with output_lock(folder, COMPACTION):
        if not folder.exists(manifests.NAME):
            folder.sweep()
            _write_files(store, manifest, folder, uids)
            _publish(_described(store, manifest, folder, key, inputs, uids), manifest, inputs, family)
        made = manifests.load(folder.url)
        _point(made, manifest, family)
    return made


def _write_files(store: str, manifest: Manifest, folder: Folder, uids: Collection[str]) -> None:
    touched = {place.file for place in open_index(store, manifest).places(uids)}
    token_shards = {path for path in touched if path.endswith(".arrow")}
    units = [ShardFiles(Path(path).parts[1], Path(path).stem) for path in sorted(token_shards)]
    beside = {name for unit in units for name in (unit.lengths, unit.index)}
    for unit in units:
        if not folder.exists(unit.index):
            _write_token_shard(manifest, folder, unit, uids)
    for entry in manifest.files:
        if entry.path not in beside | token_shards and not folder.exists(entry.path):
            _write_file(manifest, folder, entry, uids if entry.path in touched else ())


def _write_file(manifest: Manifest, folder: Folder, entry: FileEntry, uids: Collection[str]) -> None:
    """One file, without the rows of some uids."""
    source = manifest.local(entry)
    with folder.publish(entry.path) as path:
        if not uids:
            copy_file(source, path)
        elif entry.path.endswith(".tar"):
            write_shard(path, read_shard(source, uids))
        else:
            pq.write_table(keep_allowed(pq.read_table(source), uids), path, compression="zstd")


def _write_token_shard(manifest: Manifest, folder: Folder, unit: ShardFiles, uids: Collection[str]) -> None:
    """A token shard, its sidecar, and last its index."""
    refused = pa.array([bytes.fromhex(uid) for uid in sorted(uids)], pa.binary(16))
    with pa.memory_map(str(manifest.local(unit.shard))) as source, folder.publish(unit.shard) as path:
        reader = pa.ipc.open_file(source)
        with ShardWriter(path, reader.schema) as writer:
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                kept = batch.filter(pc.invert(pc.is_in(batch["uid"], refused)))
                if len(kept):
                    writer.write(kept)
    lengths = pq.read_table(manifest.local(unit.lengths))
    fingerprint = lengths.schema.metadata[b"text_fingerprint"].decode()
    with folder.publish(unit.lengths) as path:
        write_lengths(path, keep_allowed(lengths, uids).combine_chunks().to_batches(), text_fingerprint=fingerprint)
    folder.write(unit.index, index_bytes(writer.index))


def _described(
    store: str, manifest: Manifest, folder: Folder, key: str, inputs: dict[str, str], uids: Collection[str]
) -> Manifest:
    """The manifest of the new version; its counts say what is left, its inputs what the old one was made from, too: the
    next crawl and the next attempt ask for both, and the old version may be deleted by then."""
    index = open_index(store, manifest)
    rows = sum(samples for file, samples in zip(index.files, index.samples, strict=True) if file.startswith(DATA))
    places = index.places(uids)
    gone = sum(place.file.startswith(DATA) for place in places)
    counts = {"samples_read": rows, "samples_kept": rows - gone, "dropped/tombstone": gone}
    if REMEMBERED in manifest.counts:
        forgotten = sum(place.file.startswith("seen/") for place in places)
        counts[REMEMBERED] = manifest.counts[REMEMBERED] - forgotten
    if ASKED in manifest.counts:
        counts[ASKED] = manifest.counts[ASKED]
    return Manifest(
        kind=manifest.kind, job=COMPACTION, version=VERSION, key=key, config=manifest.config,
        inputs={**manifest.inputs, **inputs}, counts=counts, metrics={}, files=manifests.entries_of(folder),
        licences=manifest.licences, folder=folder,
    )  # fmt: skip


def _publish(made: Manifest, manifest: Manifest, inputs: dict[str, str], family: str) -> None:
    """Note the lineage, write the manifest last."""
    job = jobs.Job(
        name=COMPACTION, phase="data", purpose="", function="", config="", inputs=(jobs.Input(SOURCE),), makes=made.kind
    )
    run = jobs.Plan(job=job, config={}, inputs={SOURCE: manifest}, digests=inputs, key=made.key, output=family)
    lineage.note(run, made)
    record = {"job": COMPACTION, "key": made.key, "inputs": {SOURCE: manifest.url}}
    made.folder.write("run.json", (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    made.folder.write_if_absent(manifests.NAME, made.to_json())
    made.folder.discard_scratch()
    lineage.settle(store_of(family))


def _point(made: Manifest, manifest: Manifest, family: str) -> None:
    """Let the family's pointer follow if it points to the old version; then note who stands in for that."""
    folder = open_folder(family)
    if folder.exists("current.json") and json.loads(folder.read("current.json"))["digest"] == manifest.digest:
        manifests.point(family, made)
    manifests.replace_by(family, manifest.key, made)
