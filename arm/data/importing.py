"""import-samples: data sets that exist already become the same image shards that a crawl becomes.

shards/<name>-00000.tar    samples of one source, in its own order
counts/<name>.json         samples_read = samples_imported + dropped/bad_image + ...; written last, so a source is done or not

The unit of work is a shard. Beside a source in the making lies `progress/<name>/00000.json` for each shard that is done: its
counts, and where in the source it ended. So a killed run loses one shard, and no more than one is in memory.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any

from arm.data.config import ImportSamplesConfig, ImportSource
from arm.data.formats.files import Files
from arm.data.formats.readers import Item, Position, read_items
from arm.data.formats.rows import Dropped, Unfit
from arm.data.formats.shapes import Film
from arm.data.shards import write_shard
from arm.data.tables import add_counts, check_balance
from arm.data.video import captions, decoding
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.progress import Progress
from arm.records import Image, Sample, Text
from arm.storage import Folder

MAX_LICENCES = 1_000
"""Of one source; more are no licences but a wrong column."""
MAX_WAITING = 64
"""Samples that may wait for a film before them."""
EARLY = 1_000
"""When so many rows in a row, from the first on, are unfit, the source is declared wrongly."""
Record = dict[str, Any]
"""{counts, licences, columns, next: {file, row} or None}: of a shard, or of a whole source; `columns` are those of an
unfit row."""


def import_samples(*, output: Folder, config: ImportSamplesConfig, source: Manifest | None = None) -> Outcome:
    """Read every declared source and publish its samples; what is done already is skipped."""
    for declared in config.sources:
        if not output.exists(_total_name(declared)):
            _import_source(declared, Files(declared.path, source), output, config)
        for name in output.list(f"{_progress_name(declared)}/"):
            output.delete(name)
    records = [json.loads(output.read(_total_name(declared))) for declared in config.sources]
    counts = add_counts(record["counts"] for record in records)
    check_balance(counts, "samples_read", "samples_imported")
    return Outcome(counts=counts, licences=tuple(sorted({name for record in records for name in record["licences"]})))


def _total_name(source: ImportSource) -> str:
    return f"counts/{source.name}.json"


def _progress_name(source: ImportSource) -> str:
    return f"progress/{source.name}"


def _import_source(source: ImportSource, files: Files, output: Folder, config: ImportSamplesConfig) -> None:
    """Write shard after shard from where the last one ended, then the sum of their counts."""
    records = [json.loads(output.read(name)) for name in output.list(f"{_progress_name(source)}/")]
    place: Record | None = records[-1]["next"] if records else asdict(Position(0, 0))
    progress = Progress(f"import {source.name}", source.num_samples, done=_read(records))
    if place is not None:
        items = read_items(files, source, Position(**place))
        with decoding.decoders(config.workers, source.video) as pool:
            finished = _finished(items, pool)
            while place is not None:
                records.append(_write_shard(len(records), finished, _read(records), source, output, config, progress))
                output.write(f"{_progress_name(source)}/{len(records) - 1:05d}.json", _json(records[-1]))
                place = records[-1]["next"]
    progress.close()
    total = _summed(records)
    _check_quality(source, total, config)
    total["counts"][f"imported/{source.name}"] = total["counts"]["samples_imported"]
    output.write(_total_name(source), _json(total))


def _write_shard(
    number: int, items: Iterator[tuple[Position, Sample | Dropped]], num_read: int, source: ImportSource,
    output: Folder, config: ImportSamplesConfig, progress: Progress,
) -> Record:  # fmt: skip
    """Publish the next samples as one shard; the record of what was read for it."""
    counts = Counter(samples_read=0, samples_imported=0)
    record: Record = {"counts": counts, "licences": [], "columns": [], "next": None}
    samples = _valid(items, num_read, record, source, config, progress)
    for first in samples:
        with output.publish(f"shards/{source.name}-{number:05d}.tar") as path:
            write_shard(path, chain([first], samples))
    return record


def _valid(
    items: Iterator[tuple[Position, Sample | Dropped]], num_read: int, record: Record, source: ImportSource,
    config: ImportSamplesConfig, progress: Progress,
) -> Iterator[Sample]:  # fmt: skip
    """The samples of one shard; everything read on the way is counted, and where to go on is noted when it is full."""
    counts, seen, licences = record["counts"], set[str](), set[str]()
    for position, item in items:
        counts["samples_read"] += 1
        progress.advance()
        reason = item.reason if isinstance(item, Dropped) else _unfit(item, seen, config)
        if isinstance(item, Sample) and not reason:
            counts["samples_imported"] += 1
            seen.add(item.uid)
            licences.add(item.licence)
            yield item
        else:
            counts[f"dropped/{reason}"] += 1
            record["columns"] = record["columns"] or list(item.columns if isinstance(item, Dropped) else ())
        if num_read == 0 and counts[f"dropped/{reason}"] == counts["samples_read"] == EARLY:
            _check_quality(source, record, config)
        if num_read + counts["samples_read"] == source.num_samples:
            break
        if len(seen) == config.samples_per_shard:
            record["next"] = asdict(position)
            break
    record["licences"] = sorted(licences)


def _finished(
    items: Iterator[tuple[Position, Item]], pool: deque[decoding.Decoder]
) -> Iterator[tuple[Position, Sample | Dropped]]:
    """The items with their films decoded, in order; as many films at a time as there are children."""
    waiting: deque[tuple[Position, Item]] = deque()
    busy: deque[decoding.Decoder] = deque()
    for position, item in items:
        if isinstance(item, Film):
            if not pool:
                yield from _until_a_film(waiting, busy, pool)
            decoder = pool.popleft()
            decoder.submit(item.video)
            busy.append(decoder)
        waiting.append((position, item))
        if not busy or len(waiting) > MAX_WAITING:
            yield from _until_a_film(waiting, busy, pool)
    while waiting:
        yield from _until_a_film(waiting, busy, pool)


def _until_a_film(
    waiting: deque[tuple[Position, Item]], busy: deque[decoding.Decoder], pool: deque[decoding.Decoder]
) -> Iterator[tuple[Position, Sample | Dropped]]:
    """What waits, up to the first film, whose child is free again."""
    while waiting:
        position, item = waiting.popleft()
        if not isinstance(item, Film):
            yield position, item
            continue
        decoder = busy.popleft()
        made = _decoded(item, decoder)
        pool.append(decoder)
        yield position, made
        return


def _decoded(film: Film, decoder: decoding.Decoder) -> Sample | Dropped:
    """[text of the whole, frame, its texts, frame, ...]"""
    try:
        frames = decoder.result()
        rate = decoder.config.frames_per_second
        before, *after = captions.place(film.captions, [frame.seconds for frame in frames], rate)
        parts: list[Text | Image] = [Text(text=text) for text in before]
        for frame, texts in zip(frames, after, strict=True):
            parts += [frame.image, *(Text(text=text) for text in texts)]
        return film.finish(tuple(parts)) if any(map(len, (before, *after))) else Dropped("no_text")
    except Unfit as error:
        return Dropped(error.reason)


def _unfit(sample: Sample, seen: set[str], config: ImportSamplesConfig) -> str | None:
    texts = [part.text for part in sample.parts if isinstance(part, Text)]
    if not sample.parts:
        return "empty"
    if any(not text.strip() for text in texts):
        return "empty_text"
    if any(len(text) > config.max_text_characters for text in texts):
        return "long_text"
    return "duplicate_uid" if sample.uid in seen else None


def _summed(records: list[Record]) -> Record:
    licences = sorted({name for record in records for name in record["licences"]})
    columns: list[str] = next((record["columns"] for record in records if record["columns"]), [])
    return {"counts": add_counts(record["counts"] for record in records), "licences": licences, "columns": columns}


def _read(records: list[Record]) -> int:
    return sum(record["counts"]["samples_read"] for record in records)


def _json(record: Record) -> bytes:
    return (json.dumps(record, sort_keys=True) + "\n").encode()


def _check_quality(source: ImportSource, total: Record, config: ImportSamplesConfig) -> None:
    counts = total["counts"]
    read, imported = counts["samples_read"], counts["samples_imported"]
    if not read:
        raise UserError(f"The source {source.name!r} at {source.path!r} holds nothing in the format {source.format}.")
    if len(total["licences"]) > MAX_LICENCES:
        raise UserError(f"The source {source.name!r} has over {MAX_LICENCES} licences; name another column as licence.")
    if read - imported > config.max_dropped_share * read:
        reasons = ", ".join(f"{n.removeprefix('dropped/')} {c}" for n, c in counts.items() if n.startswith("dropped/"))
        raise UserError(
            f"{read - imported} of {read} samples of {source.name!r} are unfit ({reasons}), more than "
            f"max_dropped_share {config.max_dropped_share}; check the source and its columns, or raise it"
            f"{': an unfit row has ' + ', '.join(total['columns']) if total['columns'] else ''}."
        )
