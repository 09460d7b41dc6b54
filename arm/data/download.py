"""download-images: img2dataset on Spark behind the guard, in units that a kill can cost at most once.

    shards/crawl-00000.tar          samples [image, caption], sorted by uid
    failures/crawl-00000.parquet    uid, url, reason, status, attempt, and the pair, of every URL that gave no image
    view/robots/...parquet          what robots.txt said, by which rule, when; view/opt_outs/... the opt-out headers

    urls_read = images_downloaded + failed/http_404 + failed/robots + ...

With `retry_failures`, an earlier output, the URLs that another attempt may bring are all that is asked for: what they
give lies in this output, the rest in the earlier one, and together they are complete.
"""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.children import start_child, stop
from arm.data.config import DownloadConfig, SparkConfig
from arm.data.guard import UNRESOLVED, Policy
from arm.data.publishing import DIGITS, Unit, count_unresolved, failures_name, publish_unit
from arm.data.spark import import_path, spark_session
from arm.data.tables import add_counts, check_balance, keep_allowed, read_counts
from arm.data.units import COLUMNS, write_units
from arm.errors import ArmError, ServiceError, UserError
from arm.manifest import Manifest, Outcome
from arm.progress import track
from arm.storage import Folder


def download_images(
    *,
    pairs: Manifest,
    output: Folder,
    config: DownloadConfig,
    site: Manifest | None = None,
    retry_failures: Manifest | None = None,
) -> Outcome:
    """Download every pair's image; publish shards of samples and tables of failures."""
    units = _plan(pairs, retry_failures, output, config)
    if not all(unit.is_done or unit.is_published(output, config) for unit in units):
        with _exceptions(site, config) as exceptions:
            _download(units[0].rows.parent, units[0].private, output.scratch("spark"), config, exceptions)
    remaining = [unit.index for unit in units if not (unit.is_done or unit.is_published(output, config))]
    if remaining:
        raise ArmError(f"{len(remaining)} of {len(units)} units remain ({remaining[:5]}); run the same command again.")
    _check_unresolved(units, output, config, retry_failures)
    for unit in track(units, "publish shards", total=len(units)):
        if not unit.is_published(output, config):
            publish_unit(unit, output, config)
    counts = add_counts(read_counts(output.fetch(failures_name(unit, config))) for unit in units)
    check_balance(counts, "urls_read", "images_downloaded", "failed/")
    return Outcome(counts=counts)


def _plan(pairs: Manifest, earlier: Manifest | None, output: Folder, config: DownloadConfig) -> list[Unit]:
    """The units, from their tables in the working folder, which are written first unless they are there."""
    folder, private = output.scratch("units") / "rows", output.scratch("img2dataset")
    attempt = 1 if earlier is None else _last_attempt(pairs, earlier) + 1
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.part")
        _remove(draft)
        tables = _pairs(pairs) if earlier is None else _unresolved(earlier)
        allowed = (keep_allowed(table, pairs.tombstones) for table in tables)
        if not write_units(allowed, draft, config):
            what = "pair" if earlier is None else "failure that another attempt may cure"
            holder = earlier or pairs
            raise UserError(f"{holder.url} ({holder.kind}) holds no {what}; nothing can be downloaded.")
        draft.rename(folder)
    return [Unit(index, rows, private, attempt) for index, rows in enumerate(sorted(folder.glob("*.parquet")))]


def _pairs(pairs: Manifest) -> Iterator[pa.Table]:
    for entry in pairs.select("pairs/", ".parquet"):
        yield pq.read_table(pairs.local(entry), columns=list(COLUMNS)).replace_schema_metadata(None)


def _unresolved(earlier: Manifest) -> Iterator[pa.Table]:
    """What an earlier output asked for and got no answer to."""
    for entry in earlier.select("failures/", ".parquet"):
        table = pq.read_table(earlier.local(entry)).replace_schema_metadata(None)
        yield table.filter(pc.is_in(table["reason"], pa.array(sorted(UNRESOLVED)))).select(list(COLUMNS))


