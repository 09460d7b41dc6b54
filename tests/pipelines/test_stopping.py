"""Ctrl-C on a pipeline: tasks are asked to stop and waited for, other children are not."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.stopping import TASK, let_tasks_save

SAVES = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(.3)
    pathlib.Path(sys.argv[2]).write_text("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""


def child(name: str, saved: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", SAVES, name, str(saved)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_task_has_saved_when_the_pipeline_goes_on_and_other_children_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with child(TASK, tmp_path / "task") as task, child("the tracking sender", tmp_path / "other") as other:
        try:
            let_tasks_save(20)
            assert (tmp_path / "task").read_text() == "saved"
            assert other.poll() is None
            assert "saves first" in capsys.readouterr().err
        finally:
            other.kill()
    assert task.returncode == 75
    assert not (tmp_path / "other").exists()


def test_nothing_is_said_when_no_task_runs(capsys: pytest.CaptureFixture[str]) -> None:
    let_tasks_save()
    assert capsys.readouterr().err == ""
