"""Release: score every stage, then register the model if the recipe's gates hold."""

from typing import Any

from components.release.evaluate_model import evaluate_model
from components.release.register_model import register_model
from pipelines.data import Ready
from pipelines.model import Models
from pipelines.step import Step


def release(step: Step, ready: Ready, models: Models) -> Any:
    """Evaluate all six stages and register the last one."""
    evaluation = step(
        "evaluate-model", evaluate_model,
        samples=ready.evaluation, tokenizer=models.codes.tokenizer, detokenizer=models.codes.detokenizer,
        encoder=ready.encoder, pretrained=models.pretrained, continued=models.continued, finetuned=models.finetuned,
        t2i_policy=models.t2i_policy, edit_policy=models.edit_policy, joint_policy=models.joint_policy,
    )  # fmt: skip
    return step(
        "register-model", register_model,
        model=models.joint_policy, tokenizer=models.codes.tokenizer, detokenizer=models.codes.detokenizer,
        evaluation=evaluation,
    )  # fmt: skip
