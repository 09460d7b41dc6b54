"""Checkpoints: atomic, sealed, the last good one; copies in the store that a machine without its disk goes on from."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_storage import moto_address, new_bucket, use_s3

from arm.errors import ServiceError, UserError
from arm.storage import Folder, LocalFolder, open_folder
from arm.training.checkpoint import Checkpoints
from arm.training.mirror import Seal, newest_first, outdated

__all__ = ["moto_address"]
FIRST = "step-00000001/rank-00000-of-00001.pt"
SECOND = "step-00000002/rank-00000-of-00001.pt"


def loaded(checkpoints: Checkpoints) -> tuple[int, Any] | None:
    """(step, the value "a")."""
    saved = checkpoints.load_newest()
    return None if saved is None else (saved.step, saved.own["a"])


def test_the_newest_is_loaded_and_only_the_last_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, {"a": torch.full((2,), float(step)), "curves": [{"step": step}]})
    found = loaded(Checkpoints(tmp_path))
    assert found is not None
    assert found[0] == 3
    assert found[1].tolist() == [3.0, 3.0]
    assert checkpoints.steps() == [2, 3]


def test_the_last_two_and_every_hundredth_step_are_kept() -> None:
    assert outdated((100, 150, 200, 250, 300), keep=2, keep_every=100) == [150]
    assert outdated((100, 150, 200, 250, 300), keep=2, keep_every=0) == [100, 150, 200]
    assert outdated((100,), keep=1, keep_every=0) == []


@pytest.mark.parametrize("damage", ["shorter", "altered", "gone"])
def test_a_damaged_one_is_skipped_and_removed(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": 1})
    checkpoints.save(2, {"a": 2})
    data = tmp_path / SECOND
    content = data.read_bytes()
    data.write_bytes(content[:-10] if damage == "shorter" else content[:-10] + b"0123456789")
    if damage == "gone":
        data.unlink()
    assert loaded(Checkpoints(tmp_path)) == (1, 1)
    assert checkpoints.steps() == [1]


def test_an_unsealed_one_does_not_exist(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": 1})
    (tmp_path / "step-00000001" / "seal.json").unlink()
    assert loaded(Checkpoints(tmp_path)) is None
    assert not (tmp_path / "step-00000001").exists()


def test_a_torn_seal_is_none(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": 1})
    checkpoints.save(2, {"a": 2})
    seal = tmp_path / "step-00000002" / "seal.json"
    seal.write_text(seal.read_text()[:40])
    assert loaded(Checkpoints(tmp_path)) == (1, 1)


def test_when_all_are_damaged_the_run_does_not_start_anew_unasked(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(1, {"a": 1})
    (tmp_path / FIRST).write_bytes(b"x")
    with pytest.raises(UserError, match=r"None of the 1 checkpoints in .* is whole for 1 ranks"):
        Checkpoints(tmp_path).load_newest()


def test_seals_are_read_back_newest_first() -> None:
    seals = [Seal(step, "plan", "digest", {"rank-00000-of-00001.pt": (3, "ab")}) for step in (200, 400)]
    assert newest_first([seals[0].to_json(), "{", "[]", seals[1].to_json(), seals[0].to_json()]) == seals[::-1]


@pytest.fixture
def store(moto_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    return open_folder(new_bucket(f"checkpoints-{abs(hash(str(tmp_path))):x}"))


def test_a_machine_that_lost_its_disk_goes_on_from_the_store(
    store: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints.of(store, keep=2, keep_every=2)
    for step in (1, 2, 3, 4, 5):
        checkpoints.save(step, {"a": torch.full((2,), float(step))})
        _await(checkpoints, store, step)
    checkpoints.close()
    assert {name.partition("/")[0] for name in store.child(".work/checkpoints").list()} == {
        f"step-0000000{step}" for step in (2, 4, 5)
    }
    assert store.list() == []  # nothing of them belongs to the artifact
    monkeypatch.setenv("ARM_CACHE_DIR", str(tmp_path / "another-machine"))
    again = Checkpoints.of(store)
    found = loaded(again)
    again.close()
    assert found is not None
    assert (found[0], found[1].tolist()) == (5, [5.0, 5.0])
    store.discard_scratch()
    assert store.child(".work").list() == []


def test_the_newest_of_disk_and_store_is_taken(store: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints.of(store)
    checkpoints.save(1, {"a": 1})
    checkpoints.close(finish=True)
    shutil.copytree(checkpoints.folder, tmp_path / "old-disk")
    checkpoints = Checkpoints(checkpoints.folder, store=store.child(".work/checkpoints"))
    checkpoints.save(2, {"a": 2})
    checkpoints.close(finish=True)
    damaged = checkpoints.folder / SECOND
    damaged.write_bytes(damaged.read_bytes()[:-1])
    mended = Checkpoints.of(store)
    assert loaded(mended) == (2, 2)  # its copy in the store is whole
    mended.close()
    elsewhere = Checkpoints(tmp_path / "old-disk", store=store.child(".work/checkpoints"))
    assert loaded(elsewhere) == (2, 2)
    elsewhere.close()


def test_a_copy_without_its_seal_does_not_exist_and_is_made_again(store: Folder, tmp_path: Path) -> None:
    copies = store.child(".work/checkpoints")
    checkpoints = Checkpoints.of(store)
    checkpoints.save(1, {"a": 1})
    checkpoints.close(finish=True)
    copies.delete("step-00000001/seal.json")
    other_disk = Checkpoints(tmp_path / "empty", store=copies)
    assert loaded(other_disk) is None
    other_disk.close()
    assert copies.list() == []
    again = Checkpoints.of(store)
    assert loaded(again) == (1, 1)
    again.close(finish=True)
    assert copies.list() == ["step-00000001/rank-00000-of-00001.pt", "step-00000001/seal.json"]


def test_a_store_that_fails_does_not_fail_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Full(LocalFolder):
        def publish(self, name: str) -> Any:
            raise ServiceError("the store is full")

    checkpoints = Checkpoints(tmp_path / "disk", store=Full(tmp_path / "store"))
    checkpoints.save(1, {"a": 1})
    checkpoints.close(finish=True)
    assert capsys.readouterr().err == "The checkpoint of step 1 is not in the store: the store is full\n"
    assert loaded(Checkpoints(tmp_path / "disk")) == (1, 1)


def _await(checkpoints: Checkpoints, store: Folder, step: int) -> None:
    deadline = time.monotonic() + 30
    while not store.child(".work/checkpoints").exists(f"step-{step:08d}/seal.json"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
