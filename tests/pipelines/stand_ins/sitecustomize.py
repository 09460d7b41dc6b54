"""In every process of a stand-in run: each job's function and config become the stand-ins'."""

import dataclasses

from arm import jobs

jobs.JOBS = tuple(
    dataclasses.replace(
        job, function="stand_ins:stand_in", config="stand_ins:StandInConfig", finds="", makes="stand-in"
    )
    for job in jobs.JOBS
)
