"""Units of download: which URLs go together, and in what order they are asked for.

    a a a a a b b c, 4 rows a unit, 2 of a host    ->    3 units    a c a    b a    b a a... at most 2 of a host in each

A host's URLs are dealt over as many units as it takes to keep both bounds, and stand spread over each of them, so that
no host is asked in a rush and a slow one holds no unit. The same rows give the same units, whatever their order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.config import DownloadConfig

COLUMNS = ("uid", "url", "caption", "kind", "page_url", "language")
"""What a unit says of a pair, and a failures table, too: all that another attempt needs."""
POOL_UNITS = 32
"""Units that are dealt together, at least: what the driver holds in memory, ours."""


def write_units(tables: Iterable[pa.Table], folder: Path, config: DownloadConfig) -> int:
    """Write each unit as a Parquet file of its own, in their order; return their number."""
    folder.mkdir(parents=True)
    count = 0
    for pool in _pools(tables, POOL_UNITS * config.unit_rows):
        for rows in deal(pool, config.unit_rows, config.unit_rows_per_host):
            pq.write_table(rows, folder / f"{count:09d}.parquet", compression="zstd")
            count += 1
    return count


def deal(rows: pa.Table, unit_rows: int, host_rows: int) -> Iterator[pa.Table]:
    """The rows as units of at most `unit_rows` with at most `host_rows` of one host, hosts spread over each."""
    urls, uids = rows["url"].to_pylist(), rows["uid"].to_pylist()
    hosts = [host_of(url) for url in urls]
    largest = max(Counter(hosts).values(), default=0)
    num_units = max(-(-len(urls) // unit_rows), -(-largest // host_rows))
    order = sorted(range(len(urls)), key=lambda row: (hosts[row], uids[row], urls[row]))
    for unit in range(num_units):
        mine = order[unit::num_units]  # of a host's c neighbours every n-th: at most c / n, rounded up
        yield rows.take(pa.array(_spread(mine, hosts), pa.int64()))


def host_of(url: str) -> str:
    """The host name of an address, empty where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _spread(rows: list[int], hosts: list[str]) -> list[int]:
    """The rows with those of one host at equal distances."""
    totals, seen = Counter(hosts[row] for row in rows), Counter[str]()
    places = []
    for row in rows:
        host = hosts[row]
        places.append(((seen[host] + (crc32(host.encode()) + 0.5) / 2**32) / totals[host], host, row))
        seen[host] += 1
    return [row for _, _, row in sorted(places)]


def _pools(tables: Iterable[pa.Table], min_rows: int) -> Iterator[pa.Table]:
    """Tables put together until they have so many rows; the last pool has what is left."""
    held = list[pa.Table]()
    for table in tables:
        held.append(table)
        if sum(item.num_rows for item in held) >= min_rows:
            yield pa.concat_tables(held)
            held = []
    if any(item.num_rows for item in held):
        yield pa.concat_tables(held)
