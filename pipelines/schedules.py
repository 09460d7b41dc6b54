"""Schedules: from `schedules.yaml` to KFP's recurring runs.

python -m pipelines.schedules                     prints the requests
python -m pipelines.schedules --host URL          uploads the pipelines and creates the recurring runs
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arm import config as configs
from arm import recipes
from arm.errors import ArmError, UserError

PAGE_SIZE = 100
"""Recurring runs in one answer of KFP, which gives 10 when not asked."""
FILE = Path(__file__).with_name("schedules.yaml")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One pipeline that a cluster starts by itself."""

    name: str
    """Name of the recurring run; creating it again replaces it."""
    description: str
    """Why it runs."""
    pipeline: str
    """`toy`, `full` or `experiment`."""
    recipe: str
    """Name of a recipe."""
    cron: str
    """Six fields: second, minute, hour, day of the month, month, day of the week; UTC."""
    store: str
    """`s3://bucket/prefix` of the artifacts."""
    earlier: str = ""
    """Store whose crawls the run adds to; empty: every run takes the whole crawl."""
    attempt: int = 1
    """2 or more: asks again for what the download of the same crawl before it in `earlier` got no answer to."""

    def __post_init__(self) -> None:
        if len(self.cron.split()) != 6 or re.search(r"[^\d*,/\-? ]", self.cron):
            raise UserError(
                f"The schedule {self.name} has the cron {self.cron!r}; give six fields, seconds first, as in '0 0 3 * * 1'."
            )
        if not self.store.startswith("s3://"):
            raise UserError(f"The schedule {self.name} writes to {self.store!r}; a cluster needs s3://bucket/prefix.")
        if self.attempt < 1 or (self.attempt > 1 and not self.earlier):
            raise UserError(
                f"The schedule {self.name} has attempt {self.attempt} and earlier {self.earlier!r}; give a number from 1, "
                "and from 2 on the store of the attempts before."
            )


def read(path: Path = FILE) -> list[Schedule]:
    """The schedules of a YAML file, strictly read."""
    import yaml

    return [configs.from_dict(Schedule, values) for values in yaml.safe_load(path.read_text())]


def to_request(schedule: Schedule) -> dict[str, Any]:
    """The body of KFP's `CreateRecurringRun` (v2beta1), without the ids that only a server knows."""
    return {
        "display_name": schedule.name,
        "description": schedule.description,
        "mode": "ENABLE",
        "no_catchup": True,
        "max_concurrency": "1",
        "trigger": {"cron_schedule": {"cron": schedule.cron}},
        "runtime_config": {"parameters": _parameters(schedule)},
    }


def _parameters(schedule: Schedule) -> dict[str, Any]:
    earlier = {"earlier": schedule.earlier} if schedule.earlier else {}
    return {"store": schedule.store} | earlier | ({"attempt": schedule.attempt} if schedule.attempt > 1 else {})


def create(host: str, schedules: list[Schedule]) -> None:
    """Upload each pipeline and create its recurring run; those of the same name go once it is there.

    KFP gives every recurring run an id of its own and lets several have one name, so a create that fails loses none.
    """
    import kfp

    from pipelines.run import compile_to, refuse_exceptions

    client = kfp.Client(host=host)
    experiment = client.create_experiment("arm").experiment_id
    known = list(_recurring_runs(client, experiment))
    with tempfile.TemporaryDirectory() as folder:
        for schedule in schedules:
            recipe = recipes.find(schedule.recipe)
            refuse_exceptions(recipe)
            package = compile_to(Path(folder), schedule.pipeline, recipe, cluster=True)
            body = to_request(schedule)
            client.create_recurring_run(
                experiment, schedule.name, description=schedule.description, cron_expression=schedule.cron,
                max_concurrency=1, no_catchup=True, params=body["runtime_config"]["parameters"],
                pipeline_package_path=str(package), enable_caching=False,
            )  # fmt: skip
            for run in known:
                if run.display_name == schedule.name:
                    client.delete_recurring_run(run.recurring_run_id)
            print(f"{schedule.name}: {schedule.cron}")


def _recurring_runs(client: Any, experiment: str) -> Iterator[Any]:
    """All recurring runs of an experiment, page by page."""
    token = ""
    while True:
        page = client.list_recurring_runs(page_token=token, page_size=PAGE_SIZE, experiment_id=experiment)
        yield from page.recurring_runs or []
        if not (token := page.next_page_token):
            return


def main(arguments: list[str] | None = None) -> None:
    """Print the requests, or create the recurring runs."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.schedules", description="KFP recurring runs.")
    parser.add_argument("--host", help="address of a Kubeflow Pipelines server")
    options = parser.parse_args(arguments)
    try:
        schedules = read()
        if options.host:
            create(options.host, schedules)
        else:
            print(json.dumps([to_request(schedule) for schedule in schedules], indent=1))
    except ArmError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
