"""What the guard decided on the sites' own wishes, with the times: robots.txt and opt-out headers.

    robots      site, verdict, rule, origin, read_at, num_urls     http://garden.test, forbidden, Disallow: /secret, ...
    opt-outs    url, header, seen_at                               http://garden.test/a.png, noai, ...

They hold times, so they lie under `view/`, which no digest covers.
"""

import datetime
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from arm.data.robots import Rules

TIME = pa.timestamp("ms", tz="UTC")
ROBOTS = pa.schema(
    [
        ("site", pa.string()), ("verdict", pa.string()), ("rule", pa.string()), ("origin", pa.string()),
        ("read_at", TIME), ("num_urls", pa.int64()),
    ]
)  # fmt: skip
OPT_OUTS = pa.schema([("url", pa.string()), ("header", pa.string()), ("seen_at", TIME)])
TABLES = ("robots", "opt_outs")


class VerdictLog:
    """Verdicts since they were written last; safe to use from many threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._robots: dict[tuple[str, float, str, str | None], int] = {}
        self._opt_outs: list[tuple[str, str, float]] = []

    def note_robots(self, site: str, rules: Rules, rule: str | None) -> None:
        """A URL of the site was allowed (no rule) or forbidden."""
        key = (site, rules.read_at, rules.origin, rule)
        with self._lock:
            self._robots[key] = self._robots.get(key, 0) + 1

    def note_opt_out(self, url: str, header: str) -> None:
        """The answer to a URL forbade the use of its image."""
        with self._lock:
            self._opt_outs.append((url, header[:1_000], self._clock()))

    def write(self, stem: str) -> None:
        """Write `<stem>_robots.parquet` and `<stem>_opt_outs.parquet`, sorted, and forget what they hold."""
        with self._lock:
            robots, opt_outs, self._robots, self._opt_outs = self._robots, self._opt_outs, {}, []
        told = sorted((*key[:3], key[3] or "", count) for key, count in robots.items())
        rows = [
            {
                "site": site, "verdict": "forbidden" if rule else "allowed", "rule": rule or None, "origin": origin,
                "read_at": _time(read_at), "num_urls": count,
            }
            for site, read_at, origin, rule, count in told
        ]  # fmt: skip
        seen = [{"url": url, "header": header, "seen_at": _time(at)} for url, header, at in sorted(opt_outs)]
        for name, table in (("robots", (rows, ROBOTS)), ("opt_outs", (seen, OPT_OUTS))):
            pq.write_table(pa.Table.from_pylist(*table), Path(f"{stem}_{name}.parquet"), compression="zstd")


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
