"""train-policy: improve the model with GRPO against a judge, one stage a run.

    model ─┬─ policy (under the engine) ── rollouts ── detokenizer ── judge service, or a model asked rubrics
           └─ reference (frozen)               └──────── learner ───────┘

    out: model/ (as train-model's), curves.jsonl, samples/step-000000.{png,json},
         rewarded.json where a benchmark's rubric or rule rewards

After a kill the run goes on from its newest whole checkpoint.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM

from arm.device import computing_dtype, make_deterministic, rank_device
from arm.manifest import Manifest, Outcome
from arm.model import lmm
from arm.model.generation import Generator
from arm.model.lmm import VisualCodes
from arm.model.vocabulary import Vocabulary
from arm.progress import Progress
from arm.rl.benchmarks import write_benchmarks
from arm.rl.config import PolicyConfig
from arm.rl.engine import engine_config
from arm.rl.judging import judge_address
from arm.rl.learner import Learner
from arm.rl.loop import Row, State, run_loop
from arm.rl.policy import CodePolicy
from arm.rl.prompts import PromptStream, read_prompts
from arm.rl.rendering import TokenizerRenderer
from arm.rl.rewards import ByTask, JudgeClient, Rewarder
from arm.rl.rollout import Picture, RolloutMaker, SourceRule, all_ranks, draw_sheet, drop_bad_sources
from arm.rl.rubrics import load_asked, open_ledger, rubric_clients
from arm.storage import Folder, publish_tree
from arm.tokenizer.loading import detokenizer_folder, load_detokenizer
from arm.tokenizer.protocol import load_tokenizer, tokenizer_folder
from arm.tracking import tracker
from arm.training.checkpoint import Checkpoints
from arm.training.engine import Engine, num_ranks, rank, start_process_group


@dataclass(frozen=True, slots=True)
class Models:
    """The policy under the engine, its frozen start, and what belongs to both."""

    engine: Engine
    reference: CodePolicy
    text_tokenizer: Any

    @property
    def policy(self) -> Any:
        """The language model that learns."""
        return self.engine.module.model

    @property
    def vocabulary(self) -> Vocabulary:
        """Where codes lie among its rows."""
        return self.reference.vocabulary


def train_policy(
    *,
    model: Manifest,
    prompts: Manifest,
    tokenizer: Manifest,
    detokenizer: Manifest,
    output: Folder,
    config: PolicyConfig,
) -> Outcome:
    """Run one stage of GRPO from `model`, with its visual tokens rendered by `detokenizer` and judged over HTTP."""
    make_deterministic(config.seed)
    found = read_prompts(prompts, config.share_of_edits)
    with shared_judges(config, output) as judge:
        models = load_models(model.local_folder("model"), tokenizer_folder(tokenizer), config)
        generator = Generator(models.policy, models.vocabulary, models.text_tokenizer, batch_size=config.rollout_batch)
        renderer = load_renderer(tokenizer, detokenizer, config)
        num_shapes = models.vocabulary.num_shapes
        rule = SourceRule(resolution=config.editing, stride=renderer.stride, num_shapes=num_shapes)
        usable, dropped = drop_bad_sources(found, rule, rank(), num_ranks())
        stream = PromptStream(usable, config.share_of_edits, config.seed)
        host = JobHost(models.engine, output, config)
        state = host.load()
        maker = RolloutMaker(generator, renderer, judge, config)
        learner = Learner(models.engine, models.reference, generator.prompt_ids, config, rank(), num_ranks())
        run_loop(maker, learner, stream, host, state, config, rank(), num_ranks())
        host.close()
    if rank() == 0:
        publish(models, output, state)
        write_benchmarks(model, config, output)
    return outcome_of(state, dropped)


@contextlib.contextmanager
def shared_judges(config: PolicyConfig, output: Folder) -> Iterator[Rewarder]:
    """Who rewards each task: the one judge service, which rank 0 finds or starts and tells the others of, or rubrics."""
    reward = config.reward
    rubrics = {task: load_asked(task, asked) for task, asked in reward.rubrics.items()}
    with contextlib.ExitStack() as stack:
        serves = bool(config.served_tasks) and rank() == 0
        own = stack.enter_context(judge_address(reward)) if serves else ""
        start_process_group()
        rewarders: dict[str, Rewarder] = {}
        if config.served_tasks:
            client = JudgeClient(all_ranks(own)[0], reward)
            stack.callback(client.close)
            rewarders |= dict.fromkeys(config.served_tasks, client)
        if rubrics:
            ledger = open_ledger(reward, output)
            rewarders |= stack.enter_context(rubric_clients(reward, rubrics, ledger, num_ranks()))
        yield ByTask(rewarders)


def load_models(folder: Path, codes_folder: Path, config: PolicyConfig) -> Models:
    """Load the start of the stage twice: as the policy under the engine, and frozen as the reference."""
    policy, text_tokenizer, vocabulary = lmm.load_trained(folder, VisualCodes.load(codes_folder))
    reference: Any = Qwen2ForCausalLM.from_pretrained(folder, dtype=getattr(torch, computing_dtype(config.dtype)))
    reference.requires_grad_(False).to(rank_device())

    def as_policy(model: Any) -> CodePolicy:
        return CodePolicy(model, vocabulary, temperature=config.temperature, chunk=config.logits_chunk)

    return Models(Engine(as_policy(policy), engine_config(config)), as_policy(reference).eval(), text_tokenizer)


def load_renderer(tokenizer: Manifest, detokenizer: Manifest, config: PolicyConfig) -> TokenizerRenderer:
    """The frozen visual side."""
    visual = load_tokenizer(tokenizer_folder(tokenizer)).to(rank_device())
    pixels = load_detokenizer(detokenizer_folder(detokenizer)).to(rank_device())
    return TokenizerRenderer(visual, pixels, config)


class JobHost:
    """Checkpoints, pictures and numbers of one run of the job."""

    def __init__(self, engine: Engine, output: Folder, config: PolicyConfig) -> None:
        self._engine, self._output, self._config = engine, output, config
        self._checkpoints = Checkpoints.of(output)
        self._progress: Progress | None = None

    def load(self) -> State:
        """Go on from the newest whole checkpoint, or start."""
        saved = self._checkpoints.load_newest(alone=self._engine.reads_alone)
        state = State()
        if saved is not None:
            self._engine.load_state_dict(saved.parts("engine"))
            state = State.from_plain(saved.own["state"])
            saved.close()
        self._progress = Progress(f"train-policy {self._config.stage}", self._config.steps, state.step)
        return state

    def save(self, state: State) -> None:
        """Write a checkpoint, together with the other ranks."""
        self._checkpoints.save(state.step, {"engine": self._engine.state_dict(), "state": state.to_plain()})

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Publish a sheet of rollouts and what they were asked for."""
        if rank() > 0:
            return
        listed = [{"prompt": picture.text, "rewards": picture.rewards} for picture in pictures]
        self._output.write(f"samples/step-{step:06d}.json", (json.dumps(listed, indent=1) + "\n").encode())
        with self._output.publish(f"samples/step-{step:06d}.png") as path:
            path.write_bytes(draw_sheet(pictures))
        tracker.log_file(self._output.fetch(f"samples/step-{step:06d}.png"), "samples")

    def log(self, row: Row, seconds: Row) -> None:
        """Tell the tracker and the progress bar."""
        tracker.log({**row, **seconds}, step=int(row["step"]))
        if self._progress:
            rewards = [
                f"{name.split('/')[0]} {value:.3f}" for name, value in row.items() if name.endswith("/reward/mean")
            ]
            self._progress.advance(note=", ".join(rewards))

    def close(self) -> None:
        """End the progress bar and the copies of checkpoints."""
        self._checkpoints.close()
        if self._progress:
            self._progress.close()


