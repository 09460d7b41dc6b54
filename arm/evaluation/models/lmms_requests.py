"""Requests of lmms-eval put to a model of ours, without a line of lmms-eval.

    request.args of     generate_until               (context, settings, doc_to_visual, doc_id, task, split)
                        loglikelihood                (context, continuation, doc_to_visual, doc_id, task, split)
                        generate_until_multi_round   (context, settings, doc_to_visual, doc_to_text, doc_id, task, split)

`documents[task][split][doc_id]` is the row that the functions of a task are given. Answers come in the order of the
requests, each as soon as its batch is done: lmms-eval's `--use_cache` keeps them at once.

lmms-eval has no word for an answer that failed. Here it is None, which its cache takes for missing (an empty text it would
hand out as the answer when the run is started again). Before the last answer of all is handed over, UserError says how many
failed: no number is ever made of them. A run that ended so, or was killed, goes on where `--use_cache DIR` and
LMMS_CACHE_RUN_ID in the environment are the same: what an unfinished run left is read under its name alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, groupby, islice
from typing import Any, Protocol, TypeVar

import numpy as np
import PIL.Image

from arm.config import from_dict
from arm.data.images import flatten
from arm.errors import UserError
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.model import Failed, Model, Question

Given = TypeVar("Given")
Documents = Mapping[str, Mapping[str, Any]]
GREEDY: Mapping[str, tuple[Any, ...]] = {
    "temperature": (0, None), "do_sample": (False, None), "num_beams": (1, None), "repetition_penalty": (1, None),
}  # fmt: skip
"""Settings of a task that would change what a greedy answer is, each with the values that do not."""
SHOWN_FAILURES = 3


class Request(Protocol):
    """What is read of lmms-eval's `Instance`."""

    @property
    def args(self) -> tuple[Any, ...]:
        """As at the top of this file."""
        ...


def read_config(values: Mapping[str, Any]) -> ModelConfig:
    """`--model_args` and `--batch_size` as a config: {"kind": "ours", "model": "DIR", "batch_size": "8"}."""
    given = dict(values)
    for name in ("device", "max_batch_size"):
        if name in given:
            raise UserError(
                f"--{name} {given[name]} has no effect on arm, which takes CUDA_VISIBLE_DEVICES; leave it out."
            )
    size = str(given.get("batch_size", 1))
    if not size.isdecimal():
        raise UserError(f"--batch_size is {size!r}; arm measures no memory: give a number.")
    name = str(given.get("model", ""))  # lmms-eval makes a number of a folder called 7
    return from_dict(ModelConfig, {**given, "batch_size": int(size), "model": name})


@dataclass
class Failures:
    """What failed so far."""

    num_answers: int = 0
    reasons: list[str] = field(default_factory=list)

    def sift(self, made: Given | Failed) -> Given | None:
        """The answer, or None where there is none."""
        self.num_answers += 1
        if isinstance(made, Failed):
            self.reasons.append(made.reason)
            return None
        return made

    def refuse(self) -> None:
        """UserError where anything failed."""
        if self.reasons:
            shown = "; ".join(dict.fromkeys(self.reasons[:SHOWN_FAILURES]))
            raise UserError(
                f"{len(self.reasons)} of {self.num_answers} answers failed ({shown}), and lmms-eval would score them as "
                f"answers; with --use_cache DIR and LMMS_CACHE_RUN_ID=NAME the same command asks for what lacks alone."
            )


def answers(model: Model, requests: Sequence[Request], documents: Documents, batch_size: int) -> Iterator[str | None]:
    """generate_until: greedy answers of the length that the task asks for, each cut where its `until` begins."""
    failures = Failures()

    def made() -> Iterator[str | None]:
        for max_tokens, some in groupby(requests, key=lambda request: _max_tokens(request.args[1])):
            for batch in _batches(some, batch_size):
                questions = [_question(*request.args, documents=documents) for request in batch]
                for request, answer in zip(batch, model.answer(questions, max_tokens), strict=True):
                    yield failures.sift(_until(answer, request.args[1]))

    return _held(made(), failures)


