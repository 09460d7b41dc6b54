"""The update under DeepSpeed equals the one under plain torch, on one rank and on two."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policy import build_rig, tiny_config  # type: ignore[import-not-found]

from arm.rl.loop import State, collect
from arm.rl.rewards import Judgeable, Reward

HERE = Path(__file__).parent


def update_on(ranks: int, folder: Path) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {
        **os.environ, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }  # fmt: skip
    path = folder / f"{ranks}.pt"
    command = [sys.executable, str(HERE / "one_update.py"), str(path)]
    running = [subprocess.Popen(command, env={**common, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(ranks)]
    assert [process.wait(timeout=120) for process in running] == [0] * ranks
    found: dict[str, Any] = torch.load(path)
    return found


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    def by_first_byte(item: Judgeable) -> Reward:
        return Reward(value=(sum(item.image) % 101) / 101)

    config = tiny_config(dtype="float32", prompts_per_step=5, learn_batch=3, updates_per_step=2)
    rig = build_rig(by_first_byte, config)
    collected = collect(rig.maker, rig.stream, State(), config, 0, 1, 0)
    metrics = rig.learner.update(*collected.lessons())
    codes = [rollout.codes.tolist() for rollout in collected.rollouts]
    return {"weights": rig.model.state_dict(), "metrics": metrics, "codes": codes}


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_deepspeed_updates_as_plain_torch_does_on_any_number_of_ranks(
    ranks: int, plain: dict[str, Any], tmp_path: Path
) -> None:
    found = update_on(ranks, tmp_path)
    assert found["codes"] == plain["codes"]
    for name, value in plain["metrics"].items():
        assert found["metrics"][name] == pytest.approx(value, abs=5e-5), name
    for name, value in plain["weights"].items():
        assert torch.allclose(found["weights"][name], value, atol=5e-5), name
