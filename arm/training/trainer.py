"""The training loop: batches from the plan, one engine, curves, held-out losses and checkpoints.

A step's loss is Σ weight·cross-entropy / Σ weight over the targets of all ranks and micro-batches, so it does not depend
on how rows were dealt. After a kill, `run` goes on from the newest whole checkpoint: on as many ranks with the same bits,
on another number of ranks with the same batches. `arm.training.recovery` says when a step is skipped, and how to stop.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from arm.errors import UserError
from arm.progress import Progress
from arm.tracking import tracker
from arm.training.checkpoint import Checkpoints
from arm.training.config import StageConfig
from arm.training.engine import Engine, num_ranks, rank
from arm.training.heartbeat import Heartbeat
from arm.training.loader import Batch, Loader
from arm.training.loss import LossSums, PackedModel, weighted
from arm.training.recovery import SpikeRule, StopWish, check_skipped, stop_to_run_again
from arm.training.sequence import SplitLoader
from arm.training.throughput import StepClock, step_flops, trained_parameters

Record = dict[str, float]


@dataclass(slots=True)
class History:
    """What a checkpoint carries beside the weights: the curves and what was consumed at each step."""

    curves: list[Record]
    consumed: list[list[int]]
    """[documents, tokens, digest] of each step, over all ranks."""
    skipped: list[int] = field(default_factory=list)
    """The steps among them, counted from 0, that the weights did not learn from."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the ranks agreed to do after a step."""

    save: bool
    stop: bool


