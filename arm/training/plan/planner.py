"""The planner: rows one after another, from the start or from a recorded state.

    planner = Planner(index, mixture, stage, seed=0)
    rows = planner.take(200)          the next 200 rows, fewer where the stage stops
    state = planner.state()           at the start of a segment: lags, tokens, the open shards
    planner.put_back(state)           go on from there: the same rows follow

The next document is of a kind that is not ahead of the integral of its share, and of these the one that the schedule
finishes first: no kind is ever ahead by more than its own longest document, nor behind by more than the longest of all.
In the order of rows the same holds at the end of every segment: no row is open there, so that the rows so far hold
exactly the documents chosen so far.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arm.errors import UserError
from arm.model.documents import KINDS
from arm.training.config import MixtureConfig
from arm.training.plan import kernel
from arm.training.plan.rows import COLUMNS, Rows
from arm.training.plan.shares import UNIT, parts_of_kinds, renormalised, tick_edges, tick_shares
from arm.training.plan.streams import LARGEST_BLOCK, Documents, Index, Stream

Integers = npt.NDArray[np.int64]
SEGMENT_STEPS = 1_000
CALL_DOCUMENTS = 1 << 18
"""Documents planned in one call of the compiled loop."""
State = dict[str, Any]
"""All that a planner needs to go on at the start of a segment, as plain JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageShape:
    """How large a stage is."""

    steps: int
    rows_per_step: int
    sequence_length: int
    segment_steps: int = SEGMENT_STEPS
    """After so many steps all open rows are closed: the window at whose boundaries shares are exact in the order of rows."""

    @property
    def num_rows(self) -> int:
        return self.steps * self.rows_per_step

    @property
    def segment_rows(self) -> int:
        return self.segment_steps * self.rows_per_step

    @property
    def num_tokens(self) -> int:
        """Places of the stage; its schedules are spread over them."""
        return self.num_rows * self.sequence_length


