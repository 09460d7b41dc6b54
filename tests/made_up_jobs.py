"""Small jobs that tests run through the real machinery: `count` writes units, `add` sums what another run wrote.

python tests/made_up_jobs.py          is `arm`, knowing these jobs only
python tests/made_up_jobs.py --rank   is a rank (`python -m arm.launch`)
"""

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Literal

from arm import cli, jobs, launch
from arm.config import operational
from arm.errors import UserError
from arm.jobs import Input, Job
from arm.manifest import Manifest, Outcome
from arm.storage import Folder
from arm.tracking import tracker
from arm.tracking.session import session


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
    paths: tuple[str, ...] = ()
    """Files that the numbers are said to come from."""

    def outside_paths(self) -> tuple[str, ...]:
        """What the content key covers beside the inputs."""
        return self.paths

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
        inputs=(Input("source", optional=True),), distributed=True,
    ),
    Job(
        name="count-alone", phase="data", makes="numbers", purpose="Write numbers in one process.",
        function="made_up_jobs:count", config="made_up_jobs:CountConfig",
    ),
)  # fmt: skip


def run_chain(store: str) -> None:
    """Four jobs in a row, each a task below a shell as KFP starts it; the third runs on two ranks."""
    os.environ["ARM_RUNNER_PID"] = str(os.getpid())
    with session(store, pipeline="chain"):
        source: list[str] = []
        for index in range(4):
            output = f"{store}/{index:02d}-count"
            place = json.dumps({"ranks": 2 if index == 2 else 1, "threads": 1})
            config = json.dumps({"num_units": 10, "factor": index + 1, "seconds_per_unit": 0.3})
            task = [sys.executable, __file__, "count", "--output", output, "--config", config, "--resources", place]
            subprocess.run(["sh", "-c", f"{shlex.join([*task, *source])}; exit $?"], check=True)
            source = ["--source", output]


def main() -> None:
    """Be `arm`, a rank, or the runner of a chain, with the made-up jobs."""
    jobs.JOBS = MADE_UP
    launch.RANK_COMMAND = (sys.executable, __file__, "--rank")
    if sys.argv[1:2] == ["--chain"]:
        run_chain(sys.argv[2])
    elif sys.argv[1:] == ["--rank"]:
        launch.main()
    else:
        cli.main()


if __name__ == "__main__":
    main()
