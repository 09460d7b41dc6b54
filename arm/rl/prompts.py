"""Prompts of policy training: read from image shards, dealt in an order that depends on the seed alone.

    text_to_image   [Text]                     "two cats"
    edit            [Image, Text, ...]         source, "remove the red circle"; further parts are not shown to the policy

A prompt's text is used as it was written: nothing is stripped. (Stripping the characters of "<image>" once turned
"two cats" into "wo cat" elsewhere.)
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arm.data.shards import read_samples
from arm.errors import UserError
from arm.manifest import Manifest
from arm.records import Image, Sample, Text
from arm.rl.config import TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPrompt:
    """What the policy is asked to draw."""

    uid: str
    task: str
    """`text_to_image` or `edit`."""
    text: str
    meta: Mapping[str, Any]
    """What the judge may need: GenEval metadata, the wanted scene."""
    source: Image | None = None
    """The image to edit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One prompt at one place in the stream."""

    place: int
    """Place in the stream of all prompts of the run."""
    visit: int
    """How often this prompt came before."""
    prompt: RolloutPrompt


def read_prompts(manifest: Manifest, share_of_edits: float) -> dict[str, list[RolloutPrompt]]:
    """The prompts of each task that the stage needs, sorted by uid; UserError when one has none."""
    wanted = {"text_to_image": share_of_edits < 1, "edit": share_of_edits > 0}
    found: dict[str, list[RolloutPrompt]] = {task: [] for task in TASKS if wanted[task]}
    for sample in read_samples(manifest):
        if sample.task in found:
            found[sample.task].append(prompt_of(sample))
    for task, prompts in found.items():
        if not prompts:
            raise UserError(f"{manifest.url} holds no prompt of task {task!r}; import some or choose another stage.")
        prompts.sort(key=lambda prompt: prompt.uid)
    return found


def prompt_of(sample: Sample) -> RolloutPrompt:
    """The prompt in a sample: [Text, ...] or, for an edit, [Image, Text, ...]."""
    edit = sample.task == "edit"
    image, text = sample.parts[:2] if edit and len(sample.parts) > 1 else (None, sample.parts[0])
    if not isinstance(text, Text) or (edit and not isinstance(image, Image)):
        raise UserError(
            f"The sample {sample.uid} is no prompt of task {sample.task!r}: its parts are in another order."
        )
    source = image if isinstance(image, Image) else None
    return RolloutPrompt(uid=sample.uid, task=sample.task, text=text.text, meta=sample.meta, source=source)


class PromptStream:
    """An endless stream of prompts: each task in a new order every epoch, edits at their share.

    edit_share .25  ->  places 0 1 2 3 4 5 6 7 …  hold  t t t e t t t e …

    A place's prompt depends on (seed, place) only: the whole state is the next place.
    """

    def __init__(self, prompts: dict[str, list[RolloutPrompt]], share_of_edits: float, seed: int) -> None:
        self._prompts, self._share, self._seed = prompts, share_of_edits, seed
        self._orders: dict[tuple[str, int], list[RolloutPrompt]] = {}

    def take(self, place: int, count: int) -> list[Draw]:
        """The prompts at `place`, `place + 1`, … ."""
        return [self._at(number) for number in range(place, place + count)]

    def _at(self, place: int) -> Draw:
        edits_before, edits_after = (int(number * self._share + 1e-9) for number in (place, place + 1))
        task, index = ("edit", edits_before) if edits_after > edits_before else ("text_to_image", place - edits_before)
        epoch, rest = divmod(index, len(self._prompts[task]))
        return Draw(place=place, visit=epoch, prompt=self._order(task, epoch)[rest])

    def _order(self, task: str, epoch: int) -> Sequence[RolloutPrompt]:
        key = (task, epoch)
        if key not in self._orders:
            self._orders = {old: order for old, order in self._orders.items() if old[0] != task}
            self._orders[key] = sorted(
                self._prompts[task], key=lambda prompt: noise_seed(self._seed, "order", epoch, prompt.uid)
            )
        return self._orders[key]


def noise_seed(*words: str | int) -> int:
    """A seed in 0..2^63 − 1 from words: the same everywhere, whatever the rank, batch or order of calls."""
    text = "\0".join(str(word) for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def sample_seed(seed: int, draw: Draw, sample: int) -> int:
    """The seed of one rollout: counter-based, keyed by (seed, prompt, visit, sample)."""
    return noise_seed(seed, draw.prompt.uid, draw.visit, sample)
