"""The documents that token shards hold, for the planner: which samples, with what choices, how long.

The sidecar of a shard is read when a stream opens it, the shard itself never. Held-out samples, images outside the wanted
grids, and samples that another resolution variant gives in this epoch are left out.
"""

import hashlib
from collections.abc import Sequence

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
    """An `Index` over the lengths of token shards, read or read on demand."""

    def __init__(
        self, shards: Sequence[ShardLengths], names: Sequence[str], mixture: MixtureConfig, *, seed: int
    ) -> None:
        self._shards, self._names, self._mixture, self._seed = shards, names, mixture, seed
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
        rows = wanted[self._is_read_here(opened.uid_keys[wanted], kind, shard, epoch)]
        draws = {"mixture": self._mixture, "seed": self._seed, "epoch": epoch}
        keys = opened.uid_keys[rows]
        choice = Choice(
            draw_drops(keys, kind, **draws),  # type: ignore[arg-type]
            draw_variants(keys, _num_variants(opened, rows), kind, **draws),  # type: ignore[arg-type]
            draw_strides(keys, kind, **draws),  # type: ignore[arg-type]
        )
        lengths = document_lengths(opened, rows, kind, choice.drop, variants=choice.variant, strides=choice.stride)
        return Found(rows, packed_choices(choice).astype(np.int32), lengths.astype(np.int32))

    def _is_read_here(self, keys: npt.NDArray[np.uint64], kind: str, shard: int, epoch: int) -> npt.NDArray[np.bool_]:
        """Of samples that lie in several variants: those that this epoch reads in this one."""
        weights = self._mixture.variant_weights
        if not weights:
            return np.ones(len(keys), np.bool_)
        chosen = self._variants.index(self._names[shard].partition("/")[0])
        return reads_resolution(keys, kind, weights, chosen, seed=self._seed, epoch=epoch)

    def _check_tasks(self, shard: int) -> None:
        """Refuse a task in two variants, unless their weights are declared."""
        variant = self._names[shard].partition("/")[0]
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
    wanted = np.isin(shard.task_numbers, tasks) & (shard.held_out == held_out) & _fits_grid(shard, mixture)
    return np.flatnonzero(wanted).astype(np.int32)


def _fits_grid(shard: ShardLengths, mixture: MixtureConfig) -> npt.NDArray[np.bool_]:
    """Per row: whether every image's sides lie inside the wanted ones."""
    shortest, longest = mixture.grid_sides
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
