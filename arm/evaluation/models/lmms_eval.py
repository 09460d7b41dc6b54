"""Any model of `kinds.KINDS` as a model of lmms-eval, which finds it by the entry point `lmms_eval.models`.

    python -m lmms_eval --model arm --model_args kind=ours,model=DIR --tasks pope --batch_size 8

`--model_args` takes the fields of ModelConfig. Nobody else imports this file, so that nothing else needs lmms-eval.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from arm.errors import UserError
from arm.evaluation.models.kinds import load
from arm.evaluation.models.lmms_requests import Request, answers, losses, read_config, rounds
from arm.evaluation.models.model import Model

MANIFEST = ModelManifest(model_id="arm", simple_class_path=f"{__name__}.ArmModel")
"""What the entry point hands to lmms-eval."""


class Pair(tuple[float, bool]):
    """Loss and greediness, empty to lmms-eval's cache: that keeps nothing empty, and reads pairs back as texts."""

    def __bool__(self) -> bool:
        return False


class ArmModel(lmms):  # type: ignore[misc]  # lmms-eval has no types
    """One process, one model. lmms-eval fills `task_dict` with the rows of its tasks before it asks."""

    task_dict: dict[str, Any]

    def __init__(self, **values: Any) -> None:
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("arm answers lmms-eval in one process; start it without accelerate or torchrun.")
        self.config = read_config(values)
        self.model: Model = load(self.config, "answer")

    def generate_until(self, requests: Sequence[Request]) -> Iterator[str | None]:
        """One answer a request, in their order."""
        return answers(self.model, requests, self.task_dict, self.config.batch_size)

    def loglikelihood(self, requests: Sequence[Request]) -> Iterator[GenerationResult]:
        """Loss and greediness of each continuation; UserError from a model that gives no likelihoods.

        Bare pairs would reach the task as texts: lmms-eval 0.7.3 unwraps what is in a GenerationResult alone
        (lmms_eval/api/instance.py, unwrap_generation_output).
        """
        found = losses(self.model, requests, self.task_dict, self.config.batch_size)
        return (GenerationResult(text=Pair(pair)) for pair in found)

    def generate_until_multi_round(self, requests: Sequence[Request]) -> Iterator[list[str] | None]:
        """All rounds of each request."""
        return rounds(self.model, requests, self.task_dict)
