"""What a filter does to whom: kept and dropped pairs of each language, site and kind of caption, by reason.

report/slices.parquet     slice, value, reason (empty: kept), pairs; sites beyond the largest are summed up
report/report.md          the same for a reader

Counted in the tasks that saw the rows, summed on Spark: what reaches this process is as small for a billion pairs as for a
thousand.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.comparing import read_frame
from arm.data.config import FilterConfig
from arm.data.judging import staging_of
from arm.data.slices import SLICES, SliceCounts, slices_table
from arm.data.tables import DROPPED, write_table
from arm.storage import Folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OTHERS = "(others)"
MAX_LINES = 30
"""Lines of one table of report.md."""
MIN_PAIRS = 100
"""Of fewer dropped pairs no share is worth a line."""
HARDER = 1.5
"""By how much a reason must hit a language or site more often than the whole."""
_UNSAFE = re.compile(r"[^\w.()+ -]")
Outcomes = Mapping[str, Counter[str]]
"""Value of a slice -> reason -> pairs."""


def write_report(spark: "SparkSession", output: Folder, counts: Mapping[str, int], config: FilterConfig) -> None:
    """Sum up the tasks' counts and publish the table and the page."""
    staging = staging_of(output)
    names = staging.list("slices/")
    slices = _summed(spark, staging, names, config.max_reported_sites)
    write_table(output, "report/slices.parquet", slices_table(slices))
    output.write("report/report.md", render(slices, counts).encode())


def render(slices: SliceCounts, counts: Mapping[str, int]) -> str:
    """The page: reasons, then languages, kinds and sites, then who is hit harder than the whole."""
    read = max(1, counts["pairs_read"])
    reasons = Counter({name.removeprefix(DROPPED): n for name, n in counts.items() if name.startswith(DROPPED)})
    lines = ["# What was kept and dropped", "", _summary(counts), ""]
    lines += _table(("reason", "pairs", "share"), [(r, _number(n), _share(n, read)) for r, n in _ranked(reasons)])
    for name, title in {"language": "Languages", "kind": "Kinds of caption", "site": "Sites"}.items():
        outcomes = _outcomes(slices, name)
        lines += [f"## {title}", "", *_slice_lines(name, outcomes)]
        harder = list(_hit_harder(outcomes, reasons, read))
        if harder and name != "kind":
            lines += [f"Hit at least {HARDER} times as often as the whole:", ""]
            lines += _table((name, "reason", "pairs", "share", "of the whole"), harder[:MAX_LINES])
    return "\n".join(lines)


def _summed(spark: "SparkSession", staging: Folder, names: Sequence[str], max_sites: int) -> SliceCounts:
    """Sums by slice, value and reason; of the sites the largest by themselves."""
    from pyspark.sql import functions as F

    frame = read_frame(spark, SLICES, len(names), partial(_read, staging, names))
    sites = frame.filter(F.col("slice") == "site").groupBy("value").agg(F.sum("pairs").alias("pairs"))
    largest = [row["value"] for row in sites.orderBy(F.desc("pairs"), "value").limit(max_sites).collect()]
    by_itself = (F.col("slice") != "site") | F.col("value").isin(largest)
    frame = frame.withColumn("value", F.when(by_itself, F.col("value")).otherwise(OTHERS))
    rows = frame.groupBy("slice", "value", "reason").agg(F.sum("pairs").alias("pairs")).collect()
    return {(row["slice"], row["value"], row["reason"]): row["pairs"] for row in rows}


def _read(staging: Folder, names: Sequence[str], index: int) -> Iterator[pa.Table]:
    yield pq.read_table(staging.fetch(f"slices/{names[index].removeprefix('slices/')}"))


def _summary(counts: Mapping[str, int]) -> str:
    read, kept = counts["pairs_read"], counts["pairs_kept"]
    words = f"Of {_number(read)} pairs {_number(kept)} were kept ({_share(kept, max(1, read))})."
    if "pairs_known" in counts:
        seen = counts.get("dropped/seen_before", 0)
        words += (
            f" Earlier runs had compared {_number(counts['pairs_known'])} pairs: {_number(seen)} of these came again."
        )
    return words


def _outcomes(slices: SliceCounts, name: str) -> Outcomes:
    outcomes: dict[str, Counter[str]] = {}
    for (kind, value, reason), pairs in slices.items():
        if kind == name:
            outcomes.setdefault(value, Counter())[reason] += pairs
    return outcomes


def _slice_lines(name: str, outcomes: Outcomes) -> list[str]:
    """The largest values of a slice: pairs, share kept, and the three reasons that cost most."""
    sizes = Counter({value: reasons.total() for value, reasons in outcomes.items()})
    rows = []
    for value, size in _ranked(sizes)[:MAX_LINES]:
        dropped = Counter({reason: pairs for reason, pairs in outcomes[value].items() if reason})
        most = ", ".join(f"{reason} {_share(pairs, size)}" for reason, pairs in _ranked(dropped)[:3])
        rows.append((_safe(value), _number(size), _share(outcomes[value][""], size), most))
    lines = _table((name, "pairs", "kept", "dropped most for"), rows)
    rest = len(sizes) - MAX_LINES
    return [*lines, f"{rest} more stand in slices.parquet.", ""] if rest > 0 else lines


def _hit_harder(outcomes: Outcomes, reasons: Counter[str], read: int) -> Iterator[tuple[str, ...]]:
    """(value, reason, pairs, share, share of the whole), by how many pairs more were dropped than of the whole."""
    found = []
    for value, own in outcomes.items():
        size = own.total()
        for reason, pairs in own.items():
            expected = size * reasons[reason] / read
            if reason and pairs >= MIN_PAIRS and pairs >= HARDER * expected:
                line = (_safe(value), reason, _number(pairs), _share(pairs, size), _share(reasons[reason], read))
                found.append((expected - pairs, line))
    return (line for _, line in sorted(found))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)] + [""]


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _number(value: int) -> str:
    return f"{value:,}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%"


def _safe(value: str) -> str:
    """A crawled name as it may stand in a page: no markup, no table's bar, not endless."""
    return _UNSAFE.sub("?", value)[:80]
