"""Killed at random moments and run again, everything ends as if nothing had happened."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaos import MARK, alive, digests, run_to_the_end, run_with_kills

ROOT = Path(__file__).parents[1]
SCRIPT = str(Path(__file__).with_name("made_up_jobs.py"))
SEED = int(os.environ.get("CHAOS_SEED", "20261122"))


def test_the_harness_sees_what_outlives_a_kill() -> None:
    """A child in a session of its own, whose parent is gone, is still found by its mark."""
    orphan = "import subprocess, sys; subprocess.Popen(['sleep', '30'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", orphan], env={**os.environ, MARK: "harness-test"}, check=True)
    found = alive("harness-test")
    assert list(found.values()) == ["sleep 30 "]
    for pid in found:
        os.kill(pid, 9)
    deadline = time.monotonic() + 10
    while alive("harness-test"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_chain_of_jobs_survives_ten_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chain(name: str) -> list[str]:
        return [sys.executable, SCRIPT, "--chain", str(tmp_path / name)]

    monkeypatch.delenv("ARM_TRACKING_SESSION")
    seconds = run_to_the_end(chain("undisturbed"))
    hits = run_with_kills(chain("killed"), kills=10, seed=SEED, seconds=seconds)
    assert len(hits) >= 5
    assert digests(tmp_path / "killed") == digests(tmp_path / "undisturbed")
    assert len(digests(tmp_path / "killed")) == 4


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("kfp") is None, reason="kfp is not installed")
def test_the_tiny_recipe_survives_ten_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipeline(name: str) -> list[str]:
        return [sys.executable, "-m", "pipelines.run", "--recipe", "tiny", "--store", str(tmp_path / name)]

    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ARM_TRACKING_SESSION")
    seconds = run_to_the_end(pipeline("undisturbed"))
    hits = run_with_kills(pipeline("killed"), kills=10, seed=SEED, seconds=seconds)
    assert len(hits) >= 5
    undisturbed = digests(tmp_path / "undisturbed")
    assert digests(tmp_path / "killed") == undisturbed
    assert any(name.endswith("register-model") for name in undisturbed)
