"""The machine that runs jobs: content keys, reuse, resume, one writer, and errors as sentences."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_jobs import MADE_UP

from arm import jobs
from arm.errors import IntegrityError, LockedError, UserError
from arm.lock import output_lock
from arm.manifest import Manifest
from arm.storage import LocalFolder
from arm.storage.disk import disk_errors_in_a_sentence

SCRIPT = str(Path(__file__).with_name("made_up_jobs.py"))


@pytest.fixture(autouse=True)
def made_up_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jobs, "JOBS", MADE_UP)
    return


def count(store: Path, config: str = "{}", source: Manifest | None = None, name: str = "01-count") -> Manifest:
    return jobs.run("count", output=str(store / name), config=config, inputs={"source": source.url if source else None})


def test_a_job_publishes_what_it_counted(tmp_path: Path) -> None:
    made = count(tmp_path, '{"num_units": 3, "factor": 2.0}')
    assert [json.loads(made.local(entry).read_text()) for entry in made.files] == [0.0, 2.0, 4.0]
    assert made.counts == {"units": 3}
    assert made.folder.url == str(tmp_path / "01-count" / made.key[:16])
    pointer = json.loads((tmp_path / "01-count" / "current.json").read_text())
    assert pointer == {"manifest": f"{made.key[:16]}/manifest.json", "digest": made.digest}


def test_the_input_is_read_and_recorded(tmp_path: Path) -> None:
    first = count(tmp_path)
    second = count(tmp_path, source=first, name="02-count")
    assert second.inputs == {"source": first.digest}
    assert second.metrics == {"base": 6.0}  # 0 + 2 + 4


def test_the_same_run_is_returned_untouched(tmp_path: Path) -> None:
    first = count(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in Path(first.folder.url).rglob("*")}
    assert count(tmp_path).digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in Path(first.folder.url).rglob("*")} == before


@pytest.mark.parametrize(("config", "same"), [('{"seconds_per_unit": 0.001}', True), ('{"factor": 3}', False)])
def test_the_key_covers_what_can_change_bytes(tmp_path: Path, config: str, same: bool) -> None:
    assert (count(tmp_path, config).key == count(tmp_path).key) is same


def test_the_key_covers_the_jobs_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = count(tmp_path)
    monkeypatch.setattr(jobs, "JOBS", (dataclasses.replace(MADE_UP[0], version=2),))
    assert count(tmp_path).key != old.key


def test_the_bytes_do_not_depend_on_the_place(tmp_path: Path) -> None:
    assert count(tmp_path / "here").digest == count(tmp_path / "there").digest


def test_current_points_to_the_run_asked_for_last(tmp_path: Path) -> None:
    first = count(tmp_path)
    count(tmp_path, '{"factor": 3}')
    count(tmp_path)
    assert json.loads((tmp_path / "01-count" / "current.json").read_text())["digest"] == first.digest


def test_units_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    plan = jobs.plan("count", output=str(tmp_path / "01-count"), inputs={})
    plan.folder.write("units/001.json", b"41")  # as a killed run left it
    made = jobs.execute(plan)
    assert made.local("units/001.json").read_text() == "41"
    assert not (Path(made.folder.url) / ".work").exists()


def test_without_manifest_there_is_no_artifact(tmp_path: Path) -> None:
    plan = jobs.plan("count", output=str(tmp_path / "01-count"), inputs={})
    plan.folder.write("units/001.json", b"41")
    assert plan.complete() is None
    with pytest.raises(UserError, match="holds no manifest"):
        count(tmp_path, source=dataclasses.replace(jobs.execute(plan), folder=LocalFolder(tmp_path / "empty")))


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^The disk that holds .*/01-count/\w+ is full; free some space"):
        count(tmp_path, '{"how": "full"}')


def test_an_output_that_cannot_be_made_is_one_sentence_and_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a file; on a disk without any room, such as /proc; a bug of a job's is neither."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"/file/01-count/\w+ cannot be used \(Not a directory: .*: give another path"):
        count(tmp_path / "file")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=0, used=0, free=0))
    place = str(tmp_path / "01-count")
    numbers = (errno.ENOENT, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT)
    for number in numbers:
        full = number in (errno.ENOSPC, errno.EDQUOT)
        told = f"The disk that holds {place} is full;" if full else f"{place} cannot be used ("
        with pytest.raises(UserError, match=re.escape(told)), disk_errors_in_a_sentence(place):
            raise OSError(number, os.strerror(number), place)
    (tmp_path / "01-count").mkdir()
    for bug in (FileNotFoundError(errno.ENOENT, "", f"{place}/units"), RuntimeError("a bug")):
        with pytest.raises(type(bug)), disk_errors_in_a_sentence(place):
            raise bug


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_sentence_and_no_loss(tmp_path: Path) -> None:
    """A tmpfs of 96 KiB: the job ends in a sentence; with more space the same command goes on."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    command = [sys.executable, SCRIPT, "count", "--output", str(small / "01-count"), "--num-units", "60"]
    try:
        full = subprocess.run(command, capture_output=True, text=True)
        assert (full.returncode, full.stdout) == (1, "")
        (line,) = full.stderr.splitlines()
        assert line.endswith("is full; free some space and run the same command again.")
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        assert subprocess.run(command, capture_output=True).returncode == 0
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_failed_job_publishes_nothing_and_says_so_to_the_tracker(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="went badly"):
        count(tmp_path, '{"how": "badly"}')
    assert not list(tmp_path.rglob("manifest.json"))
    (events,) = tmp_path.glob(".tracking/spool/*/events.jsonl")
    assert json.loads(events.read_text().splitlines()[-1])["status"] == "FAILED"


