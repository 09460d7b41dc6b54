"""The `arm` command.

arm                       lists the verbs
arm jobs                  lists the jobs
arm <job> --output DIR --<input> DIR [--config JSON] [--<field> VALUE]
"""

import argparse
import sys

from arm import jobs
from arm.errors import ArmError
from arm.launch import launch


def main(arguments: list[str] | None = None) -> None:
    """Run one command; an error is one sentence and exit code 1."""
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except ArmError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        raise SystemExit(130) from None


def _run(arguments: list[str]) -> None:
    if not arguments or arguments == ["jobs"]:
        for job in jobs.JOBS:
            print(f"{job.name:18} {job.purpose}")
        return
    job = jobs.find(arguments[0])
    parser = argparse.ArgumentParser(prog=f"arm {job.name}", description=job.purpose)
    parser.add_argument("--output", required=True, help="family folder of the output")
    parser.add_argument("--config", default="{}", help="config as JSON")
    parser.add_argument("--resources", default="{}", help="resources as JSON")
    for item in job.inputs:
        parser.add_argument(f"--{item.name.replace('_', '-')}", default=None, help=f"input ({item.role})")
    values = vars(parser.parse_args(arguments[1:]))
    done = launch(job.name, **values)
    print(done.manifest.folder.url)


if __name__ == "__main__":
    main()
