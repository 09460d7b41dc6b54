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

from arm.device import computing_dtype
from arm.errors import UserError
from arm.progress import Progress
from arm.tracking import tracker
from arm.training.checkpoint import Checkpoints
from arm.training.config import StageConfig
from arm.training.engine import Engine, num_ranks, rank
from arm.training.flops import step_flops
from arm.training.heartbeat import Heartbeat
from arm.training.ledger.identity import MODULUS
from arm.training.ledger.recorder import Recorder
from arm.training.loader import Batch, Loader
from arm.training.loss import LossSums, PackedModel
from arm.training.metrics import KindCounts, Meter, Record, mean_losses, no_sums, reduced
from arm.training.recovery import SpikeRule, StopWish, check_skipped, stop_to_run_again
from arm.training.sequence import SplitLoader
from arm.training.throughput import StepClock, gathered, layer_parameters, peak_flops, straggler_metrics


@dataclass(slots=True)
class History:
    """What a checkpoint carries beside the weights: the curves and what was consumed at each step."""

    curves: list[Record]
    consumed: list[list[int]]
    """[documents, tokens, digest, identity] of each step, over all ranks: `arm.training.ledger.format.Consumed`."""
    skipped: list[int] = field(default_factory=list)
    """The steps among them, counted from 0, that the weights did not learn from."""
    speeds: list[Record] = field(default_factory=list)
    """Entries of speed: no two runs have the same."""


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
        meter: Meter,
        recorder: Recorder | None = None,
    ) -> None:
        self.engine, self.loader, self.config, self.held_out, self.name = engine, loader, config, held_out, name
        self.checkpoints = checkpoints
        self.history, self.recorder = History([], []), recorder
        self.clock = StepClock()
        self._spikes = SpikeRule(config.spike_deviations, config.spike_window) if config.spike_deviations else None
        self._stop = StopWish()
        model = self._packed.model
        self.meter = meter
        self._num_parameters = layer_parameters(model)
        self._num_layers, self._width = model.config.num_hidden_layers, model.config.hidden_size
        self._saved_at = time.monotonic()

    @property
    def _packed(self) -> PackedModel:
        module = self.engine.module
        assert isinstance(module, PackedModel)
        return module

    def run(self) -> History:
        """Train to the last step; returns curves and what was consumed. Asked to stop, it saves and exits with 75."""
        first = self._resume()
        if self.recorder:
            self.recorder.begin(self.history.consumed)
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

    def use_average(self) -> None:
        """Put the averaged weights in the place of the last ones, and measure those that are published."""
        self.engine.use_average()
        self._validate(self.config.steps, prefix="held_out_average")

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self.checkpoints.folder / f"stacks-rank-{rank()}.txt",
            floor_seconds=self.config.heartbeat_floor_seconds,
            first_seconds=self.config.heartbeat_first_seconds,
        )

    def _after(self, done: int, wishes: Wishes, progress: Progress) -> None:
        """What is due after `done` steps."""
        last = done == self.config.steps
        if self._logs_after(done - 1):
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
        counts, kinds = self._reduced_counts(step, batches)
        sums_DKC = self._accumulate(batches, max(self.meter.count(kinds), 1e-9), measure=self._logs_after(step))
        skipped_before = self.engine.skipped_steps
        self.engine.step(learning_rate(self.config, step))
        self.history.consumed.append(counts[:4])
        if self.recorder:
            self.recorder.record(counts[:4])
        if self.engine.skipped_steps > skipped_before:
            self.history.skipped.append(step)
            check_skipped(self.history.skipped, step, self.config.max_skipped)
        else:
            self.meter.add(sums_DKC)
        self.clock.tick(tokens=counts[1], flops=float(counts[4]))
        return Wishes(save=bool(counts[5]), stop=bool(counts[6]))

    def _accumulate(self, batches: list[Batch], total: float, *, measure: bool) -> torch.Tensor:
        """Forward and backward over this rank's micro-batches; returns its sums over targets."""
        sums_DKC = no_sums()
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            self.engine.mark(last=last)
            with self.clock.computing():
                result: LossSums = self.engine(batch, measure)
            sums_DKC = sums_DKC.to(result.sums_DKC.device) + result.sums_DKC
            loss = result.weighted / total
            if last and self._spikes:
                loss = loss * self._spike_factor(sums_DKC, total)
            self.engine.backward(loss)
        return sums_DKC

    def _spike_factor(self, sums_DKC: torch.Tensor, total: float) -> float:
        """1, or not a number where the step's loss is a spike: so the engine skips it as it skips any such gradient."""
        assert self._spikes is not None
        loss = self.meter.weighted_loss(reduced(sums_DKC)) / total
        return 1.0 if self._spikes.accepts(loss) else math.nan

    def _logs_after(self, step: int) -> bool:
        return (step + 1) % self.config.log_every == 0 or step + 1 == self.config.steps

    def _reduced_counts(self, step: int, batches: list[Batch]) -> tuple[list[int], KindCounts]:
        """Summed over ranks: documents, tokens, digest, identity, FLOPs, the wishes to save and to stop; targets by kind."""
        due = (step + 1) % self.config.checkpoint_every_steps == 0
        late = rank() == 0 and time.monotonic() - self._saved_at > self.config.checkpoint_every_seconds
        digest = sum(batch.digest for batch in batches) % MODULUS
        identity = sum(batch.identity for batch in batches) % MODULUS
        values = torch.tensor(
            [
                sum(batch.num_documents for batch in batches),
                sum(batch.num_tokens for batch in batches),
                *divmod(digest, 2**31),
                *divmod(identity, 2**31),
                int(self._flops(batches)),
                int(due or late),
                int(self._stop.is_there),
                *KindCounts.of(batches).to_list(),
            ]
        )
        dist.all_reduce(values)
        documents, tokens, *halves, flops, save, stop = values.tolist()[:9]
        sums = [(high * 2**31 + low) % MODULUS for high, low in (halves[:2], halves[2:])]
        return [documents, tokens, *sums, flops, save, stop], KindCounts.from_list(values.tolist()[9:])

    def _flops(self, batches: list[Batch]) -> float:
        code_rows, text_rows = self._packed.rows()
        head = (
            len(batch.code_targets_M) * (code_rows.stop - code_rows.start)
            + len(batch.text_targets_M) * (text_rows.stop - text_rows.start)
            for batch in batches
        )
        return step_flops(
            num_parameters=self._num_parameters,
            num_layers=self._num_layers,
            width=self._width,
            lengths=[length for batch in batches for length in batch.lengths[: batch.num_documents]],
            head_logits=sum(head),
        )

    def _log(self, step: int) -> None:
        record = self.meter.entry(step) | {
            "step": step,
            "gradient_norm": self.engine.gradient_norm,
            "learning_rate": learning_rate(self.config, step - 1),
            "tokens": sum(consumed[1] for consumed in self.history.consumed),
            "skipped_steps": self.engine.skipped_steps,
        }
        self._record({name: value for name, value in record.items() if math.isfinite(value)})
        speed = self.clock.metrics(self._peak_flops()) | straggler_metrics(gathered(self.clock.own_seconds()))
        self.history.speeds.append({"step": step} | {name: float(f"{value:.6g}") for name, value in speed.items()})
        tracker.log(speed, step=step)

    def _peak_flops(self) -> float | None:
        """Of all devices together."""
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        peak = peak_flops(name, computing_dtype(self.config.dtype))
        return peak and peak * num_ranks()

    @torch.no_grad()
    def _validate(self, step: int, prefix: str = "held_out") -> None:
        """Held-out losses by kind of document and modality, over all ranks."""
        measured = [self._packed(batch).sums_DKC for batches in self.held_out.values() for batch in batches]
        total_DKC = reduced(torch.stack(measured).sum(dim=0) if measured else no_sums())
        self._record({"step": step} | mean_losses(total_DKC, prefix=prefix))

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
            "speeds": self.history.speeds,
            "meter": self.meter.state_dict(),
            "spikes": self._spikes.state_dict() if self._spikes else {},
        }
        with self.clock.saving():
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
        self.history = History(own["curves"], own["consumed"], own["skipped"], own["speeds"])
        self.meter.load_state_dict(own["meter"], [part["meter"] for part in saved.inherited()])
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
