"""What a training run does when it is asked to stop, and when a loss is not what it should be.

**Asked to stop** (SIGTERM, Ctrl-C): the step is finished, a checkpoint saved, and the process exits with 75, which
launchers read as "run me again". The ranks agree on it with the counts of the next step. A second Ctrl-C ends at once.

**A loss or gradient that is not finite**, on any rank: no rank updates its weights at this step. The step counts as
consumed, so the order of data stays as it was, and the run records it as skipped. More than `max_skipped` in a row stop
the run in a sentence.

**A spike** (`spike_deviations` > 0; off by default): once `spike_window` losses are known, a step whose loss lies above
their median by more than `spike_deviations` median absolute deviations is skipped in the same way, and its loss does not
enter the window. Nothing is rolled back: weights have not seen a skipped step, so there is nothing to undo.

    losses 1 2 3 4 5, 3 deviations   ->   median 3, deviations 2 1 0 1 2, their median 1   ->   above 6 is a spike
"""

import math
import signal
import sys
import threading
from collections import deque
from collections.abc import Sequence
from statistics import median
from types import FrameType, TracebackType
from typing import Any, NoReturn

from arm.children import RUN_AGAIN
from arm.errors import UserError
from arm.training.engine import rank


class StopWish:
    """Inside its `with` block SIGTERM and the first SIGINT only note the wish; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.is_there = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopWish":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.is_there = True
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])


def stop_to_run_again(step: int, steps: int) -> NoReturn:
    """End this process after its checkpoint is saved."""
    if rank() == 0:
        print(f"\nStopped after step {step:,} of {steps:,} and saved; the same command goes on.", file=sys.stderr)
    raise SystemExit(RUN_AGAIN)


class SpikeRule:
    """The losses of the last steps that were learned from, and what is a spike against them."""

    def __init__(self, deviations: float, window: int) -> None:
        self.deviations = deviations
        self._losses: deque[float] = deque(maxlen=window)

    def accepts(self, loss: float) -> bool:
        """Whether to learn from a step of this loss; if so, it enters the window."""
        if not math.isfinite(loss) or loss > self.limit():
            return False
        self._losses.append(loss)
        return True

    def limit(self) -> float:
        """The highest loss that is no spike; infinite as long as the window is not full."""
        if len(self._losses) < (self._losses.maxlen or 0):
            return math.inf
        middle = median(self._losses)
        spread = median(abs(loss - middle) for loss in self._losses)
        return middle + self.deviations * spread if spread else math.inf  # half of them equal: nothing to judge by

    def state_dict(self) -> dict[str, Any]:
        """The window."""
        return {"losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a window."""
        self._losses.extend(state["losses"])


def check_skipped(skipped: Sequence[int], step: int, most: int) -> None:
    """Refuse to go on when more than `most` steps in a row were skipped, the last of them `step`.

    skipped 3 7 8 9, step 9  ->  3 in a row
    """
    in_a_row = 0
    while in_a_row < len(skipped) and skipped[-1 - in_a_row] == step - in_a_row:
        in_a_row += 1
    if in_a_row > most:
        raise UserError(
            f"{in_a_row} steps in a row up to step {step + 1} were skipped, as their loss or gradient was not finite or a "
            "spike (max_skipped); lower learning_rate, or look at the data of these steps in the plan."
        )
