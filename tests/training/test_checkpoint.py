"""Checkpoints: atomic, sealed, the last good one."""

from pathlib import Path

import torch

from arm.training.checkpoint import Checkpoints, common_step


def test_the_newest_is_loaded_and_only_the_last_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, {"weights": torch.full((2,), float(step)), "curves": [{"step": step}]})
    loaded = checkpoints.load_common()
    assert loaded is not None
    assert loaded[0] == 3
    assert loaded[1]["weights"].tolist() == [3.0, 3.0]
    assert checkpoints.steps() == [2, 3]


def test_a_damaged_one_is_skipped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": 1})
    checkpoints.save(2, {"a": 2})
    data = tmp_path / "step-00000002.pt"
    data.write_bytes(data.read_bytes()[:-10])
    assert checkpoints.load_common() == (1, {"a": 1})


def test_an_unsealed_one_does_not_exist(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": 1})
    (tmp_path / "step-00000001.json").unlink()
    assert checkpoints.load_common() is None


def test_ranks_go_on_from_the_newest_step_that_all_hold() -> None:
    assert common_step([[200, 400], [200]]) == 200
    assert common_step([[200], []]) is None


def test_newer_ones_than_the_common_step_are_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {})
    checkpoints.save(2, {})
    checkpoints.discard_after(1)
    assert checkpoints.steps() == [1]
