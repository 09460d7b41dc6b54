"""The spool and its sender: what jobs log reaches MLflow once, in order, whenever a server is there."""

import dataclasses
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_jobs import MADE_UP

from arm import jobs
from arm.errors import UserError
from arm.manifest import Outcome
from arm.tracking import recording, tracker
from arm.tracking import sender as senders
from arm.tracking import session as sessions
from arm.tracking.recording import record_reuse
from arm.tracking.sender import Sender, connect, flat, mlflow_address, plain_name
from arm.tracking.session import session
from arm.tracking.spool import Spool, database_folder, store_of, tracking_folder, unsent_bytes


@pytest.fixture(autouse=True)
def made_up_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jobs, "JOBS", MADE_UP)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "ARM_PIPELINE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MLflow's tables, made once: that takes seconds."""
    store = tmp_path_factory.mktemp("empty")
    connect(str(store)).search_experiments()
    return (store / "mlflow.db").read_bytes()


@pytest.fixture
def store(tmp_path: Path, empty_database: bytes) -> Path:
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    return tmp_path


def count(store: Path, config: str = "{}") -> Any:
    return jobs.run("count", output=str(store / "01-count"), config=config)


def runs(store: Path) -> list[Any]:
    client = connect(str(store))
    found = client.get_experiment_by_name(senders.EXPERIMENT)
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time"]))


def spools(store: Path) -> list[Path]:
    return sorted((store / ".tracking" / "spool").iterdir())


def test_a_jobs_params_metrics_and_manifest_reach_mlflow(store: Path) -> None:
    made = count(store, '{"num_units": 2}')
    assert Sender(str(store)).send_all()
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert run.data.params["num_units"] == "2"
    assert run.data.metrics == {"loss/unit": 0.5, "units": 2.0, "base": 0.0}
    assert run.data.tags["arm.content_key"] == made.key
    assert run.data.tags["arm.digest"] == made.digest
    text = next((store / "mlflow-artifacts").rglob("manifest.json")).read_text()
    assert text == made.to_json().decode()
    assert spools(store) == []


def test_metrics_keep_their_steps(store: Path) -> None:
    count(store, '{"num_units": 4}')
    Sender(str(store)).send_all()
    (run,) = runs(store)
    history = connect(str(store)).get_metric_history(run.info.run_id, "loss/unit")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3), (3, 0.25)]


def test_a_resumed_job_goes_on_in_its_run_and_repeats_no_step(store: Path) -> None:
    plan = jobs.plan("count", output=str(store / "01-count"), inputs={})
    killed = Spool(tracking_folder(str(store)), plan.key)
    from arm.tracking.recording import _description

    killed.append({"event": "start", **_description(plan)})
    killed.append({"event": "metrics", "step": 0, "values": {"loss/unit": 1.0}})
    killed.append({"event": "metrics", "step": 1, "values": {"loss/unit": 0.5}})
    killed.close()
    Sender(str(store)).send_all()
    jobs.execute(plan)
    Sender(str(store)).send_all()
    (run,) = runs(store)
    history = connect(str(store)).get_metric_history(run.info.run_id, "loss/unit")
    assert [point.step for point in history] == [0, 1, 2]
    assert run.info.status == "FINISHED"


def test_a_line_torn_by_a_kill_is_left_out(store: Path) -> None:
    count(store)
    (spool,) = spools(store)
    with (spool / "events.jsonl").open("a") as stream:
        stream.write('{"event": "metr')
    assert Sender(str(store)).send_all()
    assert spools(store) == []
    assert len(runs(store)) == 1


def test_a_spool_that_is_still_written_stays(store: Path) -> None:
    plan = jobs.plan("count", output=str(store / "01-count"), inputs={})
    spool = Spool(tracking_folder(str(store)), plan.key)
    spool.append({"event": "pipeline", "pipeline": {"key": "p", "name": "toy"}, "status": "RUNNING"})
    Sender(str(store)).send_all()
    assert spools(store) == [spool.folder]
    spool.append({"event": "pipeline", "pipeline": {"key": "p", "name": "toy"}, "status": "FINISHED"})
    spool.close()
    Sender(str(store)).send_all()
    assert spools(store) == []
    assert [run.info.status for run in runs(store)] == ["FINISHED"]


