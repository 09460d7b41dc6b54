"""What img2dataset left of a unit becomes a shard and tables: sorted, without times, every URL accounted for.

img2dataset writes in the order of completion: its output is a private working folder, and each unit is rewritten from it.

    00000.parquet      a row of each URL: status, error message, offset and length of its image
    00000.images       the images, one behind the other
    00000_stats.json   the unit is complete
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.config import DownloadConfig
from arm.data.guard import UNRESOLVED
from arm.data.shards import write_shard
from arm.data.tables import read_counts, write_table
from arm.data.units import COLUMNS
from arm.data.verdicts import TABLES
from arm.records import Image, Sample, Text
from arm.storage import Folder

FAILURES = pa.schema(
    [
        ("uid", pa.string()), ("url", pa.string()), ("reason", pa.string()), ("status", pa.int32()),
        ("attempt", pa.int32()), *((name, pa.string()) for name in COLUMNS[2:]),
    ]
)  # fmt: skip
META = ("url", "page_url", "kind", "language", "original_width", "original_height", "sha256")
FORMATS: dict[str, Literal["png", "jpeg", "webp"]] = {"png": "png", "jpg": "jpeg", "webp": "webp"}
"""img2dataset's names of formats -> ours."""
DIGITS = 5
"""Digits of a unit's number in img2dataset's file names and ours."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work: one shard, one failures table."""

    index: int
    rows: Path
    """The table of its pairs."""
    private: Path
    """img2dataset's folder."""
    attempt: int
    """1, or how often its URLs have been asked for by then."""

    def name(self, config: DownloadConfig) -> str:
        """`crawl-00000`; of another attempt `crawl-attempt2-00000`, so that both lie in one folder."""
        source = config.source if self.attempt == 1 else f"{config.source}-attempt{self.attempt}"
        return f"{source}-{self.index:0{DIGITS}d}"

    def left(self, ending: str) -> Path:
        """A file that img2dataset or the guard left."""
        return self.private / f"{self.index:0{DIGITS}d}{ending}"

    @property
    def is_done(self) -> bool:
        """img2dataset exits with 0 whatever happened; a unit is done when its stats are there."""
        return self.left("_stats.json").exists()

    def is_published(self, output: Folder, config: DownloadConfig) -> bool:
        """Whether its failures table is there: everything else was published before it."""
        return output.exists(failures_name(self, config))


def failures_name(unit: Unit, config: DownloadConfig) -> str:
    """Where the failures table of a unit lies."""
    return f"failures/{unit.name(config)}.parquet"


def publish_unit(unit: Unit, output: Folder, config: DownloadConfig) -> None:
    """Rewrite one unit of img2dataset's output as a shard sorted by uid and a failures table with the counts."""
    rows, failures = _sort_out(unit)
    counts = {"urls_read": len(rows) + len(failures), "images_downloaded": len(rows)}
    counts |= {f"failed/{reason}": count for reason, count in Counter(f["reason"] for f in failures).items()}
    with output.publish(f"shards/{unit.name(config)}.tar") as path:
        write_shard(path, _samples(rows, unit.left(".images"), config))
    for table in TABLES:
        if (left := unit.left(f"_{table}.parquet")).exists():
            with output.publish(f"view/{table}/{unit.name(config)}.parquet") as path:
                shutil.copyfile(left, path)
    write_table(output, failures_name(unit, config), pa.Table.from_pylist(failures, FAILURES), counts)


def count_unresolved(unit: Unit, output: Folder, config: DownloadConfig) -> tuple[int, int]:
    """How many URLs a unit asked, and how many of them gave no answer."""
    if unit.is_published(output, config):
        counts = read_counts(output.fetch(failures_name(unit, config)))
        return counts["urls_read"], sum(counts.get(f"failed/{reason}", 0) for reason in UNRESOLVED)
    asked = pq.read_metadata(unit.rows).num_rows
    rows = pq.read_table(unit.left(".parquet"), columns=["status", "error_message"]).to_pylist()
    failed = sum(row["status"] != "success" and _failure(row)[0] in UNRESOLVED for row in rows)
    return asked, asked - len(rows) + failed


def _sort_out(unit: Unit) -> tuple[list[Row], list[Row]]:
    """img2dataset's rows of the images that a unit brought, and a row of FAILURES for each other URL, by uid."""
    asked = pq.read_table(unit.rows, columns=list(COLUMNS)).to_pylist()
    rows = pq.read_table(unit.left(".parquet")).to_pylist()
    rows.sort(key=lambda row: [str(row[name]) for name in COLUMNS])  # a uid may be asked twice: not the last to finish
    told = {row["uid"]: row for row in rows}
    rows, failures = list[Row](), list[Row]()
    for pair in sorted(asked, key=lambda pair: str(pair["uid"])):
        row = told.get(pair["uid"], {"status": "lost"})
        if row["status"] == "success":
            rows.append(row)
        else:
            reason, status = _failure(row)
            failures.append(pair | {"reason": reason, "status": status, "attempt": unit.attempt})
    return rows, failures


def _samples(rows: list[Row], images: Path, config: DownloadConfig) -> Iterator[Sample]:
    with images.open("rb") as stream:
        for row in rows:
            stream.seek(row["offset"])
            data = stream.read(row["length"])
            image = Image(data=data, format=FORMATS[config.encode_format], height=row["height"], width=row["width"])
            yield Sample(
                uid=row["uid"], task=config.task, parts=(image, Text(text=row["caption"], role="caption")),
                source=config.source, licence=config.licence, meta={name: row[name] for name in META},
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
