"""Understanding: questions about images, exact match by kind, and the best constant answer as the chance level."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from arm.evaluation.benchmark import Scores, aggregate_strict
from arm.evaluation.evaluation_set import EvaluationSet
from arm.evaluation.items import Item, Output, Reply, Verdict
from arm.evaluation.subject import Subject


class Understanding:
    """Share of questions whose answer equals the reference after `normalise`, as GQA scores."""

    name = "understanding"
    subject: Literal["model", "reference"] = "model"

    def items(self, evaluation_set: EvaluationSet) -> list[Item]:
        """The questions, kinds in turn."""
        return evaluation_set.require("questions")

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """The model's greedy answers."""
        return [Output(uid=item.uid, text=text) for item, text in zip(items, subject.answer(items), strict=True)]

    def judge(self, items: Sequence[Item], outputs: Sequence[Output], subject: Subject) -> list[Reply]:
        """No judge: the answer is the reply."""
        return [{"uid": output.uid, "answer": output.text} for output in outputs]

    def parse(self, items: Sequence[Item], replies: Sequence[Reply]) -> list[Verdict]:
        """Compare with the reference; an empty answer is a wrong answer, a missing one a failure."""
        return [_verdict(item, reply) for item, reply in zip(items, replies, strict=True)]

    def aggregate(self, verdicts: Sequence[Verdict], *, num_expected: int, num_bootstraps: int, seed: int) -> Scores:
        """By kind, and over all questions."""
        return aggregate_strict(
            self.name, verdicts, weighting="micro", headline="accuracy",
            num_expected=num_expected, num_bootstraps=num_bootstraps, seed=seed,
        )  # fmt: skip


class ConstantAnswer(Understanding):
    """Chance: the answer that is right most often among all questions of the same kind, given to each of them.

        existence: yes yes no   ->  "yes" to every existence question, 2 of 3 right
    """  # fmt: skip

    name = "constant_answer"
    subject: Literal["model", "reference"] = "reference"

    def items(self, evaluation_set: EvaluationSet) -> list[Item]:
        """The questions, each with its kind's constant answer in place of the text."""
        items = super().items(evaluation_set)
        constants = constant_answers(items)
        return [replace(item, prompt=constants[item.group]) for item in items]

    def generate(self, items: Sequence[Item], subject: Subject) -> list[Output]:
        """The constant answers."""
        return [Output(uid=item.uid, text=item.prompt) for item in items]


def constant_answers(items: Sequence[Item]) -> dict[str, str]:
    """Kind -> its most frequent reference; of two equally frequent ones the first in alphabetical order."""
    counts: dict[str, Counter[str]] = {}
    for item in items:
        counts.setdefault(item.group, Counter())[normalise(item.reference)] += 1
    return {kind: min(found, key=lambda answer: (-found[answer], answer)) for kind, found in counts.items()}


def normalise(answer: str) -> str:
    """Trim, lower-case, without a final period: "Yes." -> "yes"."""
    return answer.strip().removesuffix(".").strip().lower()


def _verdict(item: Item, reply: Reply) -> Verdict:
    if reply.get("uid") != item.uid or not isinstance(reply.get("answer"), str):
        return Verdict(uid=item.uid, group=item.group, outcome="failed", reasons=("no answer",))
    answer = normalise(reply["answer"])
    right = answer == normalise(item.reference)
    reasons = () if right else (f"answered {answer!r}, expected {normalise(item.reference)!r}",)
    return Verdict(uid=item.uid, group=item.group, outcome="ok", strict=right, score=float(right), reasons=reasons)
