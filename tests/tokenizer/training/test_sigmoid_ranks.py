"""The sigmoid loss over two processes and two accumulation steps equals that of one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from arm.tokenizer.training.objectives import sigmoid_loss
from tests.tokenizer import sigmoid_rank


def test_two_ranks_with_two_micro_batches_give_the_loss_and_gradients_of_one_process(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    common |= {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command = [sys.executable, str(Path(sigmoid_rank.__file__)), str(tmp_path / "found.pt")]
    ranks = [
        subprocess.Popen(command, env={**common, "RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE)
        for r in range(2)
    ]
    for process in ranks:
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 0, error.decode()[-3000:]
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    images, texts, scale, bias = sigmoid_rank.make()
    same = sigmoid_rank.CAPTIONS[:, None] == sigmoid_rank.CAPTIONS
    loss = sigmoid_loss(images, texts, same, scale, bias)
    loss.backward()
    torch.testing.assert_close(found["texts"], texts)
    torch.testing.assert_close(found["loss"], loss.detach(), atol=1e-6, rtol=1e-6)
    for name, tensor in (("images", images), ("scale", scale), ("bias", bias)):
        torch.testing.assert_close(found[name], tensor.grad, atol=1e-6, rtol=1e-6)
