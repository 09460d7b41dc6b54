"""The test's side of `rank_server.py`: start ranks, look at them, signal them, wait for them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from arm.storage import sha256_of

CONFIG = {
    "steps": 8, "sequence_length": 64, "rows_per_step": 4, "rows_per_micro_batch": 1, "warmup_steps": 2,
    "learning_rate": 0.001, "num_shapes": 4, "validate_every": 100, "validation_documents": 4, "log_every": 1,
    "checkpoint_every_steps": 3, "code_initialisation": "digits", "dtype": "float32", "epsilon": 1e-8,
}  # fmt: skip


class Server:
    """Runs one set of ranks at a time."""

    def __init__(self, folder: Path) -> None:
        root = Path(__file__).resolve().parents[2]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(root)}
        self.folder, self.pids = folder, []  # type: Path, list[int]
        script = Path(__file__).with_name("rank_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def start(
        self, name: str, ranks: int, *, nan: tuple[int, list[int]] | None = None,
        signal: tuple[int, int, int] | None = None, **changes: Any,
    ) -> Path:  # fmt: skip
        """Start the ranks on an output of that name, disturbed as `rank_server.py` says; returns the output."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (self.folder / f"{name}.step").unlink(missing_ok=True)
        asked = {"folder": str(self.folder), "output": str(self.folder / name), "config": {**CONFIG, **changes}}
        assert self._process.stdin
        line = json.dumps({**asked, "ranks": ranks, "port": port, "nan": nan, "signal": signal})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self.pids = self._line()
        return self.folder / name

    def step(self, name: str) -> int | None:
        """The step that rank 0 is at, counted from 0; None before the first since the start."""
        path = self.folder / f"{name}.step"
        text = path.read_text() if path.exists() else ""
        return int(text) if text else None

    def wait(self) -> list[int]:
        """The exit codes, once all ranks have ended."""
        return self._line()

    def run(self, name: str, ranks: int, **options: Any) -> list[int]:
        """Start and wait."""
        self.start(name, ranks, **options)
        return self.wait()

    def said(self, name: str, rank: int = 0) -> str:
        """What a rank printed."""
        return (self.folder / f"{name}.rank-{rank}.txt").read_text()

    def _line(self) -> list[int]:
        assert self._process.stdout
        line = next(line for line in self._process.stdout if line.startswith("ranks: "))
        found: list[int] = json.loads(line.removeprefix("ranks: "))
        return found


def losses_of(output: Path) -> dict[int, float]:
    """The loss after each logged step."""
    curves = [json.loads(line) for line in (output / "curves.jsonl").read_text().splitlines()]
    return {record["step"]: record["loss"] for record in curves if "loss" in record}


def ledger_of(output: Path) -> dict[str, list[int]]:
    """The columns of the ledger's steps."""
    found: dict[str, list[int]] = pq.read_table(output / "ledger" / "steps-00000.parquet").to_pydict()
    return found


def files_of(output: Path) -> dict[str, str]:
    """Published files and their checksums, without what no digest covers."""
    paths = [path for path in sorted(output.rglob("*")) if path.is_file() and not {".work", "view"} & set(path.parts)]
    return {path.relative_to(output).as_posix(): sha256_of(path) for path in paths}
