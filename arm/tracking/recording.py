"""What surrounds a job's function: its run in the tracker, its provenance, its place in lineage.

`jobs.execute` opens a recording; the job logs through `tracker`; the recording closes it as finished, failed or killed.
Nothing in here can fail a job.
"""

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from arm import config as configs
from arm.manifest import Manifest
from arm.tracking import lineage, tracker
from arm.tracking.registration import registration_event
from arm.tracking.run import Run
from arm.tracking.spool import Spool, store_of, tracking_folder

PICTURES = ("samples/", "images/")
"""Folders of an artifact whose PNG files are grids and plots to look at."""
MAX_PICTURES = 40
MAX_PICTURE_BYTES = 32 << 20
VERSIONED = ("torch", "transformers", "deepspeed", "pyspark", "numpy", "pyarrow", "img2dataset", "mlflow")


class Recording:
    """The open run of one job."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._started = time.time()
        self._spool = Spool(tracking_folder(store_of(run.output)), run.key)
        self._spool.append({"event": "start", **_description(run)})
        tracker.attach(self._spool)

    def finish(self, manifest: Manifest) -> None:
        """Log the manifest, and write `run.json`: times, host and versions, which no digest covers."""
        tracker.log({**manifest.counts, **manifest.metrics})
        self._log_pictures(manifest)
        self._spool.append({"event": "manifest", "text": manifest.to_json().decode(), "digest": manifest.digest})
        if manifest.kind == "release":
            self._spool.append(registration_event(manifest))
        provenance = {**_provenance(self._run), "started": self._started, "seconds": time.time() - self._started}
        lineage.note(self._run, manifest)
        manifest.folder.write("run.json", (json.dumps(provenance, indent=1, sort_keys=True) + "\n").encode())

    def _log_pictures(self, manifest: Manifest) -> None:
        """Log the newest grids and plots that the job published and did not log itself."""
        listed = [entry for folder in PICTURES for entry in manifest.select(folder, ".png")]
        left = MAX_PICTURE_BYTES
        for entry in listed[-MAX_PICTURES:]:
            left -= entry.bytes
            if left >= 0 and not self._spool.holds(entry.path):
                tracker.log_file(manifest.local(entry), entry.path.rpartition("/")[0])

    def close(self, status: str) -> None:
        """Say how the run ended (FINISHED, FAILED or KILLED) and bring lineage up to date."""
        lineage.settle(store_of(self._run.output))
        tracker.attach(None)
        self._spool.append({"event": "finish", "status": status})
        self._spool.close()


@contextlib.contextmanager
def record_run(run: Run) -> Iterator[Recording]:
    """Record a job from start to end, however it ends."""
    recording = Recording(run)
    status = "FAILED"
    try:
        yield recording
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):  # SystemExit: asked to stop, it has saved and wants to be run again
        status = "KILLED"
        raise
    finally:
        recording.close(status)


def record_reuse(run: Run, manifest: Manifest) -> None:
    """Link an output that was returned untouched to the pipeline's run."""
    if pipeline():
        spool = Spool(tracking_folder(store_of(run.output)), run.key)
        name = run.output.rstrip("/").rpartition("/")[2]
        spool.append({"event": "returned", "pipeline": pipeline(), "name": name, "digest": manifest.digest})
        spool.close()


def record_comparison(
    job: str, output: str, *, key: str, inputs: Sequence[Manifest], metrics: Mapping[str, float], files: Sequence[Path]
) -> None:
    """Tell the tracker of a comparison of finished artifacts, under its own key, with the files to look at."""
    spool = Spool(tracking_folder(store_of(output)), key)
    spool.append({
        "event": "start", "job": job, "key": key, "output": output, "params": {}, "pipeline": pipeline(),
        "inputs": [{"name": item.kind, "digest": item.digest, "url": item.url} for item in inputs],
        "mlflow_run_id": os.environ.get("MLFLOW_RUN_ID", ""),
    })  # fmt: skip
    spool.append({"event": "metrics", "step": 0, "values": dict(metrics)})
    for path in files:
        spool.append_file(path, "")
    spool.append({"event": "finish", "status": "FINISHED"})
    spool.close()


def _description(run: Run) -> dict[str, Any]:
    """What identifies the run in the tracker."""
    return {
        "job": run.job.name,
        "key": run.key,
        "output": run.output,
        "params": configs.to_dict(run.config),
        "inputs": [{"name": n, "digest": m.digest, "url": m.url} for n, m in run.inputs.items()],
        "pipeline": pipeline(),
        "mlflow_run_id": os.environ.get("MLFLOW_RUN_ID", ""),
    }


def pipeline() -> dict[str, str]:
    """The pipeline run that this job belongs to: set by `pipelines.run`, empty outside of one."""
    key = os.environ.get("ARM_PIPELINE_KEY", "")
    return {"key": key, "name": os.environ.get("ARM_PIPELINE_NAME", "pipeline")} if key else {}


def _provenance(run: Run) -> dict[str, Any]:
    return {
        "job": run.job.name,
        "key": run.key,
        "config": configs.to_dict(run.config),
        "inputs": {name: item.url for name, item in run.inputs.items()},
        "host": platform.node(),
        "python": sys.version.split()[0],
        "versions": {name: version for name in VERSIONED if (version := _version(name))},
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "ranks": os.environ.get("WORLD_SIZE", "1"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
