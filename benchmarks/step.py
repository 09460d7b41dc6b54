"""A step of our trainer against the same DeepSpeed engine in a bare loop, and against plain PyTorch.

    python benchmarks/step.py [toy] [ROUNDS]

Ours is `Trainer._step`: batches collated from documents, counts reduced over ranks, loss, backward, step, curves' sums and
the ledger's digest. The bare loop runs the same engine object over batches made beforehand: forward, backward, step.
Plain PyTorch is a bare loop of the same model in the same dtype, with torch's AdamW on its weights and clipping.
Reading shards is not part of it (`speed/data_wait_share` of a run is). One process; turns are interleaved, so that
whatever else the machine does meets all alike; CPU seconds of this process are compared, wall seconds are shown.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arm.device import computing_dtype, make_deterministic
from arm.model.attention import NAME as DOCUMENTS
from arm.model.documents import Document
from arm.model.vocabulary import Vocabulary
from arm.training.checkpoint import Checkpoints
from arm.training.config import StageConfig
from arm.training.engine import Engine
from arm.training.loader import Batch, collate
from arm.training.loss import PackedModel
from arm.training.metrics import Meter
from arm.training.stages import engine_config
from arm.training.trainer import Trainer


@dataclass(frozen=True)
class Geometry:
    """A model and its batch."""

    name: str
    width: int
    layers: int
    heads: int
    inner: int
    num_text: int
    num_codes: int
    rows: int
    row_tokens: int
    rounds: int


LARGE = Geometry("17M parameters, 8 x 512 tokens", 384, 6, 6, 1024, 5_400, 4_096, 8, 512, 4)
TOY = Geometry("toy", 128, 4, 4, 384, 1_024, 1_024, 8, 256, 15)


def vocabulary_of(geometry: Geometry) -> Vocabulary:
    """Text rows, 4 shapes, codes."""
    ids = dict.fromkeys(("vision_start", "vision_end", "image_pad", "end_of_text", "answer_start", "answer_end"), 0)
    return Vocabulary(
        num_text=geometry.num_text, num_shapes=4, num_codes=geometry.num_codes, visual_fingerprint="f" * 64, **ids
    )


def packed_model(geometry: Geometry, config: StageConfig) -> PackedModel:
    """The model with its loss, from one seed."""
    torch.manual_seed(0)
    vocabulary = vocabulary_of(geometry)
    model: Any = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary.size, hidden_size=geometry.width, intermediate_size=geometry.inner,
            num_hidden_layers=geometry.layers, num_attention_heads=geometry.heads,
            num_key_value_heads=geometry.heads // 2, tie_word_embeddings=False,
        )
    )  # fmt: skip
    model.train().set_attn_implementation(DOCUMENTS)
    return PackedModel(model, vocabulary, config)


def documents_of(geometry: Geometry) -> list[Document]:
    """A step's documents: text of 16 to 63 tokens, then as many codes, of which the codes are learned."""
    draw, documents, filled = np.random.default_rng(0), [], 0
    total = geometry.rows * geometry.row_tokens
    while filled < total:
        half = min(int(draw.integers(16, 64)), (total - filled + 1) // 2)
        text = draw.integers(0, geometry.num_text, half)
        codes = draw.integers(geometry.num_text + 4, geometry.num_text + 4 + geometry.num_codes, half)
        ids = np.concatenate([text, codes])[: total - filled]
        documents.append(Document(ids, np.arange(len(ids)) >= half))
        filled += len(ids)
    return documents


class Loader:
    """What the trainer asks of a loader: one step's documents, collated anew each time."""

    plan = SimpleNamespace(digest="")

    def __init__(self, documents: list[Document], vocabulary: Vocabulary) -> None:
        self._documents, self._vocabulary = documents, vocabulary

    def micro_batches(self, step: int) -> list[Batch]:
        """One micro-batch."""
        return [collate(self._documents, self._vocabulary)]


def contenders(geometry: Geometry) -> dict[str, Callable[[], None]]:
    """Each does one step."""
    config = StageConfig(
        dtype=computing_dtype("auto"), rows_per_step=geometry.rows, rows_per_micro_batch=geometry.rows, warmup_steps=0
    )
    module = packed_model(geometry, config)
    loader = Loader(documents_of(geometry), module.vocabulary)
    engine = Engine(module, engine_config(config))
    checkpoints = Checkpoints(Path(tempfile.mkdtemp()))
    trainer = Trainer(
        engine,
        loader,  # type: ignore[arg-type]
        config,
        held_out={},
        checkpoints=checkpoints,
        name="step",
        meter=Meter(config),
    )
    (batch,) = loader.micro_batches(0)
    count = len(batch.code_targets_M) + len(batch.text_targets_M)
    deepspeed = engine._backend._engine  # type: ignore[attr-defined]
    steps = iter(range(10**9))

    def ours() -> None:
        trainer._step(next(steps) % config.steps)

    def bare() -> None:
        deepspeed.backward(deepspeed(batch).weighted / count)
        deepspeed.step()

    plain = packed_model(geometry, config).to(getattr(torch, config.dtype))
    optimizer = torch.optim.AdamW(
        plain.parameters(), lr=config.learning_rate, betas=config.betas, eps=config.epsilon, weight_decay=0, fused=True
    )

    def pytorch() -> None:
        (plain(batch).weighted / count).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(plain.parameters(), config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()

    print(f"{geometry.name}: {sum(p.numel() for p in plain.parameters()) / 1e6:.1f}M parameters, {config.dtype}, "
          f"{batch.num_tokens} tokens in {batch.num_documents} documents, {count} targets")  # fmt: skip
    return {"ours": ours, "bare": bare, "plain torch": pytorch}


def measure(work: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """CPU and wall seconds of each step, in turn; the order changes with the round; the first round warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name in list(work)[:: 1 if number % 2 else -1]:
            cpu, wall = time.process_time(), time.perf_counter()
            work[name]()
            if number:
                seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return seconds


def main() -> None:
    """Measure and print."""
    geometry = TOY if "toy" in sys.argv else LARGE
    make_deterministic(threads=1)
    rounds = next((int(word) for word in sys.argv[1:] if word.isdigit()), geometry.rounds)
    seconds = measure(contenders(geometry), rounds)
    for name, found in seconds.items():
        cpu, wall = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"  {name}: {cpu:.3f} CPU seconds a step ({wall:.3f} wall)")
    for peer in ("bare", "plain torch"):
        ratios = sorted(mine[0] / theirs[0] for mine, theirs in zip(seconds["ours"], seconds[peer], strict=True))
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}, {rounds} rounds"
        print(f"  ours / {peer}: {statistics.median(ratios):.3f} ({spread})")


if __name__ == "__main__":
    main()
