"""One rank of train-tokenizer: `python tokenizer_rank.py FOLDER OUTPUT CONFIG`; dies hard after KILL_AFTER checkpoints."""

import os
import signal
import sys
from pathlib import Path

from arm import config as configs
from arm.storage import LocalFolder
from arm.tokenizer.config import TokenizerConfig
from arm.tokenizer.training.train import train_tokenizer
from arm.training.checkpoint import Checkpoints
from tests.tokenizer import tiny


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
    """Train on what lies in the folder."""
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    if "KILL_AFTER" in os.environ:
        die_after(int(os.environ["KILL_AFTER"]))
    inputs = {name: tiny.manifest(folder / name, name) for name in ("images", "encoder", "caption_model")}
    train_tokenizer(
        **inputs, output=LocalFolder(output), config=configs.from_json(TokenizerConfig, Path(sys.argv[3]).read_text())
    )


if __name__ == "__main__":
    main()
