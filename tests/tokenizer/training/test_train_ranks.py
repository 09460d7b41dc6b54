"""train-tokenizer as two processes over gloo: it learns what one learns, and survives kill -9 with the same bytes."""

import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from arm import config as configs
from arm.storage import sha256_of
from arm.tokenizer.config import ResolutionConfig
from tests.tokenizer import tiny, tokenizer_rank

MIXED = tuple(ResolutionConfig(min_short_side=side, max_long_side=side) for side in (8, 12))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs")
    tiny.make_images(path / "images")
    tiny.make_siglip(path / "encoder")
    tiny.make_language_model(path / "caption_model")
    return path


def start(folder: Path, output: Path, ranks: int, options: dict[str, object]) -> list["subprocess.Popen[bytes]"]:
    """Every rank in a process of its own; `kill_after` is no field of the config."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    kill_after = options.pop("kill_after", None)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(ranks), "MASTER_PORT": port}
    environment |= {"MASTER_ADDR": "127.0.0.1", "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    environment |= {"KILL_AFTER": str(kill_after)} if kill_after else {}
    output.parent.mkdir(parents=True, exist_ok=True)
    config = output.with_suffix(".json")
    config.write_text(configs.to_json(tiny.tokenizer_config(**options)))
    command = [sys.executable, str(Path(tokenizer_rank.__file__)), str(folder), str(output), str(config)]
    return [
        subprocess.Popen(command, env={**environment, "RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE)
        for r in range(ranks)
    ]


def train(folder: Path, output: Path, *, ranks: int = 2, **options: object) -> list[int]:
    """Run every rank to its end; returns the exit codes."""
    processes = start(folder, output, ranks, options)
    results = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    for error, code in results:
        assert code in (0, -9), error.decode()[-3000:]
    return [code for _, code in results]


def files_of(output: Path) -> dict[str, str]:
    """Published files and their checksums."""
    paths = [path for path in sorted(output.rglob("*")) if path.is_file() and ".work" not in path.parts]
    return {path.relative_to(output).as_posix(): sha256_of(path) for path in paths}


def losses(output: Path) -> torch.Tensor:
    """Every loss of every step."""
    lines = [json.loads(line) for line in (output / "curves.jsonl").read_text().splitlines()]
    return torch.tensor([[line[name] for name in sorted(line) if name.startswith("loss/")] for line in lines])


def test_two_ranks_learn_what_one_learns(folder: Path, tmp_path: Path) -> None:
    """Same batches, noise and negatives: in float32 all losses of all steps agree to 1e-4, with accumulation and sizes."""
    options = {"batch_size": 8, "micro_batch": 2, "loss_normalisation": "running", "num_steps": 3}
    for name, more in (("one_size", {}), ("mixed", {"resolutions": MIXED, "micro_batch": 1})):
        found = []
        for ranks in (1, 2):
            output = tmp_path / f"{name}-{ranks}"
            assert train(folder, output, ranks=ranks, **{**options, **more}) == [0] * ranks
            found.append(losses(output))
        assert found[0].shape == (3, 5)
        torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_ranks_killed_in_training_go_on_to_the_same_bytes(optimizer: str, folder: Path, tmp_path: Path) -> None:
    options = {
        "optimizer": dataclasses.replace(tiny.OPTIMIZER, name=optimizer), "batch_size": 8, "micro_batch": 3,
        "resolutions": MIXED, "ema_decay": 0.9, "loss_normalisation": "running", "num_steps": 8,
        "quantizer": dataclasses.replace(tiny.QUANTIZER, pre_quantizer_norm="batch"),
    }  # fmt: skip
    assert train(folder, tmp_path / "whole", **options) == [0, 0]
    assert train(folder, tmp_path / "killed", kill_after=2, **options) == [-9, -9]
    assert not (tmp_path / "killed" / "tokenizer").exists()
    assert train(folder, tmp_path / "killed", **options) == [0, 0]
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


@pytest.mark.slow
def test_kills_at_random_moments_leave_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    options = {"batch_size": 8, "num_steps": 60, "save_every": 5, "resolutions": MIXED, "micro_batch": 3}
    began = time.monotonic()
    assert train(folder, tmp_path / "whole", **options) == [0, 0]
    took, seed = time.monotonic() - began, 3
    print(f"seed {seed}: kills within {took:.1f} s")
    rng = random.Random(seed)
    for _ in range(5):
        ranks = start(folder, tmp_path / "killed", 2, dict(options))
        time.sleep(rng.uniform(0.5, 0.9) * took)
        for process in ranks:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert train(folder, tmp_path / "killed", **options) == [0, 0]
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
