"""One rank of train-model on a test store: `python stage_rank.py FOLDER OUTPUT CONFIG`; dies hard after KILL_AFTER saves.
The uids of REFUSED count as taken down."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from token_store import artifact

from arm import config as configs
from arm.storage import LocalFolder
from arm.training.checkpoint import Checkpoints
from arm.training.config import StageConfig
from arm.training.stages import train_model


def die_after(saves: int) -> None:
    """Kill this process right after its n-th checkpoint."""
    save = Checkpoints.save
    done: list[int] = []

    def counted(self: Checkpoints, step: int, state: dict[str, object], **seal: str) -> None:
        save(self, step, state, **seal)
        done.append(step)
        if len(done) == saves:
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = counted  # type: ignore[method-assign]


def main() -> None:
    """Train and write the counts."""
    folder, output, config = Path(sys.argv[1]), Path(sys.argv[2]), configs.from_json(StageConfig, sys.argv[3])
    if "KILL_AFTER" in os.environ:
        die_after(int(os.environ["KILL_AFTER"]))
    base = folder / "base" if config.stage == "pretrain" else Path(os.environ["BASE"])
    inputs = {"tokens": folder / "tokens", "base": base, "tokenizer": folder / "tokenizer"}
    manifests = {name: artifact(path, name) for name, path in inputs.items()}
    manifests["tokens"] = replace(manifests["tokens"], tombstones=frozenset(os.environ.get("REFUSED", "").split()))
    train_model(**manifests, output=LocalFolder(output), config=config)


if __name__ == "__main__":
    main()
