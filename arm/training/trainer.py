"""The training loop: batches from the plan, one engine, curves, held-out losses and checkpoints.

A step's loss is Σ weight·cross-entropy / Σ weight over the targets of all ranks and micro-batches, so it does not depend
on how rows were dealt. After a kill, `run` goes on from the newest checkpoint that every rank holds, with the same bits.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from arm.errors import UserError
from arm.progress import Progress
from arm.tracking import tracker
from arm.training.checkpoint import Checkpoints
from arm.training.config import StageConfig
from arm.training.engine import Engine, num_ranks, rank
from arm.training.ledger.identity import MODULUS
from arm.training.ledger.recorder import Recorder
from arm.training.loader import Batch, Loader
from arm.training.loss import LossSums, PackedModel, weighted
from arm.training.sequence import SplitLoader
from arm.training.throughput import StepClock, step_flops, trained_parameters

Record = dict[str, float]


@dataclass(slots=True)
class History:
    """What a checkpoint carries beside the weights: the curves and what was consumed at each step."""

    curves: list[Record]
    consumed: list[list[int]]
    """[documents, tokens, digest, identity] of each step, over all ranks: `arm.training.ledger.format.Consumed`."""


class Trainer:
    """Trains one stage. `held_out` maps a kind of document to this rank's batches of it."""

    def __init__(
        self,
        engine: Engine,
        loader: Loader | SplitLoader,
        config: StageConfig,
        *,
        held_out: Mapping[str, list[Batch]],
        folder: Path,
        name: str,
        recorder: Recorder | None = None,
    ) -> None:
        self.engine, self.loader, self.config, self.held_out, self.name = engine, loader, config, held_out, name
        self.checkpoints = Checkpoints(folder / f"rank-{rank()}-of-{num_ranks()}")
        self.history, self.recorder = History([], []), recorder
        self.clock = StepClock()
        model = self._packed.model
        self._num_parameters = trained_parameters(model)
        self._num_layers, self._width = model.config.num_hidden_layers, model.config.hidden_size
        self._saved_at = time.monotonic()
        self._window: list[torch.Tensor] = []

    @property
    def _packed(self) -> PackedModel:
        module = self.engine.module
        assert isinstance(module, PackedModel)
        return module

    def run(self) -> History:
        """Train to the last step; returns curves and what was consumed."""
        first = self._resume()
        if self.recorder:
            self.recorder.begin(self.history.consumed)
        progress = Progress(self.name, self.config.steps, first)
        self.clock = StepClock()
        for step in range(first, self.config.steps):
            loss = self._step(step)
            last = step + 1 == self.config.steps
            if (step + 1) % self.config.log_every == 0 or last:
                self._log(step + 1)
                progress.note = f"loss {self.history.curves[-1]['loss']:.3f}"
            if (step + 1) % self.config.validate_every == 0 or last:
                self._validate(step + 1)
            if loss and not last:
                self._save(step + 1)
            progress.advance()
        progress.close()
        return self.history

    def _step(self, step: int) -> bool:
        """One optimiser step; returns whether the ranks agreed to save a checkpoint after it."""
        with self.clock.waiting():
            batches = self.loader.micro_batches(step)
        counts = self._reduced_counts(step, batches)
        total = self._weight(counts[0], counts[1])
        sums = torch.zeros(2, dtype=torch.float64)
        for number, batch in enumerate(batches, start=1):
            self.engine.mark(last=number == len(batches))
            result: LossSums = self.engine(batch)
            self.engine.backward(weighted(result, self.config) / max(total, 1e-9))
            sums += torch.stack([result.codes.detach(), result.text.detach()]).double().cpu()
        self.engine.step(learning_rate(self.config, step))
        self._window.append(
            torch.cat([sums, torch.tensor([batch_count(batches, "code"), batch_count(batches, "text")])])
        )
        self.history.consumed.append(counts[2:6])
        if self.recorder:
            self.recorder.record(counts[2:6])
        lengths = [length for batch in batches for length in batch.lengths]
        flops = step_flops(
            num_parameters=self._num_parameters, num_layers=self._num_layers, width=self._width, lengths=lengths
        )
        self.clock.tick(tokens=int(counts[3]), flops=flops * num_ranks() / self.config.sequence_parallel)
        return bool(counts[6])

    def _reduced_counts(self, step: int, batches: list[Batch]) -> list[int]:
        """Summed over ranks: code targets, text targets, documents, tokens, digest, identity, and the wish to save."""
        due = (step + 1) % self.config.checkpoint_every_steps == 0
        late = rank() == 0 and time.monotonic() - self._saved_at > self.config.checkpoint_every_seconds
        digest = sum(batch.digest for batch in batches) % MODULUS
        identity = sum(batch.identity for batch in batches) % MODULUS
        values = torch.tensor(
            [
                batch_count(batches, "code"),
                batch_count(batches, "text"),
                sum(batch.num_documents for batch in batches),
                sum(batch.num_tokens for batch in batches),
                *divmod(digest, 2**31),
                *divmod(identity, 2**31),
                int(due or late),
            ]
        )
        dist.all_reduce(values)
        *counts, high, low, high_identity, low_identity, save = values.tolist()
        return [*counts, (high * 2**31 + low) % MODULUS, (high_identity * 2**31 + low_identity) % MODULUS, save]

    def _weight(self, codes: float, text: float) -> float:
        return self.config.code_weight * codes + self.config.text_weight * text

    def _log(self, step: int) -> None:
        totals = torch.stack(self._window).sum(dim=0)
        self._window.clear()
        dist.all_reduce(totals)
        codes, text, num_codes, num_text = totals.tolist()
        weighted_sum = self.config.code_weight * codes + self.config.text_weight * text
        record = {
            "step": step,
            "loss": weighted_sum / max(self._weight(num_codes, num_text), 1e-9),
            "loss/codes": codes / max(num_codes, 1),
            "loss/text": text / max(num_text, 1),
            "gradient_norm": self.engine.gradient_norm,
            "learning_rate": learning_rate(self.config, step - 1),
            "tokens": sum(consumed[1] for consumed in self.history.consumed),
            "skipped_steps": self.engine.skipped_steps,
        }
        self._record(record)
        tracker.log(self.clock.metrics(), step=step)

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        """Held-out losses by kind of document and modality, over all ranks."""
        totals = torch.zeros(len(self.held_out), 4, dtype=torch.float64)
        for row, batches in enumerate(self.held_out.values()):
            for batch in batches:
                sums = self._packed(batch)
                values = [float(sums.codes), float(sums.text), sums.num_codes, sums.num_text]
                totals[row] += torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(totals)
        record: Record = {"step": step}
        for kind, (codes, text, num_codes, num_text) in zip(self.held_out, totals.tolist(), strict=True):
            record |= {f"held_out/{kind}/codes": codes / num_codes} if num_codes else {}
            record |= {f"held_out/{kind}/text": text / num_text} if num_text else {}
        self._record(record)

    def _record(self, record: Mapping[str, float]) -> None:
        rounded = {name: value if name == "step" else round(value, 6) for name, value in record.items()}
        self.history.curves.append(rounded)
        tracker.log({name: value for name, value in rounded.items() if name != "step"}, step=int(rounded["step"]))

    def _save(self, step: int) -> None:
        state: dict[str, Any] = {
            "engine": self.engine.state_dict(),
            "plan": self.loader.plan.digest,
            "curves": self.history.curves,
            "consumed": self.history.consumed,
            "window": torch.stack(self._window) if self._window else None,
        }
        self.checkpoints.save(step, state)
        self._saved_at = time.monotonic()

    def _resume(self) -> int:
        """The step to go on from: the newest checkpoint that all ranks hold whole, or 0."""
        found = self.checkpoints.load_common()
        if found is None:
            return 0
        step, state = found
        if state["plan"] != self.loader.plan.digest:
            raise UserError(
                f"The checkpoint at step {step} follows another plan of data; delete {self.checkpoints.folder}."
            )
        self.engine.load_state_dict([state["engine"]])
        self.history = History(state["curves"], state["consumed"])
        self._window = list(state["window"]) if state["window"] is not None else []
        return step


def learning_rate(config: StageConfig, step: int) -> float:
    """Linear warm-up, constant, and at the end, where declared, a linear fall to a tenth.

    rate 1, warm-up 10, 100 steps, decay .5   ->   step 0: .1   step 9: 1   step 50: 1   step 75: .55
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay_steps = config.decay_fraction * config.steps
    passed = max(0.0, step - (config.steps - decay_steps)) / decay_steps if decay_steps else 0.0
    return config.learning_rate * warm * (1 - 0.9 * passed)


def batch_count(batches: list[Batch], modality: str) -> int:
    """Targets of a modality in some batches."""
    return sum(len(b.code_targets_M if modality == "code" else b.text_targets_M) for b in batches)