class Planner:
    """Makes the rows of a stage."""

    def __init__(self, index: Index, mixture: MixtureConfig, stage: StageShape, *, seed: int) -> None:
        if stage.sequence_length >= kernel.MAX_SEQUENCE_LENGTH:
            raise UserError(
                f"sequence_length is {stage.sequence_length}; the planner packs rows below {kernel.MAX_SEQUENCE_LENGTH}."
            )
        self._stage, self._max_open = stage, mixture.window_rows
        tokens_of_step = stage.rows_per_step * stage.sequence_length
        parts = list(parts_of_kinds(mixture).values())
        self._declared = self._shares = tick_shares(parts, mixture, step=tokens_of_step, total=stage.num_tokens)
        self._edges = tick_edges(stage.num_tokens, len(self._shares))
        self._active = self._shares.max(axis=0) > 0
        capacity = stage.sequence_length
        self._streams = [Stream(index, kind, mixture, seed=seed, capacity=capacity) for kind in KINDS]
        self._blocks: list[Documents | None] = [None] * len(KINDS)
        self._lengths = np.zeros((len(KINDS), LARGEST_BLOCK), np.int32)
        self._places, self._ends, self._lags = (np.zeros(len(KINDS), np.int64) for _ in range(3))
        self._open_keys, self._open_rows = np.zeros(self._max_open, np.int64), np.zeros(self._max_open, np.int64)
        self._clock = np.zeros(6, np.int64)
        self._waiting = _no_columns()
        """Documents of rows not given out yet, with the number of the row that each lies in."""
        self._closed: list[int] = []
        """Rows that are closed and not given out yet."""
        self._selected, self._stopped = 0, False
        self._kinds_out, self._places_out = np.empty(CALL_DOCUMENTS, np.int8), np.empty(CALL_DOCUMENTS, np.int32)
        self._rows_out = np.empty(CALL_DOCUMENTS, np.int64)

    @property
    def lags(self) -> dict[str, float]:
        """Tokens that each kind lags behind its schedule."""
        return {kind: lag / UNIT for kind, lag in zip(KINDS, self._lags.tolist(), strict=True)}

    @property
    def tokens(self) -> int:
        """Tokens of all documents chosen so far."""
        return int(self._clock[kernel.TOKENS])

    @property
    def stopped(self) -> bool:
        """Whether a kind has ended that stops the stage, and all its rows were given out."""
        return self._stopped and not self._closed

    @property
    def too_long(self) -> dict[str, int]:
        """Documents of each kind that were left out, being longer than a row."""
        return {stream.kind: stream.too_long for stream in self._streams if stream.too_long}

    def take(self, num_rows: int) -> Rows:
        """The next rows, in the order in which they closed; fewer once the stage has stopped."""
        planned = [self._waiting]
        while len(self._closed) < num_rows and not self._stopped:
            planned.append(self._advance(num_rows - len(self._closed)))
        columns = {name: np.concatenate([piece[name] for piece in planned]) for name in self._waiting}
        given, self._closed = self._closed[:num_rows], self._closed[num_rows:]
        order, starts = kernel.arrange(columns["in_row"], np.asarray(given, np.int64))
        left = np.ones(len(columns["in_row"]), np.bool_)
        left[order] = False
        self._waiting = {name: values[left] for name, values in columns.items()}
        return Rows(**{name: columns[name][order] for name in (*COLUMNS, "selected")}, starts=starts)

    def state(self) -> State:
        """The state at the start of a segment: no document waits."""
        assert not len(self._waiting["in_row"]), "a state is taken between two segments"
        return {
            "lags": self._lags.tolist(),
            "clock": self._clock.tolist(),
            "selected": self._selected,
            "stopped": self._stopped,
            "active": self._active.tolist(),
            "streams": [
                {"before": stream.before, "at_hand": block is not None, "place": place}
                for stream, block, place in zip(self._streams, self._blocks, self._places.tolist(), strict=True)
            ],
        }

    def put_back(self, state: State) -> None:
        """Go on from a state."""
        self._lags[:], self._clock[:], self._active[:] = state["lags"], state["clock"], state["active"]
        self._selected, self._stopped = state["selected"], state["stopped"]
        self._waiting, self._closed = _no_columns(), []
        for kind, values in enumerate(state["streams"]):
            self._streams[kind].put_back(values["before"])
            self._blocks[kind] = None
            self._places[kind] = self._ends[kind] = 0
            if values["at_hand"]:
                self._refill(kind)
                self._places[kind] = values["place"]
        self._renormalise()

    def _advance(self, want: int) -> dict[str, npt.NDArray[Any]]:
        """One call of the compiled loop: the columns of what it chose."""
        closed = np.empty(want + self._max_open, np.int64)
        why, num_documents, num_closed = kernel.advance(
            UNIT, self._shares, self._edges, self._lags, self._lengths, self._places, self._ends, self._active,
            self._open_keys, self._open_rows, self._clock, self._stage.sequence_length, self._max_open,
            self._stage.segment_rows, want, self._kinds_out, self._places_out, self._rows_out, closed,
        )  # fmt: skip
        self._closed += closed[:num_closed].tolist()
        columns = self._columns(num_documents)
        if why == kernel.RUN_DRY:
            self._run_dry(int(self._clock[kernel.CHOSEN]))
        return columns

    def _columns(self, num_documents: int) -> dict[str, npt.NDArray[Any]]:
        """What the compiled loop chose, looked up in the blocks at hand."""
        kinds, rows = self._kinds_out[:num_documents].copy(), self._rows_out[:num_documents].copy()
        places = self._places_out[:num_documents]
        columns = {name: np.zeros(num_documents, kind) for name, kind in COLUMNS.items()} | {"kinds": kinds}
        for kind, block in enumerate(self._blocks):
            here = np.flatnonzero(kinds == kind)
            if block is not None and len(here):
                for name in Documents.__dataclass_fields__:
                    columns[name][here] = getattr(block, name)[places[here]]
        columns["selected"] = np.arange(self._selected, self._selected + num_documents)
        self._selected += num_documents
        return columns | {"in_row": rows}

    def _run_dry(self, kind: int) -> None:
        """Bring the next documents of a kind, or do what its end declares."""
        if self._refill(kind):
            return
        if self._streams[kind].limit.at_end == "stop":
            self._closed += kernel.close_all(self._open_keys, self._open_rows, self._clock).tolist()
            self._stopped = True
            return
        self._active[kind] = False
        self._lags[kind] = 0
        self._renormalise()

    def _refill(self, kind: int) -> bool:
        block = self._streams[kind].next_block()
        self._blocks[kind] = block
        self._places[kind], self._ends[kind] = 0, 0 if block is None else len(block.lengths)
        if block is not None:
            self._lengths[kind, : len(block.lengths)] = block.lengths
        return block is not None

    def _renormalise(self) -> None:
        """Give the shares of ended kinds to the others, from now on."""
        ended, now = (self._declared.max(axis=0) > 0) & ~self._active, int(self._clock[kernel.TICK])
        self._shares = renormalised(self._declared, self._active, from_tick=now) if ended.any() else self._declared


def _no_columns() -> dict[str, npt.NDArray[Any]]:
    kinds = {**COLUMNS, "selected": "<i8", "in_row": "<i8"}
    return {name: np.zeros(0, kind) for name, kind in kinds.items()}
