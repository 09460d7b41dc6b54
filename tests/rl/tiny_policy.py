"""A model of a few thousand weights, and stand-ins for the tools around it."""

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from arm.model.generation import Generator
from arm.model.vocabulary import Vocabulary
from arm.rl.config import PolicyConfig, RewardConfig
from arm.rl.learner import Learner
from arm.rl.loop import State, run_loop
from arm.rl.policy import CodePolicy, MicroBatch
from arm.rl.prompts import PromptStream, RolloutPrompt
from arm.rl.rewards import Judgeable, Reward
from arm.rl.rollout import Picture, RolloutMaker

NUM_CODES = 8
VOCABULARY = Vocabulary(
    num_text=140, num_shapes=4, num_codes=NUM_CODES, vision_start=128, vision_end=129, image_pad=130, end_of_text=131,
    answer_start=132, answer_end=133, visual_fingerprint="tiny",
)  # fmt: skip


class Letters:
    """A text tokenizer of ASCII letters."""

    def __call__(self, texts: Sequence[str], **unused: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [list(text.encode("ascii")) for text in texts]}


def tiny_model(seed: int = 0, size: int = VOCABULARY.size) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    shape = Qwen2Config(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.2,
    )  # fmt: skip
    return Qwen2ForCausalLM(shape)


class PlainEngine:
    """The engine's interface over torch's AdamW."""

    def __init__(self, policy: CodePolicy) -> None:
        self.policy, self.gradient_norm, self.skipped_steps = policy, 0.0, 0
        self.optimizer = torch.optim.AdamW(policy.parameters(), betas=(0.9, 0.95), weight_decay=0.01)

    def mark(self, *, last: bool) -> None:
        pass

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.policy(batch)
        return found

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, learning_rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.gradient_norm = float(torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0))
        if math.isfinite(self.gradient_norm):
            self.optimizer.step()
        else:
            self.skipped_steps += 1
        self.optimizer.zero_grad()


def tiny_policy(model: Any, temperature: float = 1.0, chunk: int = 1024) -> CodePolicy:
    return CodePolicy(model, VOCABULARY, temperature=temperature, chunk=chunk)


class CodesAsPixels:
    """A renderer whose images are 2×2 blocks of grey that spell the codes."""

    stride = 2

    def encode(self, images: Sequence[Any]) -> Any:
        return np.stack([image[::2, ::2, 0].astype(np.int64) // 16 for image in images])

    def render(self, codes_BHW: Tensor, seeds: Sequence[int]) -> list[Any]:
        grey = (codes_BHW.numpy() * 16).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
        return [np.stack([image] * 3, axis=-1) for image in grey]


class FunctionJudge:
    """Rewards by a function, at once."""

    def __init__(self, function: Callable[[Judgeable], Reward]) -> None:
        self.function = function

    def submit(self, item: Judgeable) -> "Future[Reward]":
        future: Future[Reward] = Future()
        future.set_result(self.function(item))
        return future


@dataclass
class MemoryHost:
    """Keeps checkpoints of the loop's state and what was shown."""

    saved: list[dict[str, Any]] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)

    def save(self, state: State) -> None:
        self.saved.append(json.loads(json.dumps(state.to_plain())))

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        assert pictures
        self.shown.append(step)

    def log(self, row: dict[str, float], seconds: dict[str, float]) -> None:
        self.rows.append(row)


def tiny_config(**changes: Any) -> PolicyConfig:
    values: dict[str, Any] = {
        "stage": "t2i", "reward": RewardConfig(judge="t"), "steps": 3, "prompts_per_step": 4, "group_size": 4,
        "image_size": 4, "temperature": 1.0, "top_k": 0, "rollout_batch": 8, "learn_batch": 4, "logits_chunk": 1024,
        "samples_every": 2, "refill_rounds": 0, "learning_rate": 3e-3,
    }  # fmt: skip
    return PolicyConfig(**(values | changes))


@dataclass
class Rig:
    """Everything that one run of the loop needs."""

    config: PolicyConfig
    model: Any
    engine: PlainEngine
    maker: RolloutMaker
    learner: Learner
    stream: PromptStream
    host: MemoryHost

    def run(self, state: State | None = None) -> State:
        state = state or State()
        run_loop(self.maker, self.learner, self.stream, self.host, state, self.config)
        return state


def build_rig(function: Callable[[Judgeable], Reward], config: PolicyConfig, model: Any = None) -> Rig:
    model = model or tiny_model()
    generator = Generator(model, VOCABULARY, Letters())
    reference = tiny_model()
    reference.load_state_dict(model.state_dict())
    engine = PlainEngine(tiny_policy(model, config.temperature))
    prompts = [RolloutPrompt(uid=f"{i:032x}", task="text_to_image", text=f"p{i}", meta={}) for i in range(12)]
    stream = PromptStream({"text_to_image": prompts}, 0.0, config.seed)
    maker = RolloutMaker(generator, CodesAsPixels(), FunctionJudge(function), config)
    learner = Learner(engine, tiny_policy(reference, config.temperature), generator.prompt_ids, config)
    return Rig(config, model, engine, maker, learner, stream, MemoryHost())
