"""Killed at twenty random moments, tokenize-images ends with the same bytes: no sample twice, none lost."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_encoding import config, make_inputs

from arm import jobs, launch
from arm.data.shards import read_samples
from arm.manifest import NAME, Manifest
from arm.model import token_shards
from arm.storage import LocalFolder
from arm.tokenizer.protocol import load_tokenizer, tokenizer_folder

SEED = int(os.environ.get("CHAOS_SEED", "20261122"))
KILLS = 20
CONFIG = config(shards_per_unit=1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), {"garden": 4, "web": 3}, per_shard=70)


def prepare(inputs: dict[str, Manifest], folder: Path) -> jobs.Plan:
    urls = {name: made.url for name, made in inputs.items()}
    return jobs.plan("tokenize-images", output=str(folder), config=CONFIG, inputs=urls)


def run_one(plan: jobs.Plan) -> None:
    """The job alone, under its lock."""
    jobs.execute(plan)


def run_part(plan: jobs.Plan, part: str) -> None:
    """One of two parts that run at the same time."""
    launch.execute_part(plan, part)


def start(*works: Callable[[], None]) -> "list[multiprocessing.process.BaseProcess]":
    """A process each, forked: what is imported here needs no second import there."""
    context = multiprocessing.get_context("fork")
    processes: list[multiprocessing.process.BaseProcess] = [context.Process(target=work) for work in works]
    for process in processes:
        process.start()
    return processes


def at_work(folder: Path, processes: "list[multiprocessing.process.BaseProcess]") -> None:
    """Return when the first file of this run appears, temporary ones too, or the processes have ended."""
    before = set(folder.rglob("*"))
    while set(folder.rglob("*")) == before and any(process.is_alive() for process in processes):
        time.sleep(0.005)


def at_unit(plan: jobs.Plan, wanted: int, processes: "list[multiprocessing.process.BaseProcess]") -> None:
    """Return when so many units are complete, or the processes have ended."""
    while len(plan.folder.list("reports/")) < wanted and any(process.is_alive() for process in processes):
        time.sleep(0.005)


def killed(processes: "list[multiprocessing.process.BaseProcess]", seconds: float) -> bool:
    """Kill -9 all of them after so many seconds; False when all had ended before."""
    time.sleep(seconds)
    hit = any(process.is_alive() for process in processes)
    for process in processes:
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    return hit


def every_file(folder: LocalFolder) -> dict[str, bytes]:
    """Name and bytes of whatever lies there, temporary files and working folders too, `run.json` apart."""
    root = Path(folder.url)
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "run.json"}


@pytest.mark.slow
def test_twenty_kills_change_no_byte_lose_nothing_and_repeat_nothing(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    undisturbed, started = prepare(inputs, tmp_path / "undisturbed"), time.monotonic()
    (whole,) = start(lambda: run_one(undisturbed))
    at_work(Path(undisturbed.folder.url), [whole])
    loaded = time.monotonic()
    whole.join()
    seconds, loading = time.monotonic() - loaded, loaded - started
    assert whole.exitcode == 0
    draw, hits, units_at_kill = random.Random(SEED), 0, Counter[int]()
    num_units = len(undisturbed.folder.list("reports/"))
    print(f"seed {SEED}, undisturbed {loading:.2f} s before the first file, then {seconds:.2f} s")
    round_number = 0
    while hits < KILLS:
        plan = prepare(inputs, tmp_path / f"killed-{round_number}")
        alone, moment = draw.random() < 0.5, draw.uniform(0, 1.5 * seconds / num_units)
        works = [lambda p=plan: run_one(p)] if alone else [lambda p=plan, k=k: run_part(p, f"{k}/2") for k in (0, 1)]
        processes = start(*works)
        if draw.random() < 0.9:  # the rest falls into the loading
            at_work(Path(plan.folder.url), processes)
            done = len(plan.folder.list("reports/"))
            at_unit(plan, draw.randrange(done, num_units), processes)
        hit = killed(processes, moment)
        units = len(plan.folder.list("reports/"))
        print(
            f"kill {hits}: {'job' if alone else 'parts'} after {moment:.2f} s, {units} units: {'hit' if hit else 'over'}"
        )
        hits += hit
        units_at_kill[units] += hit
        if not hit or hits == KILLS or units == num_units:
            (last,) = start(lambda p=plan: run_one(p))
            last.join()
            assert last.exitcode == 0
            assert every_file(plan.folder) == every_file(undisturbed.folder)  # type: ignore[arg-type]
            round_number += 1
    between = sum(count for units, count in units_at_kill.items() if 0 < units < num_units)
    assert between >= KILLS // 2, "kills between the first unit and the last"
    assert len(units_at_kill) > 3, "kills at different moments"
    check_rows(inputs, undisturbed.complete())


def check_rows(inputs: dict[str, Manifest], tokens: Manifest | None) -> None:
    """Every sample but the two damaged ones is there once."""
    assert tokens is not None
    assert any(entry.path == "checks.json" for entry in tokens.files)
    assert NAME not in [entry.path for entry in tokens.files]
    fingerprint = load_tokenizer(tokenizer_folder(inputs["tokenizer"])).fingerprint
    shards = token_shards.open_shards(tokens, tokenizer_fingerprint=fingerprint, num_codes=16)
    found = Counter(int(key) for shard in shards for key in shard.uid_keys)
    wanted = Counter(int.from_bytes(bytes.fromhex(s.uid)[:8], "little") for s in read_samples(inputs["images"]))
    assert set(found.values()) == {1}
    assert len(wanted - found) == 2
    assert not found - wanted
