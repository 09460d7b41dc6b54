"""Small jobs that tests run through the real machinery: `count` writes units, `add` sums what another run wrote.

python tests/made_up_jobs.py          is `arm`, knowing these jobs only
python tests/made_up_jobs.py --rank   is a rank (`python -m arm.launch`)
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Literal

from arm import jobs
from arm.config import operational
from arm.errors import UserError
from arm.jobs import Input, Job
from arm.manifest import Manifest, Outcome
from arm.storage import Folder
from arm.tracking import tracker


@dataclass(frozen=True, kw_only=True)
class CountConfig:
    """What `count` does."""

    num_units: int = 3
    """How many files to write."""
    factor: float = 2.0
    """What each number is multiplied with."""
    how: Literal["well", "badly", "full"] = "well"
    """Whether to end well, with a UserError, or with a full disk."""
    seconds_per_unit: float = operational(0.0)
    """How long a unit takes."""

    def __post_init__(self) -> None:
        if self.num_units < 1:
            raise UserError(f"CountConfig.num_units is {self.num_units}; give at least 1.")


def count(*, source: Manifest | None = None, output: Folder, config: CountConfig) -> Outcome:
    """Write one file a unit, skipping those that are there."""
    if config.how == "badly":
        raise UserError("The count went badly; set how to 'well'.")
    if config.how == "full":
        raise OSError(28, "No space left on device")
    base = sum(json.loads(source.local(entry).read_text()) for entry in source.files) if source else 0
    for unit in range(config.num_units):
        name = f"units/{unit:03d}.json"
        tracker.log({"loss/unit": 1.0 / (unit + 1)}, step=unit)
        if int(os.environ.get("RANK", "0")) == 0 and not output.exists(name):
            time.sleep(config.seconds_per_unit)
            (output.scratch("count") / "last").write_text(str(unit))
            output.write(name, json.dumps(base + unit * config.factor).encode())
    return Outcome(counts={"units": config.num_units}, metrics={"base": base})


MADE_UP = (
    Job(
        name="count", phase="data", makes="numbers", purpose="Write numbers.",
        function="made_up_jobs:count", config="made_up_jobs:CountConfig",
        inputs=(Input("source", optional=True),),
    ),
)  # fmt: skip

if __name__ == "__main__":
    jobs.JOBS = MADE_UP
    if sys.argv[1:] == ["--rank"]:
        from arm.launch import main
    else:
        from arm.cli import main
    main()
