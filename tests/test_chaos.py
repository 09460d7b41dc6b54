"""Killed at random moments and run again, everything ends as if nothing had happened."""

import importlib.util
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaos import MARK, alive, digests, plan_kills, run_to_the_end, run_with_kills

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


def test_moments_are_spread_over_the_time_and_named_by_the_job_they_fall_into() -> None:
    class Fixed(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert (a, b) == (0.0, 20.0)
            return moments.pop()

    moments = [11.0, 4.0, 13.5]
    found = plan_kills([(0.0, 10.0), (12.0, 20.0)], 3, Fixed(0))
    assert [(kill.num_complete, kill.seconds, kill.at_work) for kill in found] == [
        (0, 4, True),
        (1, 1, False),
        (1, 1.5, True),
    ]


@pytest.mark.slow
def test_a_chain_of_jobs_survives_ten_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chain(name: str) -> list[str]:
        return [sys.executable, SCRIPT, "--chain", str(tmp_path / name)]

    monkeypatch.delenv("ARM_TRACKING_SESSION")
    run_to_the_end(chain("undisturbed"))
    hits = run_with_kills(chain("killed"), tmp_path / "killed", like=tmp_path / "undisturbed", kills=10, seed=SEED)
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
    run_to_the_end(pipeline("undisturbed"))
    hits = run_with_kills(pipeline("killed"), tmp_path / "killed", like=tmp_path / "undisturbed", kills=10, seed=SEED)
    assert len(hits) >= 5
    undisturbed = digests(tmp_path / "undisturbed")
    assert digests(tmp_path / "killed") == undisturbed
    assert any(name.endswith("register-model") for name in undisturbed)