def test_jobs_of_a_pipeline_are_children_of_one_run(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARM_PIPELINE_KEY", "p7")
    monkeypatch.setenv("ARM_PIPELINE_NAME", "toy (tiny)")
    made = count(store)
    count(store, '{"factor": 3}')
    record_reuse(jobs.plan("count", output=str(store / "01-count"), inputs={}), made)
    Sender(str(store)).send_all()
    found = {run.data.tags.get("arm.pipeline_key", "child"): run for run in runs(store)}
    children = [run for run in runs(store) if "mlflow.parentRunId" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {found["p7"].info.run_id}
    assert len(children) == 2
    assert found["p7"].data.tags["arm.returned.01-count"] == made.digest


def test_a_run_that_kfp_opened_is_used(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(str(store))
    run_id = client.create_run(client.create_experiment("kfp", str(store / "kfp-artifacts"))).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    count(store)
    Sender(str(store)).send_all()
    assert client.get_run(run_id).data.metrics["units"] == 3.0


def test_what_the_sender_notes_of_a_failure_names_no_password(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: str) -> None:
        raise ConnectionError("API request to http://me:secret@mlflow.test:5000/api failed")

    monkeypatch.setattr("arm.tracking.sender.connect", refuse)
    count(store)
    assert not Sender(str(store)).send_all()
    assert "http://…@mlflow.test:5000/api failed" in (store / ".tracking" / "sender.log").read_text()


def test_a_dead_server_neither_fails_a_job_nor_loses_its_events(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{probe.getsockname()[1]}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    count(store)
    assert not Sender(str(store)).send_all()
    assert len(spools(store)) == 1
    assert (store / ".tracking" / "sender.log").read_text()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Sender(str(store)).send_all()
    assert len(runs(store)) == 1


def test_a_logged_file_is_copied_and_sent(store: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.png").write_bytes(b"png")
    plan = jobs.plan("count", output=str(store / "01-count"), inputs={})
    from arm.tracking.recording import record_run

    with record_run(plan):
        tracker.log_file(tmp_path / "grid.png", folder="samples")
        (tmp_path / "grid.png").unlink()
    Sender(str(store)).send_all()
    assert next((store / "mlflow-artifacts").rglob("samples/grid.png")).read_bytes() == b"png"


def draw(*, output: Any, config: Any) -> Outcome:
    """A job that publishes three grids, of which it logs the first itself, and one large plot."""
    for name in ("samples/step-1.png", "samples/step-2.png", "images/a.reconstruction.png", "other/no.png"):
        with output.publish(name) as path:
            path.write_bytes(b"png" + name.encode())
            if name == "samples/step-1.png":
                tracker.log_file(path.rename(path.with_name("step-1.png")), "samples")
                path.with_name("step-1.png").rename(path)
    output.write("images/large.png", b"x" * 1000)
    return Outcome(counts={"grids": 3})


def test_grids_and_plots_of_every_job_reach_mlflow_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = dataclasses.replace(MADE_UP[0], name="draw", function=f"{__name__}:draw", inputs=())
    monkeypatch.setattr(jobs, "JOBS", (job,))
    monkeypatch.setattr(recording, "MAX_PICTURE_BYTES", 999)
    jobs.run("draw", output=str(store / "01-draw"))
    (spool,) = spools(store)
    events = [json.loads(line) for line in (spool / "events.jsonl").read_text().splitlines()]
    logged = [f"{event['folder']}/{Path(event['path']).name}" for event in events if event["event"] == "file"]
    assert sorted(logged) == ["images/a.reconstruction.png", "samples/step-1.png", "samples/step-2.png"]
    assert Sender(str(store)).send_all()
    sent = {path.parent.name + "/" + path.name for path in (store / "mlflow-artifacts").rglob("*.png")}
    assert sent == set(logged)


def test_a_bare_database_keeps_artifacts_in_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    monkeypatch.chdir(store)
    count(store)
    assert Sender(str(store)).send_all()
    assert list((store / "mlflow-artifacts").rglob("manifest.json"))
    assert not (store / "mlruns").exists()


def test_outside_of_a_job_logging_does_nothing(tmp_path: Path) -> None:
    tracker.log({"loss": 1.0}, step=1)
    tracker.log_file(tmp_path / "absent.png")
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "k" * 16)
    tracker.attach(spool)
    tracker.log({"loss": float("nan"), "rate": float("inf"), "step": 2}, step=1)
    tracker.attach(None)
    spool.close()
    assert json.loads((spool.folder / "events.jsonl").read_text())["values"] == {"step": 2.0}


def test_a_spool_that_cannot_be_written_fails_no_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    spool = Spool(tmp_path, "k" * 16)
    spool.append({"event": "start"})
    spool.append_file(tmp_path / "x", "")
    spool.close()
    assert capsys.readouterr().err.count("Tracking is off for this run") == 1


def test_a_session_sends_while_it_lasts_and_cleans_up(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARM_TRACKING_SESSION")
    monkeypatch.setattr(sessions, "PATIENCE_SECONDS", 300.0)  # what is sent is asked here, not how fast
    with session(str(store), pipeline="toy", recipe="tiny"):
        key = os.environ["ARM_PIPELINE_KEY"]
        count(store)
    assert "ARM_PIPELINE_KEY" not in os.environ
    assert spools(store) == []
    parents = [run for run in runs(store) if run.data.tags.get("arm.pipeline_key") == key]
    assert [run.info.status for run in parents] == ["FINISHED"]


def test_a_session_that_failed_ends_soon_and_says_nothing_before_its_error(
    store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A follower that takes nothing is ended; what it was to send waits for the next session."""
    monkeypatch.delenv("ARM_TRACKING_SESSION")
    monkeypatch.setattr(sessions, "PATIENCE_AFTER_FAILURE_SECONDS", 0.01)
    follower = subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE)
    monkeypatch.setattr(sessions, "_start_follower", lambda store: follower)
    with pytest.raises(UserError, match="went badly"), session(str(store)):
        count(store, '{"how": "badly"}')
    assert follower.poll() is not None
    assert capfd.readouterr().out == ""
    assert len(spools(store)) == 1


def test_the_end_waits_while_less_is_left_and_then_says_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """300, then 200 and 100 bytes to go: it waits on; 100 again: it stops, and names them and the command."""
    monkeypatch.setattr(sessions, "PATIENCE_SECONDS", 0.01)
    left = iter((300, 200, 100, 100))
    monkeypatch.setattr(sessions, "unsent_bytes", lambda store: next(left))
    follower = subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE)
    sessions._end(follower, str(tmp_path))
    assert follower.poll() is not None
    first, second, last = capsys.readouterr().out.splitlines()
    assert (first, second) == tuple(f"MLflow is still being told of this run: {n} bytes to go." for n in (200, 100))
    assert f"100 bytes wait for the next run, or for `arm tracking flush --store {tmp_path}`" in last


def test_what_is_unsent_is_counted_over_all_spools(tmp_path: Path) -> None:
    for key, sent in (("a", 0), ("b", 4)):
        spool = Spool(tracking_folder(str(tmp_path)), key)
        (spool.folder / "events.jsonl").write_text("123456")
        if sent:
            (spool.folder / "sent").write_text(json.dumps({"bytes": sent, "run": "r"}))
    assert unsent_bytes(str(tmp_path)) == 6 + 2
    assert unsent_bytes(str(tmp_path / "elsewhere")) == 0


def test_places_follow_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store_of(str(tmp_path / "toy" / "05-filter-pairs")) == str(tmp_path / "toy")
    assert store_of("s3://bucket/runs/7/05-filter-pairs/") == "s3://bucket/runs/7"
    assert database_folder("s3://bucket/runs/7").is_relative_to(tmp_path / "arm" / "tracking")
    assert mlflow_address(str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"


def test_one_run_that_mlflow_refuses_does_not_hold_up_the_others(store: Path) -> None:
    broken = Spool(tracking_folder(str(store)), "b" * 16)
    broken.append({"event": "metrics", "step": 0, "values": {"loss": 1.0}})  # without a start there is no run
    broken.close()
    count(store)
    assert not Sender(str(store)).send_all()
    assert len(runs(store)) == 1
    assert spools(store) == [broken.folder]


def test_names_are_made_plain() -> None:
    assert plain_name("dropped/too small: 3×3 (px)") == "dropped/too small: 3_3 _px_"


def test_nested_params_get_dotted_names() -> None:
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}
