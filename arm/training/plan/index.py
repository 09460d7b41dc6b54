"""The documents that token shards hold, for the planner: which samples, with what choices, how long.

The sidecar of a shard is read when a stream opens it, the shard itself never. Held-out samples, images outside the wanted
grids, and samples that another resolution variant gives in this epoch are left out.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from arm.errors import UserError
from arm.model.documents import TASKS_OF_KIND, document_lengths
from arm.model.token_shards import ShardLengths
from arm.training.config import MixtureConfig
from arm.training.plan.choices import draw_drops, draw_strides, draw_variants, reads_resolution
from arm.training.plan.rows import MAX_VARIANTS, Choice, Found, packed_choices

_NOTHING = Found(*(np.zeros(0, np.int32) for _ in range(3)))


class ShardIndex:
    """An `Index` over the lengths of token shards, read or read on demand.

    `tasks`: of each variant, the tasks that it was made of (none, or no word of it: all); a task that one variant alone has
    is read there in every epoch. `longest_side`: the longest grid side that has a shape token; a longer one is refused here,
    not by the step that meets it.
    """

    def __init__(
        self, shards: Sequence[ShardLengths], names: Sequence[str], mixture: MixtureConfig, *, seed: int,
        tasks: Mapping[str, Collection[str]] | None = None, longest_side: int | None = None,
    ) -> None:  # fmt: skip
        self._shards, self._names, self._mixture, self._seed = shards, names, mixture, seed
        self._made_of, self._longest_side = tasks or {}, longest_side
        self._variants = list(dict.fromkeys(name.partition("/")[0] for name in names))
        self._variant_of_task: dict[str, str] = {}
        self._tasks: dict[int, frozenset[str]] = {}
        """Shard -> its tasks, once its lengths were read: for other kinds they are not read again."""
        if mixture.variant_weights and len(mixture.variant_weights) != len(self._variants):
            raise UserError(
                f"MixtureConfig.variant_weights has {len(mixture.variant_weights)} weights for the variants "
                f"{', '.join(self._variants)}; give one each."
            )

    @property
    def num_shards(self) -> int:
        return len(self._names)

    @property
    def identity(self) -> str:
        return hashlib.sha256("\n".join(self._names).encode()).hexdigest()

    def name(self, shard: int) -> str:
        """`variant/unit`."""
        return self._names[shard]

    def find(self, kind: str, shard: int, epoch: int) -> Found:
        """The documents of a kind in a shard, with what this epoch draws for them."""
        if shard not in self._tasks:
            self._tasks[shard] = frozenset(self._shards[shard].task_names)
            self._check_tasks(shard)
        if self._tasks[shard].isdisjoint(TASKS_OF_KIND[kind]):
            return _NOTHING
        opened = self._shards[shard]
        wanted = wanted_rows(opened, kind, self._mixture, held_out=False)
        self._check_sides(opened, wanted)
        rows = wanted[self._are_read_here(opened, wanted, kind, shard, epoch)]
        draws = {"mixture": self._mixture, "seed": self._seed, "epoch": epoch}
        keys = opened.uid_keys[rows]
        choice = Choice(
            draw_drops(keys, kind, **draws),  # type: ignore[arg-type]
            draw_variants(keys, _num_variants(opened, rows), kind, **draws),  # type: ignore[arg-type]
            draw_strides(keys, kind, **draws),  # type: ignore[arg-type]
        )
        lengths = document_lengths(opened, rows, kind, choice.drop, variants=choice.variant, strides=choice.stride)
        return Found(rows, packed_choices(choice).astype(np.int32), lengths.astype(np.int32))

    def _are_read_here(
        self, opened: ShardLengths, rows: npt.NDArray[np.int32], kind: str, shard: int, epoch: int
    ) -> npt.NDArray[np.bool_]:
        """Of samples that lie in several variants: those that this epoch reads in this one."""
        read = np.ones(len(rows), np.bool_)
        if not self._mixture.variant_weights:
            return read
        for number, task in enumerate(opened.task_names):
            holders, weights = self._holders(task)
            if len(holders) > 1:
                here, own = opened.task_numbers[rows] == number, holders.index(self._variant_of(shard))
                keys = opened.uid_keys[rows[here]]
                read[here] = reads_resolution(keys, kind, weights, own, seed=self._seed, epoch=epoch)
        return read

    def _holders(self, task: str) -> tuple[list[str], list[float]]:
        """The variants that hold a task, and their weights."""
        pairs = zip(self._variants, self._mixture.variant_weights, strict=True)
        found = {name: weight for name, weight in pairs if task in (self._made_of.get(name) or (task,))}
        if len(found) > 1 and not sum(found.values()):
            raise UserError(
                f"MixtureConfig.variant_weights are 0 for {' and '.join(found)}, which alone hold the task {task}: "
                "give one of them a weight."
            )
        return list(found), list(found.values())

    def _variant_of(self, shard: int) -> str:
        return self._names[shard].partition("/")[0]

    def _check_sides(self, opened: ShardLengths, rows: npt.NDArray[np.int32]) -> None:
        """Refuse images whose sides have no shape token."""
        longest = max(
            opened.heights.max(initial=0), opened.widths.max(initial=0)
        )  # 6 ms less a shard than to ask each row
        if self._longest_side is None or longest <= self._longest_side:
            return
        beyond = rows[~_sides_lie_in(opened, 0, self._longest_side)[rows]]
        if len(beyond):
            parts = slice(opened.starts[beyond[0]], opened.starts[beyond[0] + 1])
            raise UserError(
                f"{opened.name} has an image of {opened.heights[parts].max()} × {opened.widths[parts].max()} codes, and "
                f"num_shapes is {self._longest_side}: raise it from the first stage on, or leave such images out with "
                "MixtureConfig.grid_sides."
            )

    def _check_tasks(self, shard: int) -> None:
        """Refuse a task in two variants, unless their weights are declared."""
        variant = self._variant_of(shard)
        for task in sorted(self._tasks[shard]):
            before = self._variant_of_task.setdefault(task, variant)
            if before != variant and not self._mixture.variant_weights:
                raise UserError(
                    f"The variants {before} and {variant} both hold the task {task}; choose one, or declare "
                    "MixtureConfig.variant_weights."
                )


def wanted_rows(shard: ShardLengths, kind: str, mixture: MixtureConfig, *, held_out: bool) -> npt.NDArray[np.int32]:
    """The rows of a shard that give documents of a kind: of the held-out samples, or of all others."""
    tasks = [number for number, name in enumerate(shard.task_names) if name in TASKS_OF_KIND[kind]]
    wanted = (
        np.isin(shard.task_numbers, tasks) & (shard.held_out == held_out) & _sides_lie_in(shard, *mixture.grid_sides)
    )
    return np.flatnonzero(wanted).astype(np.int32)


def _sides_lie_in(shard: ShardLengths, shortest: int, longest: int) -> npt.NDArray[np.bool_]:
    """Per row: whether every image's sides lie inside the wanted ones."""
    sides = np.stack([shard.heights, shard.widths])
    outside = ~shard.is_text & ((sides.min(axis=0) < shortest) | (sides.max(axis=0) > longest))
    totals = np.concatenate([[0], np.cumsum(outside)])
    fits: npt.NDArray[np.bool_] = totals[shard.starts[1:]] == totals[shard.starts[:-1]]
    return fits


def _num_variants(shard: ShardLengths, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Per row, the most further texts that a part of it has."""
    counts = np.diff(shard.variant_starts)
    if not counts.any():
        return np.zeros(len(rows), np.int64)
    most = np.zeros(len(shard), np.int64)
    np.maximum.at(most, np.repeat(np.arange(len(shard)), np.diff(shard.starts)), counts)
    return np.minimum(most[rows], MAX_VARIANTS - 1)