def _last_attempt(pairs: Manifest, earlier: Manifest) -> int:
    """The attempt that an earlier output was; UserError when it is none of these pairs."""
    if earlier.kind != "image-shards" or earlier.inputs.get("pairs") != pairs.digest:  # its job: or `arm takedown`
        raise UserError(
            f"{earlier.url} ({earlier.kind}) was not downloaded from {pairs.url}; "
            "give an output of download-images and the pairs that it was made from."
        )
    attempts = [pq.read_table(earlier.local(entry), columns=["attempt"]) for entry in earlier.select("failures/")]
    return max((pc.max(table["attempt"]).as_py() or 1 for table in attempts), default=1)


def _remove(folder: Path) -> None:
    """A plan that a kill left unfinished."""
    for path in folder.glob("*"):
        path.unlink()
    if folder.exists():
        folder.rmdir()


def _download(
    rows: Path, private: Path, scratch: Path, config: DownloadConfig, exceptions: dict[str, tuple[str, int]]
) -> None:
    """Let img2dataset download what is not done, one unit a Spark task."""
    from arm.data.downloader import guarded

    hosts = scratch / "hosts"
    hosts.unlink(missing_ok=True)  # of a run that was killed: its clock may have been another
    policy = Policy(
        user_agent=config.user_agent, robots=config.robots, max_bytes=config.max_bytes, max_pixels=config.max_pixels,
        max_redirects=config.max_redirects, timeout_seconds=config.timeout_seconds,
        requests_per_second=config.requests_per_second_per_host, max_host_failures=config.max_host_failures,
        exceptions=exceptions, hosts=str(hosts),
    )  # fmt: skip
    with spark_session(_forgiving(config.spark), scratch), guarded(policy) as download, _one_sentence(scratch):
        download(
            url_list=str(rows), output_folder=str(private), input_format="parquet", output_format="dummy",
            url_col="url", caption_col="caption", save_additional_columns=["uid", "kind", "page_url", "language"],
            number_sample_per_shard=config.unit_rows, oom_shard_count=DIGITS, thread_count=config.threads,
            image_size=config.image_size, resize_mode=config.resize_mode, min_image_size=config.min_image_side,
            resize_only_if_bigger=config.resize_only_if_bigger, encode_format=config.encode_format,
            encode_quality=config.encode_quality, max_image_area=config.max_pixels, extract_exif=False,
            compute_hash="sha256", distributor="pyspark", incremental_mode="incremental",
        )  # fmt: skip


@contextlib.contextmanager
def _one_sentence(scratch: Path) -> Iterator[None]:
    """img2dataset speaks to Spark's old interface, whose errors are pages of Java."""
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]

    try:
        yield
    except Py4JError as error:
        told = str(error).strip().splitlines()[:3]
        raise ArmError(f"Spark failed; its log is {scratch / 'spark.log'}: {' '.join(told)[:500]}") from error


def _forgiving(config: SparkConfig) -> SparkConfig:
    """On one machine, too, a task is tried again: a worker that dies costs its unit's time and not the job."""
    return dataclasses.replace(config, master=re.sub(r"^local\[(\w+|\*)\]$", r"local[\1,4]", config.master))


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


def _check_unresolved(units: list[Unit], output: Folder, config: DownloadConfig, earlier: Manifest | None) -> None:
    """Fail before anything is published when too many URLs gave no answer; a rerun asks the bad units again.

    Of another attempt, whose URLs are those that failed once, the share is of all URLs of the attempt before.
    """
    told = [count_unresolved(unit, output, config) for unit in units]
    urls, unresolved = sum(asked for asked, _ in told), sum(silent for _, silent in told)
    urls = urls if earlier is None else max(urls, earlier.counts["urls_read"])
    if unresolved <= config.max_unresolved_share * urls:
        return
    bad = [
        unit
        for unit, (asked, silent) in zip(units, told, strict=True)
        if silent > config.max_unresolved_share * asked and not unit.is_published(output, config)
    ]
    for unit in bad:
        unit.left("_stats.json").unlink(missing_ok=True)
    raise ArmError(
        f"{unresolved} of {urls} URLs gave no answer, more than max_unresolved_share {config.max_unresolved_share}; "
        f"check the network and run the same command again, which asks {len(bad)} of {len(units)} units again."
    )
