"""A job that takes no time: it writes one file which names its inputs, or fails, or waits, as its config says."""

import time
from dataclasses import dataclass
from typing import Any

from arm.config import operational, to_json
from arm.errors import UserError
from arm.manifest import Outcome
from arm.recipes import STEPS, Recipe


@dataclass(frozen=True, kw_only=True)
class StandInConfig:
    """What the stand-in does."""

    word: str = ""
    """Written into the file."""
    problem: str = operational("")
    """Raised as a UserError."""
    crash: bool = operational(False)
    """Raise an error that is a bug of the program."""
    seconds: float = operational(0.0)
    """Waited before the end."""


class StandInAblation:
    """Two rows of an ablation."""

    parallelism = 2

    def runs(self) -> list[dict[str, str]]:
        """The configs of each row."""
        steps = ("tokenizer", "detokenizer", "evaluate_tokenizer", "evaluate_model")
        return [{"label": row, **{s: to_json(StandInConfig(word=f"{row} {s}")) for s in steps}} for row in "ab"]


def stand_in(*, output: Any, config: StandInConfig, **inputs: Any) -> Outcome:
    """Write `words.txt`: the config's word and the digests of the inputs."""
    if config.problem:
        raise UserError(config.problem)
    if config.crash:
        raise ZeroDivisionError("a bug")
    time.sleep(config.seconds)
    lines = [config.word, *(f"{name} {item.digest}" for name, item in sorted(inputs.items()))]
    output.write("words.txt", "\n".join(lines).encode())
    output.write("scores.json", b'{"pretrained": {"text_to_image/mean": 0.5}}')
    return Outcome(counts={"pairs_read": 9, "pairs_kept": 7, "dropped/short_caption": 2})


def stand_in_recipe(**changed: StandInConfig) -> Recipe:
    """The whole road of stand-ins; `train_model_pretrain=StandInConfig(…)` changes a step."""
    configs = {step: changed.get(step.replace("-", "_"), StandInConfig(word=step)) for step in STEPS}
    mixtures = {"paper": StandInConfig(word="paper"), "even": StandInConfig(word="even")}
    return Recipe(name="stand-in", purpose="Tests.", configs=configs, mixtures=mixtures)