def publish(models: Models, output: Folder, state: State) -> None:
    """Write the model and the curves."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        lmm.save(models.policy, models.text_tokenizer, models.vocabulary, folder)
        publish_tree(output, "model", folder)
    lines = [json.dumps(row, sort_keys=True) for row in state.rows]
    output.write("curves.jsonl", ("\n".join(lines) + "\n").encode())


def outcome_of(state: State, dropped: Mapping[str, int]) -> Outcome:
    """Counts over the run and of prompts that were dropped, and the mean reward of its first and last quarter."""
    num_groups = sum(int(row["num_groups"]) for row in state.rows)
    flat = sum(round(row["groups/zero_variance"] * row["num_groups"]) for row in state.rows)
    missing = sum(round(row["rewards/missing"] * row["num_rollouts"]) for row in state.rows)
    counts = {
        "steps": state.step,
        "groups": num_groups,
        "groups_learned": num_groups - flat,
        "groups_zero_variance": flat,
        "rollouts": sum(int(row["num_rollouts"]) for row in state.rows),
        "rewards_missing": missing,
        "steps_skipped": int(max((row.get("skipped_steps", 0.0) for row in state.rows), default=0.0)),
        **{f"dropped/{reason}": count for reason, count in sorted(dropped.items())},
    }
    return Outcome(counts=counts, metrics=reward_gains(state.rows))


def reward_gains(rows: Sequence[Row]) -> dict[str, float]:
    """Mean reward of each task over the first and the last quarter of the steps."""
    metrics = {}
    for name in sorted({name for row in rows for name in row if name.endswith("/reward/mean")}):
        values = [row[name] for row in rows if name in row]
        quarter = max(1, len(values) // 4)
        task = name.split("/")[0]
        metrics[f"{task}/reward_first"] = round(sum(values[:quarter]) / quarter, 6)
        metrics[f"{task}/reward_last"] = round(sum(values[-quarter:]) / quarter, 6)
    return metrics
