"""import-samples under `kill -9`, of itself and of the children that decode: the same bytes in the end, nobody left behind."""

import os
import random
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from chaos import MARK, alive
from test_video import video

pytest.importorskip("av")
SEED = int(os.environ.get("CHAOS_SEED", "20261129"))
KILLS = 10
JOB = """
import sys
from arm.data.config import ImportSamplesConfig, ImportSource
from arm.data.importing import import_samples
from arm.storage import LocalFolder
source = ImportSource(name="given", path=sys.argv[1], format="folder", task="interleaved_video")
output = LocalFolder(sys.argv[2])
output.sweep()  # what jobs.run does first
import_samples(output=output, config=ImportSamplesConfig(sources=(source,), samples_per_shard=7, workers=2))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_killed_with_a_real_signal_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    data = video(tmp_path / "film.mp4")
    (tmp_path / "in").mkdir()
    for number in range(120):
        (tmp_path / f"in/{number:03d}.mp4").write_bytes(data)
        (tmp_path / f"in/{number:03d}.txt").write_text(f"film {number}")
    command = [sys.executable, "-c", JOB, str(tmp_path / "in")]
    started = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    seconds, draw, hits = time.monotonic() - started, random.Random(SEED), 0
    print(f"chaos: seed {SEED}, undisturbed {seconds:.1f} s")
    for _ in range(KILLS):
        mark = uuid.uuid4().hex
        runner = subprocess.Popen([*command, str(tmp_path / "killed")], env={**os.environ, MARK: mark})
        try:
            runner.wait(draw.uniform(0.2, 0.6) * seconds)
        except subprocess.TimeoutExpired:
            victims = {"runner": [runner.pid], "worker": sorted(set(alive(mark)) - {runner.pid})[:1]}
            victim = draw.choice([name for name, pids in victims.items() if pids])
            os.kill(victims[victim][0], 9)
            hits += 1
            if victim == "runner":
                runner.wait()
                deadline = time.monotonic() + 5
                while alive(mark):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            else:
                assert runner.wait() == 0
                assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
                for path in (tmp_path / "killed/counts/given.json", tmp_path / "killed/shards/given-00003.tar"):
                    path.unlink()  # begin again
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    assert hits >= 3
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