def losses(
    model: Model, requests: Sequence[Request], documents: Documents, batch_size: int
) -> Iterator[tuple[float, bool]]:
    """loglikelihood: the mean negative log-likelihood of a token, and whether every token is the likeliest.

    lmms-eval's interface speaks of log-probabilities, but its models return the loss and its tasks choose the least.
    """
    for batch in _batches(requests, batch_size):
        texts = [_continuation(request, documents) for request in batch]
        questions = [_question(*request.args, documents=documents) for request in batch]
        for found in model.loglikelihood(questions, texts):
            yield -found.logprob / found.num_tokens, found.is_greedy


def rounds(model: Model, requests: Sequence[Request], documents: Documents) -> Iterator[list[str] | None]:
    """generate_until_multi_round: the answers of all rounds of each request; the task writes each round's question."""
    failures = Failures()
    return _held((failures.sift(_conversation(model, request, documents)) for request in requests), failures)


def _held(made: Iterator[Given], failures: Failures) -> Iterator[Given]:
    """All of them, the last one only where none failed: whoever zips asks for no more than it needs."""
    last = list(islice(made, 1))
    for one in made:
        yield last.pop()
        last.append(one)
    failures.refuse()
    yield from last


def _conversation(model: Model, request: Request, documents: Documents) -> list[str] | Failed:
    context, settings, doc_to_visual, doc_to_text, doc_id, task, split = request.args
    document, max_tokens = documents[task][split][doc_id], _max_tokens(settings)
    given: list[str] = []
    visuals, state = doc_to_visual(document), None
    for number in count():
        if number:
            visuals, context, done, given, state = doc_to_text(
                document, previous_output=list(given), round_idx=number, previous_round_info=state
            )
            if done:
                break
        question = Question(uid=f"{task}/{doc_id}/{number}", text=context, images=_pictures(visuals, task))
        (made,) = model.answer([question], max_tokens)
        answer = _until(made, settings)
        if isinstance(answer, Failed):
            return answer
        given.append(answer)
    return list(given)


def _question(
    context: str, _: Any, doc_to_visual: Callable[[Any], Any] | None = None, doc_id: Any = None, task: str = "",
    split: str = "", *, documents: Documents,
) -> Question:  # fmt: skip
    if doc_to_visual is None:
        raise UserError(
            "The task asks for the likelihood of a text without its question (acc_mutual_info); take another metric."
        )
    pictures = _pictures(doc_to_visual(documents[task][split][doc_id]), task)
    return Question(uid=f"{task}/{doc_id}", text=context, images=pictures)


def _continuation(request: Request, documents: Documents) -> str:
    """Without the blank that lmms-eval puts before a choice: an answer begins a turn of its own."""
    text = request.args[1]
    if callable(text):
        _, _, _, doc_id, task, split = request.args
        text = text(documents[task][split][doc_id])
    return str(text).strip()


def _pictures(visuals: Any, task: str) -> tuple[Any, ...]:
    for visual in visuals or ():
        if not isinstance(visual, PIL.Image.Image):
            raise UserError(
                f"The task {task} shows a {type(visual).__name__}; arm reads images alone: choose another task."
            )
    return tuple(np.asarray(flatten(visual)) for visual in visuals or ())


def _max_tokens(settings: Mapping[str, Any]) -> int | None:
    """The length that the task asks for, if any; a task that wants other answers than greedy ones is refused."""
    for name, plain in GREEDY.items():
        if settings.get(name) not in plain:
            raise UserError(
                f"The task asks for {name} = {settings[name]}, and answers here are greedy; "
                f"give --gen_kwargs {name}={plain[0]} to measure these."
            )
    return settings.get("max_new_tokens")


def _until(answer: str | Failed, settings: Mapping[str, Any]) -> str | Failed:
    """ "red\\n\\nbecause", until ["\\n\\n"]  ->  "red"."""
    if isinstance(answer, Failed):
        return answer
    given = settings.get("until") or ()
    for end in [given] if isinstance(given, str) else given:
        answer = answer.partition(end)[0] if end else answer
    return answer


def _batches(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    left = iter(requests)
    while batch := list(islice(left, size)):
        yield batch
