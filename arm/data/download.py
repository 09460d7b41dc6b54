"""download-images: img2dataset on Spark behind the guard, in units that a kill can cost at most once.

    shards/crawl-00000.tar          samples [image, caption], sorted by uid
    failures/crawl-00000.parquet    uid, url, reason, status of every URL that gave no image

    urls_read = images_downloaded + failed/http_404 + failed/robots + ...

img2dataset writes in the order of completion, with the time in its tars: its output is a private working folder, and
each unit is rewritten from it.
"""

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.children import start_child, stop
from arm.data.config import DownloadConfig
from arm.data.guard import UNRESOLVED, Policy
from arm.data.images import open_image
from arm.data.shards import write_shard
from arm.data.spark import import_path, spark_session
from arm.data.tables import add_counts, check_balance, read_counts, without_refused, write_table
from arm.data.tar import list_members, read_members
from arm.errors import ArmError, ServiceError, UserError
from arm.manifest import Manifest, Outcome
from arm.progress import track
from arm.records import Sample, Text
from arm.storage import Folder

COLUMNS = ["uid", "kind", "page_url", "language"]
"""Columns that img2dataset carries along."""
FAILURES = pa.schema([("uid", pa.string()), ("url", pa.string()), ("reason", pa.string()), ("status", pa.int32())])
DIGITS = 5
"""Digits of a unit's number in img2dataset's file names and ours."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """Some rows of one part of the pairs: one shard, one failures table."""

    index: int
    part: Path
    start: int
    """First row."""


def download_images(
    *, pairs: Manifest, output: Folder, config: DownloadConfig, site: Manifest | None = None
) -> Outcome:
    """Download every pair's image; publish shards of samples and tables of failures."""
    parts = [pairs.local(entry) for entry in pairs.select("pairs/", ".parquet")]
    parts = without_refused(parts, pairs.tombstones, output.scratch("allowed"))
    units = _units(parts, config.unit_rows)
    if not units:
        raise UserError(f"{pairs.url} ({pairs.kind}) holds no pair; nothing can be downloaded.")
    private = output.scratch("img2dataset")
    if not all(_is_published(output, unit, config) or _is_done(private, unit) for unit in units):
        with _exceptions(site, config) as exceptions:
            _download(parts[0].parent, private, output.scratch("spark"), config, exceptions)
    remaining = [unit.index for unit in units if not (_is_published(output, unit, config) or _is_done(private, unit))]
    if remaining:
        raise ArmError(f"{len(remaining)} of {len(units)} units remain ({remaining[:5]}); run the same command again.")
    _check_unresolved(units, private, output, config)
    for unit in track(units, "publish shards", total=len(units)):
        if not _is_published(output, unit, config):
            publish_unit(unit, private, output, config)
    counts = add_counts(read_counts(output.fetch(_failures_name(unit, config))) for unit in units)
    check_balance(counts, "urls_read", "images_downloaded", "failed/")
    return Outcome(counts=counts)


def _units(parts: list[Path], unit_rows: int) -> list[Unit]:
    """The units in img2dataset's own numbering: each part cut every `unit_rows` rows."""
    starts = [
        (part, number * unit_rows)
        for part in parts
        for number in range(ceil(pq.read_metadata(part).num_rows / unit_rows))
    ]
    return [Unit(index, part, start) for index, (part, start) in enumerate(starts)]


def _shard_name(unit: Unit, config: DownloadConfig) -> str:
    return f"shards/{config.source}-{unit.index:0{DIGITS}d}.tar"


def _failures_name(unit: Unit, config: DownloadConfig) -> str:
    return f"failures/{config.source}-{unit.index:0{DIGITS}d}.parquet"


def _is_published(output: Folder, unit: Unit, config: DownloadConfig) -> bool:
    return output.exists(_failures_name(unit, config))  # the shard was published before it


def _is_done(private: Path, unit: Unit) -> bool:
    """img2dataset exits with 0 whatever happened; a unit is done when its stats are there."""
    return _private(private, unit, "_stats.json").exists()


def _private(private: Path, unit: Unit, ending: str) -> Path:
    """A file of img2dataset's."""
    return private / f"{unit.index:0{DIGITS}d}{ending}"


def _download(
    parts: Path, private: Path, scratch: Path, config: DownloadConfig, exceptions: dict[str, tuple[str, int]]
) -> None:
    """Let img2dataset download what is not done, one unit a Spark task."""
    from arm.data.downloader import guarded

    policy = Policy(
        user_agent=config.user_agent, robots=config.robots, max_bytes=config.max_bytes, max_pixels=config.max_pixels,
        max_redirects=config.max_redirects, timeout_seconds=config.timeout_seconds,
        requests_per_second=config.requests_per_second_per_host, max_host_failures=config.max_host_failures,
        exceptions=exceptions,
    )  # fmt: skip
    with spark_session(config.spark, scratch), guarded(policy) as download:
        download(
            url_list=str(parts), output_folder=str(private), input_format="parquet", output_format="webdataset",
            url_col="url", caption_col="caption", save_additional_columns=COLUMNS,
            number_sample_per_shard=config.unit_rows, oom_shard_count=DIGITS, thread_count=config.threads,
            image_size=config.image_size, resize_mode=config.resize_mode, min_image_size=config.min_image_side,
            resize_only_if_bigger=config.resize_only_if_bigger, encode_format=config.encode_format,
            encode_quality=config.encode_quality, max_image_area=config.max_pixels, extract_exif=False,
            compute_hash="sha256", distributor="pyspark", incremental_mode="incremental",
        )  # fmt: skip


