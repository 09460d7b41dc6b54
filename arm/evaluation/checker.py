"""The checker: a plug-in that says whether an image holds what was asked for.

A checker is a module named by import string in the config, because this package may not import the toy world, nor a
detector that a user brings:

    check_prompt(image, meta) -> Verdict(strict, score, reasons)                image (H, W, 3) uint8
    check_edit(image, source_image, meta) -> Verdict(strict, score, reasons)
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from arm.errors import UserError
from arm.evaluation.items import Item, Output, Pixels, Reply, Verdict


class CheckerVerdict(Protocol):
    """What a checker returns."""

    @property
    def strict(self) -> bool:
        """Every requested object and nothing else."""
        ...

    @property
    def score(self) -> float:
        """Graded, 0 to 1."""
        ...

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        ...


class Checker(Protocol):
    """The functions of a checker's module."""

    def check_prompt(self, image: Pixels, meta: Mapping[str, Any]) -> CheckerVerdict:
        """Does the image show what the meta data asks for?"""
        ...

    def check_edit(self, image: Pixels, source_image: Pixels, meta: Mapping[str, Any]) -> CheckerVerdict:
        """Is the image the source with the edit done, and nothing else changed?"""
        ...


def load_checker(name: str) -> Checker:
    """Import the checker's module; a UserError says what is missing."""
    if not name:
        raise UserError("EvaluateConfig.checker is empty; name a module with check_prompt and check_edit.")
    try:
        module: Any = importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"EvaluateConfig.checker {name!r} cannot be imported ({error}).") from None
    for function in ("check_prompt", "check_edit"):
        if not callable(getattr(module, function, None)):
            raise UserError(f"EvaluateConfig.checker {name!r} has no function {function}.")
    checker: Checker = module
    return checker


def judge_prompts(items: Sequence[Item], outputs: Sequence[Output], checker: Checker) -> list[Reply]:
    """Check each image against its item's meta data."""

    def check(item: Item, output: Output) -> CheckerVerdict:
        return checker.check_prompt(_image(output), item.meta)

    return [_reply(output, partial(check, item, output)) for item, output in zip(items, outputs, strict=True)]


def judge_edits(items: Sequence[Item], outputs: Sequence[Output], checker: Checker) -> list[Reply]:
    """Check each edited image against its source and the target described in the meta data."""

    def check(item: Item, output: Output) -> CheckerVerdict:
        assert item.source is not None, "the edit has no source image"
        return checker.check_edit(_image(output), item.source, item.meta)

    return [_reply(output, partial(check, item, output)) for item, output in zip(items, outputs, strict=True)]


def parse_replies(items: Sequence[Item], replies: Sequence[Reply]) -> list[Verdict]:
    """Read the replies of a checker; a reply of another item or without its fields is a failed verdict."""
    return [_parse(item, reply) for item, reply in zip(items, replies, strict=True)]


def _reply(output: Output, check: Callable[[], CheckerVerdict]) -> Reply:
    """Call the checker once; what it raises is the item's failure, not the run's."""
    reply: Reply = {"uid": output.uid} | ({"numbers": dict(output.numbers)} if output.numbers else {})
    try:
        verdict = check()
        reasons = [str(reason) for reason in verdict.reasons]
        return reply | {"strict": bool(verdict.strict), "score": round(float(verdict.score), 6), "reasons": reasons}
    except Exception as error:  # a plug-in may raise anything
        return reply | {"error": f"{type(error).__name__}: {error}"}


def _parse(item: Item, reply: Reply) -> Verdict:
    error = reply.get("error")
    if error is None and (reply.get("uid") != item.uid or "strict" not in reply or "score" not in reply):
        error = "the reply lacks uid, strict or score"
    if error is not None:
        return Verdict(uid=item.uid, group=item.group, outcome="failed", reasons=(str(error),))
    return Verdict(
        uid=item.uid, group=item.group, outcome="ok", strict=reply["strict"], score=reply["score"],
        reasons=tuple(reply.get("reasons", ())), numbers=reply.get("numbers", {}),
    )  # fmt: skip


def _image(output: Output) -> Pixels:
    if output.image is None:
        raise ValueError("no image was made")
    return output.image
