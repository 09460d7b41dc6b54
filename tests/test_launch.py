"""Launching: here or as ranks, errors as sentences through files, and no process outlives its parent."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_jobs import MADE_UP

from arm import jobs, launch, manifest
from arm.errors import UserError

SCRIPT = str(Path(__file__).with_name("made_up_jobs.py"))
TWO_RANKS = '{"ranks": 2, "threads": 1}'


@pytest.fixture(autouse=True)
def made_up_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jobs, "JOBS", MADE_UP)
    monkeypatch.setattr(launch, "RANK_COMMAND", (sys.executable, SCRIPT, "--rank"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    return


def test_a_launched_job_saves_a_reference(tmp_path: Path) -> None:
    done = launch.launch("count", output=str(tmp_path / "01-count"), resources='{"threads": 1}')
    done.save(str(tmp_path / "reference.json"))
    assert manifest.load(str(tmp_path / "reference.json")).digest == done.manifest.digest


def test_two_ranks_publish_what_one_publishes(tmp_path: Path) -> None:
    one = launch.launch("count", output=str(tmp_path / "one"), resources='{"threads": 1}').manifest
    two = launch.launch("count", output=str(tmp_path / "two"), resources=TWO_RANKS).manifest
    assert two.digest == one.digest
    provenance = json.loads((Path(two.folder.url) / "run.json").read_text())
    assert (provenance["ranks"], provenance["threads"]) == ("2", "1")


def test_ranks_of_a_job_that_does_not_divide_its_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^count-alone runs as one process, not as 2 ranks; give it ranks 1\.$"):
        launch.launch("count-alone", output=str(tmp_path / "x"), resources=TWO_RANKS)


def test_a_complete_output_starts_no_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = launch.launch("count", output=str(tmp_path / "x"), resources=TWO_RANKS).manifest
    monkeypatch.setattr(launch, "RANK_COMMAND", ("false",))
    assert launch.launch("count", output=str(tmp_path / "x"), resources=TWO_RANKS).manifest == first


def test_a_ranks_user_error_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^The count went badly; set how to 'well'\.$"):
        launch.launch("count", output=str(tmp_path / "x"), config='{"how": "badly"}', resources=TWO_RANKS)


def test_a_rank_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "RANK_COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(RuntimeError, match="ended with code 3"):
        launch.launch("count", output=str(tmp_path / "x"), resources=TWO_RANKS)


RANK_OF_A_BAD_MACHINE = """
import os, pathlib, runpy, sys
seen = pathlib.Path({seen!r})
seen.mkdir(exist_ok=True)
if len(list(seen.iterdir())) < 2 * {times}:
    (seen / str(os.getpid())).touch()
    sys.exit(75 if os.environ["RANK"] == "1" else 0)
sys.argv, sys.path[0] = [{script!r}, "--rank"], os.path.dirname({script!r})
runpy.run_path({script!r}, run_name="__main__")
"""


def test_ranks_that_ask_for_it_are_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = RANK_OF_A_BAD_MACHINE.format(seen=str(tmp_path / "seen"), script=SCRIPT, times=1)
    monkeypatch.setattr(launch, "RANK_COMMAND", (sys.executable, "-c", code))
    assert launch.launch("count", output=str(tmp_path / "x"), resources=TWO_RANKS).manifest.counts == {"units": 3}


def test_ranks_that_hang_again_and_again_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "RANK_COMMAND", (sys.executable, "-c", "raise SystemExit(75)"))
    with pytest.raises(UserError, match=r"^The ranks of count hung 4 times; their stacks are above"):
        launch.launch("count", output=str(tmp_path / "x"), resources=TWO_RANKS)


SAVER = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: (time.sleep(0.5), pathlib.Path({saved!r} + os.environ["RANK"]).touch(), os._exit(75)))
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path({ready!r} + os.environ["RANK"]).touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_launcher_that_is_asked_to_stop_lets_its_ranks_save(tmp_path: Path, number: signal.Signals) -> None:
    saver = SAVER.format(saved=str(tmp_path / "saved-"), ready=str(tmp_path / "ready-"))
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests behind itself has it ignored
sys.path.insert(0, {str(Path(SCRIPT).parent)!r})
from arm import cli, jobs, launch
from made_up_jobs import MADE_UP
jobs.JOBS = MADE_UP
launch.RANK_COMMAND = (sys.executable, "-c", {saver!r})
cli.main(["count", "--output", {str(tmp_path / "x")!r}, "--resources", {TWO_RANKS!r}])
"""
    launcher = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == 2)
    launcher.send_signal(number)
    error = launcher.communicate(timeout=60)[1]
    assert launcher.returncode == 75, error
    assert "Traceback" not in error
    assert len(list(tmp_path.glob("saved-*"))) == 2


def test_a_tasks_user_error_goes_to_a_file_and_exit_code_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARM_ERROR_FILE", str(tmp_path / "error.jsonl"))
    with pytest.raises(SystemExit) as caught:
        launch.launch("count", output=str(tmp_path / "x"), config='{"num_unit": 1}')
    assert caught.value.code == 1
    assert (
        launch.read_error(tmp_path / "error.jsonl") == "CountConfig has no field 'num_unit'; did you mean 'num_units'?"
    )


def test_no_error_file_means_no_error(tmp_path: Path) -> None:
    assert launch.read_error(tmp_path / "absent") is None


@pytest.mark.parametrize("text", ['{"ranks": 0}', '{"threads": 0}', '{"where": "moon"}', '{"gpu": 1}'])
def test_wrong_resources_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError):
        launch.launch("count", output=str(tmp_path / "x"), resources=text)


def test_ranks_die_with_a_killed_launcher(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(SCRIPT).parent)!r})
from arm import jobs, launch
from made_up_jobs import MADE_UP
jobs.JOBS = MADE_UP
launch.RANK_COMMAND = (sys.executable, {SCRIPT!r}, "--rank")
launch.launch("count", output={str(tmp_path / "x")!r}, config='{{"seconds_per_unit": 60}}', resources={TWO_RANKS!r})
"""
    launcher = subprocess.Popen([sys.executable, "-c", code])
    ranks = wait_for(lambda: children_of(launcher.pid) if len(children_of(launcher.pid)) == 2 else None)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    assert wait_for(lambda: not any(is_alive(rank) for rank in ranks))


def test_a_task_dies_with_the_runner_it_is_no_child_of(tmp_path: Path) -> None:
    runner = subprocess.Popen(["sleep", "60"])
    task = subprocess.Popen(
        [sys.executable, SCRIPT, "count", "--output", str(tmp_path / "x"), "--seconds-per-unit", "60"],
        env={**os.environ, "ARM_RUNNER_PID": str(runner.pid)},
    )
    wait_for(lambda: (tmp_path / "x").is_dir())
    assert task.poll() is None
    runner.kill()
    runner.wait()
    assert task.wait(30) == -signal.SIGKILL


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(question, seconds: float = 30.0):  # type: ignore[no-untyped-def]
    """Ask until the answer is true; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return answer