@pytest.mark.parametrize(
    ("name", "inputs", "sentence"),
    [
        ("cuont", {}, "There is no job 'cuont'; did you mean 'count'?"),
        ("count", {"sorce": "x"}, "count has no input 'sorce'; did you mean 'source'?"),
    ],
)
def test_a_wrong_name_is_one_sentence(tmp_path: Path, name: str, inputs: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        jobs.run(name, output=str(tmp_path), inputs=inputs)
    assert str(caught.value) == sentence


def test_a_missing_input_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = dataclasses.replace(MADE_UP[0], inputs=(jobs.Input("source"),))
    monkeypatch.setattr(jobs, "JOBS", (needed,))
    with pytest.raises(UserError, match="count needs the input source: the folder of a finished job"):
        jobs.run("count", output=str(tmp_path))


def test_another_writers_bytes_are_not_overwritten(tmp_path: Path) -> None:
    made = count(tmp_path)
    plan = jobs.plan("count", output=str(tmp_path / "01-count"), inputs={})
    with pytest.raises(IntegrityError, match="was published meanwhile with other bytes"):
        jobs._publish(plan, dataclasses.replace(made, counts={"units": 99}))


def test_a_second_writer_is_told_who_holds_the_output(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "01-count" / "abc")
    code = f"""
import sys, time
from arm.lock import output_lock
from arm.storage import LocalFolder
with output_lock(LocalFolder({folder.url!r}), "count"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        refused = pytest.raises(LockedError, match=f"is being written by process {holder.pid}")
        with refused, output_lock(folder, "count", wait_seconds=0):
            pass
        holder.kill()
        holder.wait()
        with output_lock(folder, "count", wait_seconds=5):
            pass


def test_the_list_of_jobs_needs_the_standard_library_only() -> None:
    code = (
        "import sys, arm.jobs; print([m for m in ('torch', 'pyspark', 'kfp', 'numpy', 'mlflow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_licences_come_along_with_the_inputs_but_not_from_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = dataclasses.replace(MADE_UP[0], name="judged", inputs=(jobs.Input("source", "judge"),))
    monkeypatch.setattr(jobs, "JOBS", (*MADE_UP, judged))
    first = count(tmp_path)
    licensed = dataclasses.replace(first, licences=("CC0-1.0", "MIT"))
    first.folder.write("manifest.json", licensed.to_json())
    second = jobs.run("count", output=str(tmp_path / "02-count"), inputs={"source": first.url})
    third = jobs.run("judged", output=str(tmp_path / "03-judged"), inputs={"source": second.url})
    assert (second.licences, third.licences) == (("CC0-1.0", "MIT"), ())
