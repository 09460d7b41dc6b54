"""What every model under evaluation can be asked, whoever made it.

    model.answer([Question(uid="1", text="Is there a dog?", images=(pixels,))])        ->  ["Yes."]
    model.generate_images([Drawing(uid="0", prompt="a photo of a bench", seed=7)])     ->  [pixels (H, W, 3) uint8]
    model.edit([Drawing(uid="0", prompt="remove the dog", seed=7, source=pixels)])     ->  [pixels]
    model.loglikelihood([question], ["a bench"])      ->  [Likelihood(logprob=-3.2, num_tokens=2, is_greedy=False)]

An item that this model alone cannot do (a refused prompt) comes back as `Failed` with the reason: never guessed, never
left out. An adapter inherits `Unable` and writes the methods that its models have.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from arm.errors import UserError
from arm.evaluation.items import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about images, in the order in which the model sees them."""

    uid: str
    text: str
    images: tuple[Pixels, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """An image to make: of a prompt, or of a source and an instruction."""

    uid: str
    """Of the prompt in its data set."""
    prompt: str
    seed: int
    number: int = 0
    """Which of the prompt's images this is."""
    source: Pixels | None = None
    """The image to edit."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a model gave nothing for an item."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """How likely a text is as the answer to a question."""

    logprob: float
    """Natural logarithm of its probability: the sum over its tokens."""
    num_tokens: int
    is_greedy: bool
    """Whether each of its tokens is the likeliest one at its place."""


class Clock(Protocol):
    """Takes the time of a model's phases; see `arm/evaluation/cost.py`."""

    def phase(self, name: str) -> Any:
        """A context manager around one phase: `decode` (the autoregressive part), `detokenize`, or `all`."""
        ...

    def count(self, tokens: int) -> None:
        """Count generated tokens."""
        ...


class NoClock:
    """Takes no time."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Nothing is measured."""
        yield

    def count(self, tokens: int) -> None:
        """Nothing is counted."""


NO_CLOCK = NoClock()


class Model(Protocol):
    """A model under evaluation."""

    name: str
    """How the report calls it: the last part of its folder, or its name at the endpoint."""
    independent: bool
    """Whether an item comes out the same to the last bit whatever else is in its batch. Where not, a resumed run draws
    the batch of a missing item again, whole, so that it gives what the uninterrupted one gives."""

    def protocol(self) -> dict[str, Any]:
        """What fixes its outputs beside prompt and seed: no path, no time."""
        ...

    def answer(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str | Failed]:
        """One greedy answer a question, of at most `max_tokens`; None: as many as its config says."""
        ...

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        """One image a drawing; its seed decides it where the model takes seeds."""
        ...

    def edit(self, drawings: Sequence[Drawing]) -> list[Pixels | Failed]:
        """Each drawing's source with its instruction carried out."""
        ...

    def loglikelihood(self, questions: Sequence[Question], continuations: Sequence[str]) -> list[Likelihood]:
        """How likely each continuation is as the answer to its question."""
        ...


class Unable:
    """A model that can do nothing yet: each refusal is a sentence."""

    name = ""
    independent = False

    def answer(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str | Failed]:
        """Refused."""
        raise self._cannot("answers no questions")

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        """Refused."""
        raise self._cannot("draws no images")

    def edit(self, drawings: Sequence[Drawing]) -> list[Pixels | Failed]:
        """Refused."""
        raise self._cannot("edits no images")

    def loglikelihood(self, questions: Sequence[Question], continuations: Sequence[str]) -> list[Likelihood]:
        """Refused."""
        raise self._cannot("gives no log-likelihoods")

    def _cannot(self, what: str) -> UserError:
        return UserError(f"{self.name or type(self).__name__} {what}; choose another model or another benchmark.")
