"""The engine in a process of its own: alone it needs no port and leaves none behind for the children it may start."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import os
import torch
from arm.training.engine import Engine
from arm.training.engine_config import EngineConfig
before = set(os.environ)
engine = Engine(torch.nn.Linear(2, 1), EngineConfig(dtype="float32"))
engine.mark(last=True)
weight = engine.module.weight.detach().clone()
engine.backward(engine(torch.ones(1, 2)).sum())
engine.step(0.1)
assert not torch.equal(engine.module.weight, weight)
print("LEFT", {"MASTER_PORT", "MASTER_ADDR", "RANK", "WORLD_SIZE"} & (set(os.environ) - before))
"""


def test_a_lone_process_trains_without_a_port_and_leaves_none_behind() -> None:
    unset = ("MASTER_PORT", "MASTER_ADDR", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=300)
    assert "LEFT set()" in done.stdout, done.stderr[-3000:]
