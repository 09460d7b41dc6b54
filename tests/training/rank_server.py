"""Starts ranks of train-model in a fraction of a second: forks of one process that has imported everything.

One JSON line in: {"folder", "output", "config", "ranks", "port", "nan": [rank, steps], "signal": [rank, step, number]}. Two
lines out: the process ids as soon as they run, and when all have ended their exit codes; what they print goes to
OUTPUT.rank-r.txt; OUTPUT.step holds the step that rank 0 is at. `nan` makes a rank's losses of some steps not a number, `signal` sends a signal to itself in a step.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import deepspeed
import deepspeed.runtime.zero.muon.muon_optimizer  # what an engine would import in every fork
from token_store import artifact

from arm import config as configs
from arm.errors import ArmError
from arm.storage import LocalFolder
from arm.training import stages, trainer
from arm.training.config import StageConfig
from arm.training.loss import LossSums, PackedModel

REPLY = "ranks:"
"""Begins our lines: libraries print, too."""


def main() -> None:
    """Serve until stdin ends."""
    _ = deepspeed.ops.__compatible_ops__  # which compiles small programs to find out
    for line in sys.stdin:
        asked = json.loads(line)
        pids = [_fork(rank, asked) for rank in range(asked["ranks"])]
        print(REPLY, json.dumps(pids), flush=True)
        codes = {pid: os.waitstatus_to_exitcode(status) for pid, status in (os.waitpid(pid, 0) for pid in pids)}
        print(REPLY, json.dumps([codes[pid] for pid in pids]), flush=True)


def _fork(rank: int, asked: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    said = os.open(f"{asked['output']}.rank-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(asked["ranks"])}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(asked["port"])}
    code = 1
    try:
        _run(rank, asked)
        code = 0
    except ArmError as error:
        print(error, file=sys.stderr)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(rank: int, asked: dict[str, Any]) -> None:
    folder, config = Path(asked["folder"]), configs.from_dict(StageConfig, asked["config"])
    nan_rank, nan_steps = asked["nan"] or (-1, [])
    signal_rank, signal_step, number = asked["signal"] or (-1, -1, 0)
    _disturb(
        nan_steps=set(nan_steps) if nan_rank == rank else set(),
        signal_step=signal_step if signal_rank == rank else -1,
        number=number,
        shown=Path(f"{asked['output']}.step") if rank == 0 else None,
    )
    inputs = {name: artifact(folder / name, name) for name in ("tokens", "base", "tokenizer")}
    stages.train_model(**inputs, output=LocalFolder(asked["output"]), config=config)


def _disturb(*, nan_steps: set[int], signal_step: int, number: int, shown: Path | None) -> None:
    step_of, forward = trainer.Trainer._step, PackedModel.forward
    current = -1

    def noted(self: trainer.Trainer, step: int) -> Any:
        nonlocal current
        current = step
        if shown:
            shown.write_text(str(step))
        if step == signal_step:
            os.kill(os.getpid(), number)
        return step_of(self, step)

    def spoilt(*arguments: Any) -> LossSums:
        found = forward(*arguments)
        return found._replace(weighted=found.weighted * (float("nan") if current in nan_steps else 1.0))

    trainer.Trainer._step, PackedModel.forward = noted, spoilt  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    main()
