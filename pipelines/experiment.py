"""Two mixtures from the same start, compared in one table.

    codes ──┬── pretrain with mixture 1 ── evaluate ──┬── table
            └── pretrain with mixture 2 ── evaluate ──┘

Everything before the loop is the ordinary road: what a store already holds is taken as it is. The two models lie in one
folder of the store, where the session looks for what they track, under their content keys: KFP's local runner cannot put
a loop's item into a string.
"""

from kfp import dsl

from components.data.make_world import make_world
from components.data.train_teachers import train_teachers
from components.model.train_model import train_model
from components.release.compare_evaluations import compare_evaluations
from components.release.evaluate_model import evaluate_model
from pipelines.data import data
from pipelines.model import codes
from pipelines.step import Step


def experiment(step: Step) -> None:
    """Train the model once for each mixture and compare the scores in one table."""
    toy = step.runs("make-world")
    world = step("make-world", make_world) if toy else None
    teachers = step("train-teachers", train_teachers) if toy else None
    ready = data(step, world=world, teachers=teachers)
    made = codes(step, ready)
    with dsl.ParallelFor(step.setting("mixtures"), parallelism=1) as mixture:
        trained = step.variant(
            "train-model-pretrain", train_model, folder="experiment-train-model",
            config=mixture.config, tokens=made.tokens, base=ready.language_model, tokenizer=made.tokenizer,
        )  # fmt: skip
        scores = step.variant(
            "evaluate-model", evaluate_model, folder="experiment-evaluate-model",
            samples=ready.evaluation, tokenizer=made.tokenizer, detokenizer=made.detokenizer,
            encoder=ready.encoder, pretrained=trained,
        )  # fmt: skip
    table = compare_evaluations(
        evaluations=dsl.Collected(scores), mixtures=step.setting("mixtures"), output=f"{step.store}/experiment"
    )
    step.place(table, "register-model")
