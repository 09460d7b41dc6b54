"""Every data job on the toy world: killed at random moments, or over a store whose calls fail, it ends with the same bytes.

CHAOS_SEED=7 CHAOS_KILLS=3 python -m pytest tests/data/test_data_kills.py -m slow -s -k curate
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chaos import digests, run_to_the_end, run_with_kills
from failing_proxy import failing_proxy
from test_storage import moto_address, new_bucket, use_s3

from arm import manifest, recipes
from arm.config import to_json
from arm.recipes.recipe import job_of

__all__ = ["moto_address"]
pytestmark = pytest.mark.slow
SEED = int(os.environ.get("CHAOS_SEED", "20261129"))
KILLS = int(os.environ.get("CHAOS_KILLS", "10"))
FAILING = 0.1
TRIES = 3
"""Commands that a user may give before a store that fails one call in ten has let the job end."""
TINY = recipes.find("tiny")
INPUTS = {
    "import-samples-training": {"source": "make-world"},
    "extract-pairs": {"crawl": "make-world"},
    "filter-pairs": {"pairs": "extract-pairs"},
    "download-images": {"pairs": "filter-pairs", "site": "make-world"},
    "curate-images": {"crawled": "download-images", "imported": "import-samples-training"},
}
"""Step -> its inputs, and the step that made each."""
CHANGED = {
    "download-images": {"unit_rows": 40},
    "curate-images": {"workers": 2, "samples_per_shard": 100},
    "import-samples-training": {"workers": 2, "samples_per_shard": 50},
}
"""Smaller units, and workers to kill."""


def command(world: Path, step: str, store: str) -> list[str]:
    """A step as a command of its own, over the undisturbed outputs of the steps before it."""
    config = replace(TINY.config(step), **CHANGED.get(step, {}))
    given = [word for name, made in INPUTS.get(step, {}).items() for word in (f"--{name}", str(world / made))]
    return [
        sys.executable,
        "-m",
        "arm",
        job_of(step),
        *given,
        "--output",
        f"{store}/{step}",
        "--config",
        to_json(config),
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The outputs of all steps, made undisturbed one after the other."""
    store = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ARM_TRACKING_SESSION", raising=False)
        for step in ("make-world", *INPUTS):
            print(f"{step}: {run_to_the_end(command(store, step, str(store))):.1f} s undisturbed", flush=True)
        yield store


@pytest.mark.parametrize("step", INPUTS)
def test_killed_at_random_moments_it_gives_the_same_bytes(world: Path, tmp_path: Path, step: str) -> None:
    like = tmp_path / "like"
    like.mkdir()
    (like / step).symlink_to(world / step)
    victims: list[str] = []
    for attempt in range(KILLS):  # a run that ended before its kill begins anew
        store = tmp_path / f"killed-{attempt}"
        wanted, seed = KILLS - len(victims), f"{SEED} {step} {attempt}"
        hits = run_with_kills(command(world, step, str(store)), store, like=like, kills=wanted, seed=seed)
        victims += [kill.victim for kill in hits]
        assert digests(store) == {step: digests(world)[step]}
        if len(victims) == KILLS:
            break
    print(f"{step}: {KILLS} kills, {victims}", flush=True)
    assert len(victims) == KILLS


@pytest.mark.parametrize("step", INPUTS)
def test_over_a_store_of_which_one_call_in_ten_fails_it_gives_the_same_bytes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_address: str, step: str
) -> None:
    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    store = new_bucket(f"failing-{step}")
    with failing_proxy(moto_address, FAILING, SEED) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.address)
        tries = 1
        while (
            done := subprocess.run(command(world, step, store), capture_output=True, text=True, check=False)
        ).returncode:
            assert tries < TRIES, done.stderr[-3000:]
            tries += 1
        print(f"{step}: {proxy.calls} calls, failed {dict(proxy.faults)}, {tries} tries", flush=True)
        assert proxy.faults.total() > 0
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_address)
    monkeypatch.setenv("ARM_CACHE_DIR", str(tmp_path / "another-machine"))
    made = manifest.load(f"{store}/{step}")
    for entry in made.files:
        made.local(entry)
    assert made.digest == digests(world)[step]
