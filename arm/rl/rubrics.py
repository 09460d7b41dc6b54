"""Rewards by rubric: a model behind an OpenAI-compatible endpoint gives marks, and their weighted mean is the reward.

    editing      following .8   preservation 1   quality .5      weights .4 .4 .2      ->  reward .82
    parts        {"editing.following": .8, "editing.preservation": 1.0, "editing.quality": .5}

A reply that is unscorable or failed makes the reward missing, with its reason. Every rank asks for its own images, through
one ledger on each machine: a resumed run finds its replies there. Ranks share the rate alike, and machines the budget.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image

from arm.errors import ServiceError, UserError
from arm.evaluation.benchmarks.result import Failure
from arm.evaluation.imaging import encode_png, resize_like
from arm.evaluation.judge import Judge, Question, endpoint_from_environment
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.judge_ledger import JudgeLedger
from arm.evaluation.marks import check_readable, marks_of
from arm.evaluation.rubric import Rubric, load_rubric
from arm.rl.config import AskedRubric, RewardConfig, RubricConfig
from arm.rl.rewards import Judgeable, Reward, combine
from arm.rl.rollout import all_ranks
from arm.storage import Folder
from arm.training.checkpoint import leads_machine

SHOWN = {"text_to_image": 1, "edit": 2}
"""Task -> most images that a rubric can be shown: the drawn one, after its source."""


class RubricClient:
    """Asks one judge every rubric of a task about each image."""

    def __init__(self, rubrics: list[Rubric], config: RubricConfig, judge: Judge) -> None:
        pairs = list(zip(rubrics, config.asked, strict=True))
        self._rubrics, self._judge, self._refused = rubrics, judge, ""
        self._weights = {part(r, mark): weight for r, asked in pairs for mark, weight in asked.weights.items()}
        self._pool = ThreadPoolExecutor(judge.config.num_workers, thread_name_prefix="rubrics")

    def submit(self, item: Judgeable) -> "Future[Reward]":
        """Start judging an image; the future never raises."""
        return self._pool.submit(self._reward, item)

    def close(self) -> None:
        """Drop what has not been sent, and wait for what was."""
        self._pool.shutdown(cancel_futures=True)

    def _reward(self, item: Judgeable) -> Reward:
        """Ask rubric after rubric, up to the first that gives no marks: the reward is missing then."""
        parts: dict[str, float] = {}
        for rubric in self._rubrics:
            found = self._marks(rubric, item)
            if isinstance(found, str):
                return Reward(value=None, parts=parts, reason=f"{rubric.name}: {found}")
            parts |= {part(rubric, mark): value for mark, value in found.items()}
        return combine(parts, self._weights)

    def _marks(self, rubric: Rubric, item: Judgeable) -> dict[str, float] | str:
        """The marks of an image, or in words why there are none."""
        fields = {name: str(value) for name, value in item.meta.items()}
        fields |= {"prompt": item.prompt, "instruction": item.prompt}
        if absent := sorted(rubric.fields() - fields.keys()):
            return f"the prompt's meta has no {absent[0]!r}"
        if self._refused:
            return self._refused
        try:
            question = Question(rubric, {name: fields[name] for name in rubric.fields()}, shown(rubric, item))
            reply = self._judge.ask(question)
        except ServiceError as error:
            # a wrong key, address or model: asking on is no use, and all ranks must pause alike
            self._refused = str(error)
            return self._refused
        if reply.outcome != "ok":
            return f"{reply.outcome}: {reply.reason}"
        found = marks_of(rubric, reply.value)
        return f"unscorable: {found.reason}" if isinstance(found, Failure) else found


def part(rubric: Rubric, mark: str) -> str:
    """Name of a mark among a reward's parts."""
    return f"{rubric.name}.{mark}"


def shown(rubric: Rubric, item: Judgeable) -> tuple[bytes, ...]:
    """The pictures of a question: of two, the first is the source, to whose size the drawn one is brought, as GEdit does."""
    if rubric.images < SHOWN["edit"]:
        return (item.image,)
    assert item.source is not None
    source, image = (np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB")) for data in (item.source, item.image))
    return item.source, encode_png(resize_like(image, source))


def load_asked(task: str, config: RubricConfig) -> list[Rubric]:
    """The rubrics of a task; UserError for one that cannot reward it, before anything is started."""
    found = [load_rubric(asked.rubric) for asked in config.asked]
    for rubric, asked in zip(found, config.asked, strict=True):
        _check(task, rubric, asked)
    names = [rubric.name for rubric in found]
    if len(set(names)) < len(names):
        raise UserError(f"The rubrics of {task} are named {names}; give each file a name of its own.")
    return found


def _check(task: str, rubric: Rubric, asked: AskedRubric) -> None:
    check_readable(rubric)
    if rubric.version != asked.version:
        raise UserError(
            f"The rubric {asked.rubric} is of version {rubric.version}, but {asked.version} is asked for; name that."
        )
    if not 0 < rubric.images <= SHOWN[task]:
        raise UserError(f"The rubric {rubric.name} shows {rubric.images} images, but {task} has {SHOWN[task]} at most.")
    if unknown := sorted(asked.weights.keys() - rubric.marks.keys()):
        raise UserError(f"The rubric {rubric.name} has no mark {unknown[0]!r}, only {', '.join(rubric.marks)}.")


@contextlib.contextmanager
def rubric_clients(
    config: RewardConfig, rubrics: Mapping[str, list[Rubric]], ledger: JudgeLedger, ranks: int
) -> Iterator[dict[str, RubricClient]]:
    """Task -> its client, with this rank's share of the rate and this machine's of the budget."""
    with contextlib.ExitStack() as stack:
        stack.callback(ledger.close)
        clients = {}
        for task, asked in config.rubrics.items():
            endpoint = None if asked.judge.mode == "replay" else endpoint_from_environment()
            clients[task] = RubricClient(rubrics[task], asked, Judge(shared(asked.judge, ranks), ledger, endpoint))
            stack.callback(clients[task].close)
        yield clients


def shared(config: JudgeConfig, ranks: int) -> JudgeConfig:
    """A rank's share of the calls, and the share of the budget of the ranks that have its ledger: those of its machine."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
    return replace(
        config, calls_per_minute=config.calls_per_minute / ranks, max_dollars=config.max_dollars * here / ranks
    )


def open_ledger(config: RewardConfig, output: Folder) -> JudgeLedger:
    """The replies of this machine. Its first rank opens them before the others: a file can be made by one alone."""
    path = Path(config.ledger) if config.ledger else output.scratch("judge") / "judge.sqlite"
    first = JudgeLedger(path) if leads_machine() else None
    all_ranks(None)
    return first or JudgeLedger(path)
