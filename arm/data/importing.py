"""import-samples: data sets that exist already become the same image shards that a crawl becomes.

shards/<name>-00000.tar    samples of one source, in its own order
counts/<name>.json         samples_read = samples_imported + dropped/bad_image + ...; written last, so a source is done or not
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from arm.data.config import ImportSamplesConfig, ImportSource
from arm.data.formats import FORMATS, Dropped
from arm.data.shards import write_shard
from arm.data.tables import add_counts, check_balance
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.outside import matches, outside_files
from arm.progress import track
from arm.records import Sample, Text
from arm.storage import Folder


def import_samples(*, output: Folder, config: ImportSamplesConfig, source: Manifest | None = None) -> Outcome:
    """Read every declared source and publish its samples; sources already done are skipped."""
    for declared in config.sources:
        if not output.exists(_counts_name(declared)):
            _import_source(declared, _files(declared, source), output, config)
    counts = add_counts(json.loads(output.read(_counts_name(declared))) for declared in config.sources)
    check_balance(counts, "samples_read", "samples_imported")
    return Outcome(counts=counts)


def _counts_name(source: ImportSource) -> str:
    return f"counts/{source.name}.json"


def _files(source: ImportSource, manifest: Manifest | None) -> dict[str, Path]:
    """The files of a source by their names relative to its path."""
    if manifest is None:
        return outside_files(source.path)
    entries = [entry for entry in manifest.files if matches(entry.path, source.path)]
    if not entries:
        raise UserError(f"{manifest.url} ({manifest.kind}) holds nothing at {source.path!r}.")
    root = source.path.rstrip("/")
    return {entry.path.removeprefix(root).lstrip("/") or Path(root).name: manifest.local(entry) for entry in entries}


def _import_source(source: ImportSource, files: dict[str, Path], output: Folder, config: ImportSamplesConfig) -> None:
    counts: Counter[str] = Counter(samples_read=0, samples_imported=0)
    samples = _valid(islice(FORMATS[source.format](files, source), source.num_samples), counts, config)
    samples = track(samples, f"import {source.name}", total=source.num_samples)
    for number, first in enumerate(samples):
        with output.publish(f"shards/{source.name}-{number:05d}.tar") as path:
            write_shard(path, chain([first], islice(samples, config.samples_per_shard - 1)))
    _check_quality(source, counts, config)
    counts[f"imported/{source.name}"] = counts["samples_imported"]
    output.write(_counts_name(source), (json.dumps(counts, sort_keys=True) + "\n").encode())


def _valid(items: Iterator[Sample | Dropped], counts: Counter[str], config: ImportSamplesConfig) -> Iterator[Sample]:
    """The samples worth keeping; everything is counted."""
    seen: set[str] = set()
    for item in items:
        counts["samples_read"] += 1
        reason = item.reason if isinstance(item, Dropped) else _unfit(item, seen, config)
        if isinstance(item, Dropped) or reason:
            counts[f"dropped/{reason}"] += 1
            continue
        seen.add(item.uid)
        counts["samples_imported"] += 1
        yield item


def _unfit(sample: Sample, seen: set[str], config: ImportSamplesConfig) -> str | None:
    texts = [part.text for part in sample.parts if isinstance(part, Text)]
    if not sample.parts:
        return "empty"
    if any(not text.strip() for text in texts):
        return "empty_text"
    if any(len(text) > config.max_text_characters for text in texts):
        return "long_text"
    return "duplicate_uid" if sample.uid in seen else None


def _check_quality(source: ImportSource, counts: Counter[str], config: ImportSamplesConfig) -> None:
    read, imported = counts["samples_read"], counts["samples_imported"]
    if not read:
        raise UserError(f"The source {source.name!r} at {source.path!r} holds nothing in the format {source.format}.")
    if read - imported > config.max_dropped_share * read:
        reasons = ", ".join(f"{n.removeprefix('dropped/')} {c}" for n, c in counts.items() if n.startswith("dropped/"))
        raise UserError(
            f"{read - imported} of {read} samples of {source.name!r} are unfit ({reasons}), more than "
            f"max_dropped_share {config.max_dropped_share}; check the source or raise it."
        )