class Trainer:
    """Trains one stage. `held_out` maps a kind of document to this rank's batches of it."""

    def __init__(
        self,
        engine: Engine,
        loader: Loader | SplitLoader,
        config: StageConfig,
        *,
        held_out: Mapping[str, list[Batch]],
        checkpoints: Checkpoints,
        name: str,
    ) -> None:
        self.engine, self.loader, self.config, self.held_out, self.name = engine, loader, config, held_out, name
        self.checkpoints = checkpoints
        self.history = History([], [])
        self.clock = StepClock()
        self._spikes = SpikeRule(config.spike_deviations, config.spike_window) if config.spike_deviations else None
        self._stop = StopWish()
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
        """Train to the last step; returns curves and what was consumed. Asked to stop, it saves and exits with 75."""
        first = self._resume()
        progress = Progress(self.name, self.config.steps, first)
        self.clock = StepClock()
        with self._stop, self._heartbeat() as heartbeat:
            for step in range(first, self.config.steps):
                wishes = self._step(step)
                heartbeat.beat()
                with heartbeat.resting():
                    self._after(step + 1, wishes, progress)
        progress.close()
        self.checkpoints.close()
        return self.history

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self.checkpoints.folder / f"stacks-rank-{rank()}.txt",
            floor_seconds=self.config.heartbeat_floor_seconds,
            first_seconds=self.config.heartbeat_first_seconds,
        )

    def _after(self, done: int, wishes: Wishes, progress: Progress) -> None:
        """What is due after `done` steps."""
        last = done == self.config.steps
        if done % self.config.log_every == 0 or last:
            self._log(done)
            progress.note = f"loss {self.history.curves[-1].get('loss', math.nan):.3f}"
        if done % self.config.validate_every == 0 or last:
            self._validate(done)
        if (wishes.save or wishes.stop) and not last:
            self._save(done)
        progress.advance()
        if wishes.stop and not last:
            self.checkpoints.close(finish=True)
            dist.barrier()  # the first to go would have the launcher end the others, before their copies are made
            stop_to_run_again(done, self.config.steps)

    def _step(self, step: int) -> Wishes:
        """One optimiser step; returns what the ranks agreed to do after it."""
        with self.clock.waiting():
            batches = self.loader.micro_batches(step)
        counts = self._reduced_counts(step, batches)
        sums = self._accumulate(batches, max(self._weight(counts[0], counts[1]), 1e-9))
        skipped_before = self.engine.skipped_steps
        self.engine.step(learning_rate(self.config, step))
        self.history.consumed.append([int(value) for value in counts[2:5]])
        if self.engine.skipped_steps > skipped_before:
            self.history.skipped.append(step)
            check_skipped(self.history.skipped, step, self.config.max_skipped)
        else:
            targets = torch.tensor([batch_count(batches, "code"), batch_count(batches, "text")])
            self._window.append(torch.cat([sums, targets]))
        lengths = [length for batch in batches for length in batch.lengths]
        flops = step_flops(
            num_parameters=self._num_parameters, num_layers=self._num_layers, width=self._width, lengths=lengths
        )
        self.clock.tick(tokens=int(counts[3]), flops=flops * num_ranks() / self.config.sequence_parallel)
        return Wishes(save=bool(counts[5]), stop=bool(counts[6]))

    def _accumulate(self, batches: list[Batch], total: float) -> torch.Tensor:
        """Forward and backward over this rank's micro-batches; returns its sums of both losses."""
        sums = torch.zeros(2, dtype=torch.float64)
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            self.engine.mark(last=last)
            result: LossSums = self.engine(batch)
            loss, parts = weighted(result, self.config) / total, torch.stack([result.codes, result.text]).detach()
            if last and self._spikes:
                loss = loss * self._spike_factor(sums + parts.double().cpu(), total)
            self.engine.backward(loss)
            sums += parts.double().cpu()
        return sums

    def _spike_factor(self, sums: torch.Tensor, total: float) -> float:
        """1, or not a number where the step's loss is a spike: so the engine skips it as it skips any such gradient."""
        assert self._spikes is not None
        dist.all_reduce(sums)
        return 1.0 if self._spikes.accepts(self._weight(*sums.tolist()) / total) else math.nan

    def _reduced_counts(self, step: int, batches: list[Batch]) -> list[int]:
        """Summed over ranks: code targets, text targets, documents, tokens, digest, the wishes to save and to stop."""
        due = (step + 1) % self.config.checkpoint_every_steps == 0
        late = rank() == 0 and time.monotonic() - self._saved_at > self.config.checkpoint_every_seconds
        digest = sum(batch.digest for batch in batches) % 2**62
        values = torch.tensor(
            [
                batch_count(batches, "code"),
                batch_count(batches, "text"),
                sum(batch.num_documents for batch in batches),
                sum(batch.num_tokens for batch in batches),
                digest // 2**31,
                digest % 2**31,
                int(due or late),
                int(self._stop.is_there),
            ]
        )
        dist.all_reduce(values)
        codes, text, documents, tokens, high, low, save, stop = values.tolist()
        return [codes, text, documents, tokens, (high * 2**31 + low) % 2**62, save, stop]

    def _weight(self, codes: float, text: float) -> float:
        return self.config.code_weight * codes + self.config.text_weight * text

    def _log(self, step: int) -> None:
        totals = torch.stack([torch.zeros(4, dtype=torch.float64), *self._window]).sum(dim=0)
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
            "tokens": sum(tokens for _, tokens, _ in self.history.consumed),
            "skipped_steps": self.engine.skipped_steps,
        }
        if not num_codes + num_text:  # every step since the last entry was skipped: there is no loss to show
            record = {name: value for name, value in record.items() if not name.startswith("loss")}
        self._record({name: value for name, value in record.items() if math.isfinite(value)})
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
            "curves": self.history.curves,
            "consumed": self.history.consumed,
            "skipped": self.history.skipped,
            "window": torch.stack(self._window) if self._window else torch.zeros(0, 4, dtype=torch.float64),
            "spikes": self._spikes.state_dict() if self._spikes else {},
        }
        self.checkpoints.save(step, state, plan=self.loader.plan.digest, digest=str(state["engine"]["digest"]))
        self._saved_at = time.monotonic()

    def _resume(self) -> int:
        """The step to go on from: that of the newest whole checkpoint, or 0."""
        saved = self.checkpoints.load_newest(alone=self.engine.reads_alone)
        if saved is None:
            return 0
        if saved.seal.plan != self.loader.plan.digest:
            raise UserError(
                f"The checkpoint at step {saved.step} follows another plan of data; delete {self.checkpoints.folder}."
            )
        self.engine.load_state_dict(saved.parts("engine"))
        own = saved.own
        self.history = History(own["curves"], own["consumed"], own["skipped"])
        windows = [part["window"].clone() for part in saved.inherited()] or [own["window"] * 0]
        self._window = list(torch.stack(windows).sum(dim=0))
        if self._spikes:
            self._spikes.load_state_dict(own["spikes"])
        saved.close()
        return saved.step


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
