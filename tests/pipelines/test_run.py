"""The runner, over stand-ins: the whole road through KFP, resumed, failing, killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_ins import StandInConfig

from arm import manifest as manifests
from arm.errors import UserError
from arm.recipes import STEPS, folder_name
from arm.storage import open_folder
from arm.tracking.spool import tracking_folder
from pipelines import run

Run = Callable[..., list[str]]
Road = tuple[Path, list[str]]
STAND_INS = Path(__file__).parent / "stand_ins"
MAIN = """
from stand_ins import StandInConfig, stand_in_recipe
from pipelines import run
configs = dict(train_teachers=StandInConfig(seconds={seconds}), import_model_encoder=StandInConfig(problem="Enough."))
try:
    run.run_here("toy", stand_in_recipe(**configs), {store!r})
except run.UserError as error:
    print(error)
"""
ON_A_FULL_DISK = """
from unittest import mock
from stand_ins import stand_in_recipe
from pipelines import run
with mock.patch.object(run.recipes, "find", lambda name: stand_in_recipe()):
    run.main(["--recipe", "stand-in", "--store", {store!r}])
"""


def test_the_toy_road_runs_every_step_in_order(road: Road) -> None:
    _, lines = road
    assert [line.split()[1] for line in lines[1:-2]] == [folder_name(step) for step in STEPS]
    assert "7 of 9 pairs" in lines[1]
    assert lines[-2].startswith("23 jobs in")


def test_a_second_run_redoes_nothing(run_stand_ins: Run, road: Road) -> None:
    store, _ = road
    before = {path: path.stat().st_mtime_ns for path in store.rglob("manifest.json")}
    lines = run_stand_ins("toy", store)
    assert all(line.endswith("already done") for line in lines[1:-2])
    assert lines[-2].endswith("23 of them done before.")
    assert {path: path.stat().st_mtime_ns for path in store.rglob("manifest.json")} == before


@pytest.mark.slow
def test_a_second_crawl_takes_the_first_of_its_own_store_and_run_again_it_redoes_nothing(
    run_stand_ins: Run, tmp_path: Path
) -> None:
    store, changed = tmp_path / "store", {"extract_pairs": StandInConfig(word="another crawl")}
    run_stand_ins("toy", store, earlier=str(store))
    steps = {"filter-pairs": "seen", "curate-images": "known"}
    before = {step: manifests.load(f"{store}/{folder_name(step)}") for step in steps}
    run_stand_ins("toy", store, earlier=str(store), **changed)
    after = {step: manifests.load(f"{store}/{folder_name(step)}") for step in steps}
    for step, name in steps.items():
        assert name not in before[step].inputs
        assert after[step].inputs[name] == before[step].digest
    lines = run_stand_ins("toy", store, earlier=str(store), **changed)
    assert lines[-2].endswith("23 of them done before.")


@pytest.mark.slow
def test_a_second_attempt_asks_for_the_failures_of_the_first_and_each_run_again_redoes_nothing(
    run_stand_ins: Run, tmp_path: Path
) -> None:
    store, steps = tmp_path / "store", {"download-images": "retry_failures", "curate-images": "known"}
    for attempt in (1, 2, 3):  # the third so that one is between
        before = {} if attempt == 1 else {step: manifests.load(f"{store}/{folder_name(step)}") for step in steps}
        run_stand_ins("toy", store, attempt=attempt)
        after = {step: manifests.load(f"{store}/{folder_name(step)}") for step in steps}
        for step, name in steps.items():
            assert after[step].inputs.get(name) == (before[step].digest if before else None)
    for attempt in (1, 3):
        assert run_stand_ins("toy", store, attempt=attempt)[-2].endswith("23 of them done before.")
    with pytest.raises(UserError, match="0 outputs of download-images that are attempt 4"):
        run_stand_ins("toy", store, attempt=5)


def test_every_step_gets_its_own_config_and_the_artifacts_of_the_right_steps(road: Road) -> None:
    store, _ = road
    made = {step: manifests.load(str(store / folder_name(step))) for step in STEPS}
    digests = {step: manifest.digest for step, manifest in made.items()}
    assert all(manifest.config["word"] == step for step, manifest in made.items())
    assert made["train-model-continue"].inputs == {
        "tokens": digests["tokenize-images"],
        "base": digests["train-model-pretrain"],
        "tokenizer": digests["train-tokenizer"],
    }
    assert made["curate-images"].inputs == {
        "crawled": digests["download-images"],
        "imported": digests["import-samples-training"],
        "scorer": digests["import-model-encoder"],
        "evaluation": digests["import-samples-evaluation"],
    }
    assert made["evaluate-model"].inputs["joint_policy"] == digests["train-policy-joint"]
    assert made["evaluate-model"].inputs["samples"] == digests["import-samples-evaluation"]
    assert made["register-model"].inputs["model"] == digests["train-policy-joint"]


def test_the_experiment_trains_each_mixture_and_compares_them_in_one_table(run_stand_ins: Run, road: Road) -> None:
    store, _ = road
    lines = run_stand_ins("experiment", store)
    assert (store / "experiment/comparison.md").read_text() == (
        "| mixture | text_to_image/mean |\n|---|---|\n| paper | 0.500 |\n| even | 0.500 |\n"
    )
    trained = [json.loads(path.read_text()) for path in (store / "experiment-train-model").glob("*/manifest.json")]
    assert {manifest["config"]["word"] for manifest in trained} == {"paper", "even"}
    assert list(store.rglob(".tracking")) == [store / ".tracking"], "the session sends what lies there alone"
    assert lines[-2].startswith("19 jobs in")
    assert lines[-2].endswith("15 of them done before.")
    assert lines[-1] == f"The report: {store}/report/index.html"


def test_a_wrong_input_is_one_sentence(run_stand_ins: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        run_stand_ins("full", tmp_path, import_model_encoder=StandInConfig(problem="There is no file at 'weights'."))
    assert str(error.value) == "There is no file at 'weights'."


def test_a_crash_names_the_step_its_error_and_the_log(run_stand_ins: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        run_stand_ins("toy", tmp_path, make_world=StandInConfig(crash=True))
    log = tmp_path / ".pipeline/kfp.log"
    assert str(error.value) == f"01-make-world failed: ZeroDivisionError: a bug\nThe log is at {log}."
    assert "Traceback" in log.read_text()


def test_after_a_kill_nothing_lives_on_and_the_same_command_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STAND_INS), str(STAND_INS.parents[2])])}
    slow = [sys.executable, "-c", MAIN.format(seconds=600, store=str(tmp_path))]
    runner = subprocess.Popen(slow, env=environment, stdout=subprocess.DEVNULL)
    _wait_until(lambda: '"start"' in _last_line(tmp_path / ".pipeline/progress.jsonl", "train-teachers"))
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    _wait_until(lambda: not _processes_of(tmp_path), seconds=5)

    quick = [sys.executable, "-c", MAIN.format(seconds=0, store=str(tmp_path))]
    lines = subprocess.run(quick, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[1].endswith("already done")
    assert lines[2].split()[1] == "02-train-teachers"
    assert lines[3] == "Enough."


@pytest.mark.parametrize("free_kilobytes", [0, 24, 120])
def test_a_full_disk_is_one_sentence_wherever_the_run_meets_it(tmp_path: Path, free_kilobytes: int) -> None:
    """Nothing left: not even the lock fits; a little: KFP's folder or the log does not; more: some job's output."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        (small / "filler").write_bytes(bytes((256 - free_kilobytes) * 1024))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(STAND_INS), str(STAND_INS.parents[2])]),
            "ARM_TRACKING_SESSION": "",
        }
        command = [sys.executable, "-c", ON_A_FULL_DISK.format(store=str(small / "store"))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        assert re.fullmatch(
            rf"The disk that holds {small}/store\S* is full; free some space and run the same command again\.\n",
            done.stderr,
        ), done.stderr
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_runs_into_object_storage_share_no_working_folder() -> None:
    one, other = (run._working_folder(open_folder(f"s3://bucket/runs/{name}")) for name in (7, 8))
    assert one != other
    assert one.parent == tracking_folder("s3://bucket/runs/7")


def _wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def _last_line(path: Path, word: str) -> str:
    lines = path.read_text().splitlines() if path.is_file() else []
    return lines[-1] if lines and word in lines[-1] else ""


def _processes_of(store: Path) -> list[int]:
    """Processes that inherited the run's progress file, the shells that KFP starts among them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(store).encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    "line",
    [
        "Stopped after step 12 of 100 and saved; the same command goes on.",
        "No step has ended for 312 s (process 7): stopping, to be run again. The stacks are in stacks-rank-0.txt.",
    ],
)
def test_a_task_that_asks_to_be_run_again_says_why(tmp_path: Path, line: str) -> None:
    log = tmp_path / "kfp.log"
    log.write_text(f"ValueError: of a run before\n\n{line}\nTask 'train-model' finished with status FAILURE\n")
    assert run._last_error(log, 0) == line


def test_print_is_put_back_after_tasks_that_ran_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two tasks indent `print`, and the first to begin is the first to end: KFP then leaves the indentation of the second."""
    from kfp.local.logging_utils import indented_print

    with run._output_to(tmp_path / "kfp.log"):
        first, second = indented_print(), indented_print()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
    print("The report")
    assert capsys.readouterr().out == "The report\n"
