"""train-teachers: small stand-ins for SigLIP2, Qwen2.5 and a VAE, saved as Hugging Face checkpoints.

    siglip/           SiglipModel and its text tokenizer
    language_model/   Qwen2ForCausalLM and a byte-level BPE tokenizer with Qwen2.5's special tokens
    autoencoder/      diffusers' AutoencoderKL

Each trains in a process of one thread, so the result does not depend on how many run at once; one that is finished is
not trained again after a kill. The scenes belong to the training split and come from a seed that no world uses.
"""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

from arm import config as configs
from arm.children import start_child, stop
from arm.errors import ArmError
from arm.manifest import Outcome
from arm.progress import Progress
from arm.storage import Folder, publish_tree
from arm.toy.config import TeacherConfig

TEACHERS = {
    "siglip": "arm.toy.teacher_siglip",
    "language_model": "arm.toy.teacher_language",
    "autoencoder": "arm.toy.teacher_autoencoder",
}
"""Name -> module with the function `train`; longest first, so that two processes end at about the same time."""
POLL_SECONDS = 0.2


def train_teachers(*, output: Folder, config: TeacherConfig) -> Outcome:
    """Train the three teachers and publish their checkpoints and curves."""
    scratch = output.scratch("teachers")
    _train_all([name for name in TEACHERS if not _is_done(scratch / name)], scratch, config)
    metrics: dict[str, float] = {}
    for name in TEACHERS:
        report = json.loads((scratch / name / "report.json").read_text())
        metrics |= {f"{name}/{metric}": value for metric, value in report["metrics"].items()}
        output.write(f"curves/{name}.jsonl", ("\n".join(json.dumps(line) for line in report["curve"]) + "\n").encode())
        publish_tree(output, name, scratch / name / "model")
    return Outcome(counts={"teachers": len(TEACHERS), "scenes": config.num_scenes}, metrics=metrics)


def train_one(name: str, folder: Path, config: TeacherConfig) -> None:
    """Train one teacher in this process: `folder/model` holds the checkpoint, `folder/report.json` is written last."""
    from arm.device import make_deterministic

    make_deterministic(config.seed, threads=1)
    report = importlib.import_module(TEACHERS[name]).train(folder / "model", config)
    temporary = folder / "report.tmp"
    temporary.write_text(json.dumps({"metrics": report.metrics, "curve": report.curve}))
    temporary.replace(folder / "report.json")


def _is_done(folder: Path) -> bool:
    return (folder / "report.json").is_file()


def _train_all(names: list[str], scratch: Path, config: TeacherConfig) -> None:
    """Keep `processes` children busy until all have ended well; they die with this process."""
    waiting, progress = list(names), Progress("train-teachers", len(TEACHERS), len(TEACHERS) - len(names))
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or children:
            while waiting and len(children) < config.processes:
                name = waiting.pop(0)
                command = [sys.executable, "-m", "arm.toy.teacher", name, str(scratch / name), configs.to_json(config)]
                children[name] = start_child(command, env={"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"})
            time.sleep(POLL_SECONDS)
            for name in [name for name, child in children.items() if child.poll() is not None]:
                if children.pop(name).returncode != 0:
                    raise ArmError(f"Training the teacher {name} failed; its error stands above.")
                progress.advance(note=name)
    finally:
        for child in children.values():
            stop(child)
    progress.close()


if __name__ == "__main__":
    train_one(sys.argv[1], Path(sys.argv[2]), configs.from_json(TeacherConfig, sys.argv[3]))
