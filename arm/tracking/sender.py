"""The sender: tells MLflow what the spools hold, in batches, again and again until it is told.

    python -m arm.tracking.sender STORE     sends until stdin closes, then once more (a session's follower)

MLflow's import costs seconds, so one process at low priority sends for all jobs of a session. A pipeline's run is found
by the tag arm.pipeline_key and reopened, a job's by arm.content_key; a resumed job's steps that are there already are
not sent twice. A dead server costs a job nothing: the spool stays, and the next sender goes on at the byte where this
one stopped.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arm.errors import without_userinfo
from arm.tracking.spool import EVENTS, SENT, database_folder, progress_of, tracking_folder

TICK_SECONDS = 2.0
PAUSE_AFTER_FAILURE_SECONDS = 10.0
MAX_BATCH = 1000
MAX_FAILURES = 3
EXPERIMENT = "arm"


def mlflow_address(store: str) -> str:
    """MLFLOW_TRACKING_URI, or the store's own sqlite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database_folder(store) / 'mlflow.db'}"


def connect(store: str) -> Any:
    """An MLflow client that gives up on a dead server within seconds."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    import logging

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    database_folder(store).mkdir(parents=True, exist_ok=True)
    return MlflowClient(mlflow_address(store))


class Sender:
    """Sends the spools of one store."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._root = tracking_folder(store)
        self._client: Any = None
        self._experiment = ""
        self._steps: dict[str, dict[str, int]] = {}
        """Run -> metric -> last step that a reopened run holds already."""

    def send_all(self) -> bool:
        """Send everything; True when nothing is left. Whatever goes wrong is noted in `sender.log`."""
        if not self._waiting():
            return True
        with self._alone() as alone:
            if not alone:
                return False
            failures = 0
            for folder in self._waiting():
                failures += not self._try(folder)
                if failures == MAX_FAILURES:  # the server, not one run, is the trouble
                    break
        return not failures

    def _try(self, folder: Path) -> bool:
        try:
            self._client = self._client or connect(self._store)
            self._send(folder)
        except Exception as error:  # any failure of a server or its client library
            self._client, self._experiment = None, ""
            with contextlib.suppress(OSError), (self._root / "sender.log").open("a") as stream:
                stream.write(without_userinfo(f"{type(error).__name__}: {error}\n"))
            return False
        return True

    def _waiting(self) -> list[Path]:
        return sorted(path.parent for path in (self._root / "spool").glob(f"*/{EVENTS}") if _unsent(path.parent))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        with (self._root / ".sender.lock").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _send(self, folder: Path) -> None:
        """Send one spool from where it stopped; remove it when its writer is gone and all is told."""
        with (folder / EVENTS).open("rb") as stream:
            gone = _writer_is_gone(stream.fileno())
            sent, run = progress_of(folder)
            stream.seek(sent)
            lines = stream.read().split(b"\n")[:-1]
        for batch in _batches(lines):
            run = self._send_batch(folder, run, [json.loads(line) for line in batch])
            sent += sum(len(line) + 1 for line in batch)
            _save_progress(folder, sent, run)
        if gone:
            shutil.rmtree(folder, ignore_errors=True)

    def _send_batch(self, folder: Path, run: str, events: list[dict[str, Any]]) -> str:
        if events[0]["event"] == "metrics":
            self._send_metrics(run, events)
            return run
        (event,) = events
        kind = event["event"]
        if kind == "start":
            return self._open_run(event)
        if kind == "pipeline":
            self._pipeline_run(event["pipeline"], event["status"])
        elif kind == "returned":
            self._client.set_tag(
                self._pipeline_run(event["pipeline"]), f"arm.returned.{event['name']}", event["digest"]
            )
        elif kind == "manifest":
            self._client.log_text(run, event["text"], "manifest.json")
            self._client.set_tag(run, "arm.digest", event["digest"])
        elif kind == "file":
            self._client.log_artifact(run, str(folder / event["path"]), event["folder"] or None)
        elif kind == "register":
            self._register(run, event)
        elif kind == "finish":
            self._client.set_terminated(run, event["status"], event["time"])
        return run

    def _send_metrics(self, run: str, events: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        known = self._steps.get(run, {})
        metrics = [
            Metric(plain_name(name), value, event["time"], event["step"])
            for event in events
            for name, value in event["values"].items()
            if event["step"] > known.get(plain_name(name), -1)
        ]
        for start in range(0, len(metrics), MAX_BATCH):
            self._client.log_batch(run, metrics=metrics[start : start + MAX_BATCH])

    def _open_run(self, event: dict[str, Any]) -> str:
        """Attach to KFP's run, reopen the run of this content key, or make a new one."""
        run: str = event["mlflow_run_id"]
        tags = {"arm.content_key": event["key"], "arm.job": event["job"], "arm.output": event["output"]}
        if event["pipeline"]:
            tags["mlflow.parentRunId"] = self._pipeline_run(event["pipeline"])
        found = None if run else self._find("arm.content_key", event["key"])
        if found:
            run = self._reopen(found)
        elif not run:
            name = event["output"].rstrip("/").rpartition("/")[2]
            run = self._client.create_run(self._experiment_id(), run_name=name, start_time=event["time"]).info.run_id
        for name, value in tags.items():
            self._client.set_tag(run, name, value)
        if not found:
            self._describe(run, event)
        return run

    def _describe(self, run: str, event: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, Param

        params = [Param(plain_name(name), str(value)[:6000]) for name, value in flat(event["params"]).items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(run, params=params[start : start + 100])
        datasets = [
            DatasetInput(Dataset(name=i["name"], digest=i["digest"][:32], source_type="arm", source=i["url"]))
            for i in event["inputs"]
        ]
        if datasets:
            self._client.log_inputs(run, datasets)

    def _reopen(self, found: Any) -> str:
        """Set a run to running again and note how far each of its metrics goes."""
        run: str = found.info.run_id
        self._client.update_run(run, status="RUNNING")
        histories = {name: self._client.get_metric_history(run, name) for name in found.data.metrics}
        self._steps[run] = {
            name: max(point.step for point in history) for name, history in histories.items() if history
        }
        return run

    def _register(self, run: str, event: dict[str, Any]) -> None:
        """Make a version of the registered model, unless this release has one, and move the alias if it may."""
        from mlflow.exceptions import MlflowException

        name, digest = event["name"], event["digest"]
        with contextlib.suppress(MlflowException):  # it exists: the usual case
            self._client.create_registered_model(name)
        versions = list(self._client.search_model_versions(f"name='{name}'"))
        own = [found for found in versions if found.tags.get("arm.digest") == digest]
        version = own[0] if own else self._client.create_model_version(
            name, event["source"], run_id=run, tags=event["tags"], description=event["description"], await_creation_for=0
        )  # fmt: skip
        if event["alias"]:
            self._move_alias(event, version, versions)

    def _move_alias(self, event: dict[str, Any], version: Any, versions: list[Any]) -> None:
        """Move the alias, unless it was held against a champion that is the champion no longer."""
        name, alias = event["name"], event["alias"]
        holder = self._client.get_registered_model(name).aliases.get(alias)
        held = next((found.tags.get("arm.digest", "") for found in versions if str(found.version) == str(holder)), "")
        compared = event.get("champion")
        if compared is None or held in (compared, event["digest"]):
            self._client.set_registered_model_alias(name, alias, version.version)
            return
        sentence = (
            f"The alias {alias} stays: version {holder} has taken it since this release was held against the one before; "
            "run register-model again."
        )
        self._client.set_model_version_tag(name, version.version, "arm.gates", "not held")
        self._client.update_model_version(name, version.version, f"{event['description']}\n{sentence}")

    def _pipeline_run(self, pipeline: dict[str, str], status: str = "") -> str:
        found = self._find("arm.pipeline_key", pipeline["key"])
        if not found:
            tags = {"arm.pipeline_key": pipeline["key"]}
            found = self._client.create_run(self._experiment_id(), run_name=pipeline["name"], tags=tags)
        run: str = found.info.run_id
        if status == "RUNNING":
            self._client.update_run(run, status=status)
        elif status:
            self._client.set_terminated(run, status)
        return run

    def _find(self, tag: str, value: str) -> Any:
        runs = self._client.search_runs([self._experiment_id()], f"tags.`{tag}` = '{value}'", max_results=1)
        return runs[0] if runs else None

    def _experiment_id(self) -> str:
        """The experiment of all runs; a server says where its artifacts lie, of a bare database they lie in the store."""
        if not self._experiment:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            served = mlflow_address(self._store).startswith("http")
            place = None if served else str(database_folder(self._store) / "mlflow-artifacts")
            found = self._client.get_experiment_by_name(name)
            self._experiment = found.experiment_id if found else self._client.create_experiment(name, place)
        return self._experiment


def plain_name(name: str) -> str:
    """A name that MLflow takes: other characters become underscores."""
    return re.sub(r"[^\w\-./: ]", "_", name, flags=re.ASCII)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    result: dict[str, Any] = {}
    for name, value in values.items():
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return result


def _batches(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Metrics in runs of neighbours, everything else alone; a line that a kill tore is left out with what precedes it."""
    batch: list[bytes] = []
    for line in lines:
        metrics = line.startswith(b'{"event": "metrics"')
        if batch and (not metrics or len(batch) == MAX_BATCH):
            yield batch
            batch = []
        if metrics:
            batch.append(line)
        else:
            yield [line]
    if batch:
        yield batch


def _unsent(folder: Path) -> bool:
    return progress_of(folder)[0] < (folder / EVENTS).stat().st_size or _is_unlocked(folder)


def _is_unlocked(folder: Path) -> bool:
    with (folder / EVENTS).open("rb") as stream:
        return _writer_is_gone(stream.fileno())


def _writer_is_gone(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(handle, fcntl.LOCK_UN)
    return True


def _save_progress(folder: Path, sent: int, run: str) -> None:
    temporary = folder / ".sent"
    temporary.write_text(json.dumps({"bytes": sent, "run": run}))
    temporary.replace(folder / SENT)


def main() -> None:
    """Follow a store's spools until stdin closes."""
    os.nice(15)
    sender, last = Sender(sys.argv[1]), False
    while True:
        done = sender.send_all()
        if last:
            return
        pause = TICK_SECONDS if done else PAUSE_AFTER_FAILURE_SECONDS
        readable, _, _ = select.select([sys.stdin], [], [], pause)
        last = bool(readable)


if __name__ == "__main__":
    main()
