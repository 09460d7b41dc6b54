"""What a running job tells the tracker: metrics by step, and files to look at.

    tracker.log({"loss/text": 2.31, "tokens_per_second": 9100.0}, step=20)
    tracker.log_file(path, folder="samples")

Nothing here talks to a server: a line goes to the run's spool on disk (see `spool`), and a follower sends it. Outside
of `jobs.run`, and on ranks other than 0, the calls do nothing. They never fail a job.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from arm.tracking.spool import Spool

_current: Spool | None = None


def log(metrics: Mapping[str, float], step: int = 0) -> None:
    """Note metrics at a step; values that are not finite are left out."""
    if _current is not None:
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        _current.append({"event": "metrics", "step": step, "values": finite})


def log_file(path: Path, folder: str = "") -> None:
    """Keep a copy of a small file (a plot, a grid of samples) for the tracker."""
    if _current is not None:
        _current.append_file(path, folder)


def attach(spool: Spool | None) -> None:
    """Send what follows to this spool; None detaches."""
    global _current
    _current = spool