def publish_unit(unit: Unit, private: Path, output: Folder, config: DownloadConfig) -> None:
    """Rewrite one unit of img2dataset's output as a shard sorted by uid and a failures table with the counts."""
    rows, failures = _sort_out(unit, private, config)
    images = dict(read_members(_private(private, unit, ".tar")))
    counts = {"urls_read": len(rows) + len(failures), "images_downloaded": len(rows)}
    counts |= {f"failed/{reason}": count for reason, count in Counter(f["reason"] for f in failures).items()}
    with output.publish(_shard_name(unit, config)) as path:
        write_shard(path, (_sample(row, images[_member(row, config)], config) for row in rows))
    write_table(output, _failures_name(unit, config), pa.Table.from_pylist(failures, FAILURES), counts)


def _sort_out(unit: Unit, private: Path, config: DownloadConfig) -> tuple[list[Row], list[Row]]:
    """img2dataset's rows of the images that a unit brought, and a row of FAILURES for each other URL, by uid."""
    asked = pq.read_table(unit.part, columns=["uid", "url"]).slice(unit.start, config.unit_rows).to_pylist()
    rows = pq.read_table(_private(private, unit, ".parquet")).to_pylist()
    rows.sort(key=lambda row: [str(row[name]) for name in COLUMNS])  # a uid may be asked twice: not the last to finish
    told = {row["uid"]: row for row in rows}
    stored = {name for name, _, _ in list_members(_private(private, unit, ".tar"))}
    rows, failures = list[Row](), list[Row]()
    for pair in sorted(asked, key=lambda pair: str(pair["uid"])):
        row = told.get(pair["uid"], {"status": "lost"})
        if row["status"] == "success" and _member(row, config) in stored:
            rows.append(row)
        else:
            reason, status = _failure(row)
            failures.append({"uid": pair["uid"], "url": pair["url"], "reason": reason, "status": status})
    return rows, failures


def _member(row: Row, config: DownloadConfig) -> str:
    """The name of a row's image in img2dataset's tar."""
    return f"{row['key']}.{config.encode_format}"


def _sample(row: Row, data: bytes, config: DownloadConfig) -> Sample:
    meta = {
        name: row[name]
        for name in ("url", "page_url", "kind", "language", "original_width", "original_height", "sha256")
    }
    return Sample(
        uid=row["uid"], task=config.task, parts=(open_image(data), Text(text=row["caption"], role="caption")),
        source=config.source, licence=config.licence, meta=meta,
    )  # fmt: skip


def _failure(row: Row) -> tuple[str, int | None]:
    """Reason and HTTP status; img2dataset's own messages become one of three words."""
    message = row.get("error_message") or ""
    if row["status"] == "failed_to_download":
        reason, _, status = message.partition(" ")
        return reason, int(status) if status else None
    if row["status"] == "failed_to_resize":
        return "too_small" if "too small" in message else "undecodable", None
    return "lost", None


@contextlib.contextmanager
def _exceptions(site: Manifest | None, config: DownloadConfig) -> Iterator[dict[str, tuple[str, int]]]:
    """The declared exceptions, and the hosts of a replayed site at the port where it listens now."""
    declared = {item.host: (item.address, item.port) for item in config.exceptions}
    if declared:
        print(f"The guard makes an exception for {', '.join(sorted(declared))}.", file=sys.stderr)
    if site is None:
        yield declared
        return
    archives = [site.local(entry) for entry in site.select("crawl/", ".warc.gz")]
    command: list[str | Path] = [sys.executable, "-m", "arm.data.replay", *archives]
    server = start_child(command, env={"PYTHONPATH": import_path()}, stdout=subprocess.PIPE)
    try:
        line = server.stdout.readline() if server.stdout else b""
        if not line:
            raise ServiceError(f"The replay of {site.url} did not start; look at its messages above.")
        started = json.loads(line)
        yield declared | dict.fromkeys(started["hosts"], ("127.0.0.1", int(started["port"])))
    finally:
        stop(server)


def _check_unresolved(units: list[Unit], private: Path, output: Folder, config: DownloadConfig) -> None:
    """Fail before anything is published when too many URLs gave no answer; a rerun asks the bad units again."""
    urls, unresolved, bad = 0, 0, list[Unit]()
    for unit in units:
        asked, silent = _silence(unit, private, output, config)
        urls, unresolved = urls + asked, unresolved + silent
        if silent > config.max_unresolved_share * asked:
            bad.append(unit)
    if unresolved <= config.max_unresolved_share * urls:
        return
    for unit in bad:
        _private(private, unit, "_stats.json").unlink(missing_ok=True)
    raise ArmError(
        f"{unresolved} of {urls} URLs gave no answer, more than max_unresolved_share {config.max_unresolved_share}; "
        f"check the network and run the same command again, which asks {len(bad)} of {len(units)} units again."
    )


def _silence(unit: Unit, private: Path, output: Folder, config: DownloadConfig) -> tuple[int, int]:
    """How many URLs a unit asked, and how many of them gave no answer."""
    if _is_published(output, unit, config):
        counts = read_counts(output.fetch(_failures_name(unit, config)))
        return counts["urls_read"], sum(counts.get(f"failed/{reason}", 0) for reason in UNRESOLVED)
    rows, failures = _sort_out(unit, private, config)
    return len(rows) + len(failures), sum(failure["reason"] in UNRESOLVED for failure in failures)
