"""A run's state as fragments of named parameters: the same at any number of ranks, ZeRO stage and engine.

    lm_head.weight       0 ──────────────────────────── 999     its numbers in flat order
    saved by 2 ranks     [0, 700)            [700, 1000)        float32 master, and each moment of the optimiser
    wanted by 3 ranks    [0, 334)   [334, 668)  [668, 1000)     copied from whatever fragments overlap

A part is what one rank saves. Reading takes the parts of all ranks of the saved run, touches only what this rank holds
(parts may be memory-mapped), and proves the result: a digest over (name, place, bits) of every number, summed over the
ranks, does not depend on how the numbers were cut.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from arm.errors import UserError

HASHED_AT_ONCE = 2**19
"""Numbers whose 64-bit hashes exist at once: what a cache holds."""
AVERAGE = "average"
"""The moment's name of the moving average of the weights."""
STEP = "step"
"""The one value of an optimiser's state that is no number per weight."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Numbers [start, start + numel) of a parameter, at `offset` of a master."""

    name: str
    shape: tuple[int, ...]
    start: int
    offset: int
    numel: int


@dataclass(slots=True)
class Master:
    """Float32 weights that the optimiser updates, and which parameters they are. `average` is kept where asked for."""

    weights: Tensor
    pieces: tuple[Piece, ...]
    average: Tensor | None = None

    def tensors(self, state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The moments of these weights, flat, by name."""
        found = {name: value for name, value in state.items() if name != STEP}
        found |= {AVERAGE: self.average} if self.average is not None else {}
        return {name: value.detach().view(-1) for name, value in sorted(found.items())}


def owned(masters: Sequence[Master], rank: int, num_ranks: int) -> list[Master]:
    """Of masters that every rank holds, this rank's equal share of each piece: ranks share the writing."""
    return [replace(master, pieces=tuple(_shares(master.pieces, rank, num_ranks))) for master in masters]


def _shares(pieces: Sequence[Piece], rank: int, num_ranks: int) -> Iterator[Piece]:
    for piece in pieces:
        first, last = (piece.numel * r // num_ranks for r in (rank, rank + 1))
        if last > first:
            yield replace(piece, start=piece.start + first, offset=piece.offset + first, numel=last - first)


def fragments_of(masters: Sequence[Master], optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Plain copies of every piece: name, shape, start, weights, moments by name, step."""
    found = []
    for master in masters:
        state = optimizer.state[master.weights]
        tensors = {"weights": master.weights.detach().view(-1), **master.tensors(state)}
        for piece in master.pieces:
            cut = slice(piece.offset, piece.offset + piece.numel)
            copies = {name: value[cut].clone() for name, value in tensors.items()}
            weights = copies.pop("weights")
            step = state.get(STEP)
            found.append(
                {
                    "name": piece.name,
                    "shape": list(piece.shape),
                    "start": piece.start,
                    "weights": weights,
                    "moments": copies,
                    STEP: step.detach().cpu().clone() if isinstance(step, Tensor) else step,
                }
            )
    return found


def restore(masters: Sequence[Master], optimizer: torch.optim.Optimizer, parts: Sequence[Mapping[str, Any]]) -> None:
    """Fill masters, moments and averages from the fragments of all parts; what is missing is a UserError."""
    saved: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        for fragment in part["fragments"]:
            saved.setdefault(fragment["name"], []).append(fragment)
    for master in masters:
        sources = [(piece, _overlapping(piece, saved.get(piece.name, []))) for piece in master.pieces]
        _restore_one(master, optimizer, sources)


def _overlapping(piece: Piece, fragments: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The fragments that hold a piece, which they must cover once."""
    if not fragments:
        raise UserError(f"The checkpoint has no parameter {piece.name}: it is of another model.")
    if fragments[0]["shape"] != list(piece.shape):
        raise UserError(
            f"{piece.name} is {fragments[0]['shape']} in the checkpoint and {list(piece.shape)} here: another model."
        )
    end = piece.start + piece.numel
    found = [one for one in fragments if one["start"] < end and one["start"] + len(one["weights"]) > piece.start]
    covered = sum(min(end, one["start"] + len(one["weights"])) - max(piece.start, one["start"]) for one in found)
    if covered != piece.numel:
        raise UserError(
            f"The checkpoint holds {covered} of {piece.numel} numbers of {piece.name}; give the parts of all its ranks."
        )
    return found


def _restore_one(
    master: Master, optimizer: torch.optim.Optimizer, sources: Sequence[tuple[Piece, list[Mapping[str, Any]]]]
) -> None:
    fragments = [one for _, found in sources for one in found]
    if not fragments:  # a partition of padding alone
        return
    names, step = set(fragments[0]["moments"]), fragments[0][STEP]
    if any(set(one["moments"]) != names or one[STEP] != step for one in fragments):
        raise UserError("The checkpoint's fragments disagree about steps or moments: its parts are of several runs.")
    if (AVERAGE in names) != (master.average is not None):
        raise UserError("The checkpoint and this run differ in ema_decay: one keeps an average of the weights.")
    _fill(master.weights, sources, "weights")
    state: dict[str, Any] = {}
    for name in sorted(names):
        target = master.average if name == AVERAGE else torch.zeros_like(master.weights)
        assert target is not None
        _fill(target, sources, name)
        state |= {name: target} if name != AVERAGE else {}
    if step is not None:
        kept = optimizer.state[master.weights].get(STEP)
        device = kept.device if isinstance(kept, Tensor) else master.weights.device
        state[STEP] = step.to(device, copy=True) if isinstance(step, Tensor) else step
    optimizer.state[master.weights] = state


def _fill(target: Tensor, sources: Sequence[tuple[Piece, list[Mapping[str, Any]]]], name: str) -> None:
    flat = target.detach().view(-1)
    for piece, fragments in sources:
        for one in fragments:
            values = one["weights"] if name == "weights" else one["moments"][name]
            first = max(piece.start, one["start"])
            last = min(piece.start + piece.numel, one["start"] + len(values))
            place = piece.offset + first - piece.start
            flat[place : place + last - first].copy_(values[first - one["start"] : last - one["start"]])


def digest_of(masters: Sequence[Master], optimizer: torch.optim.Optimizer) -> int:
    """A digest of all weights, moments and steps over all ranks; every rank calls it. Order of cutting has no say."""
    total = torch.zeros((), dtype=torch.int64)
    for master in masters:
        state = optimizer.state[master.weights]
        tensors = {"weights": master.weights.detach().view(-1), **master.tensors(state)}
        step = int(state[STEP]) if STEP in state else 0
        for piece in master.pieces:
            for name, values in tensors.items():
                seed = _seed(f"{piece.name}/{name}/{step}")
                total += _digest(values[piece.offset : piece.offset + piece.numel], piece.start, seed).cpu()
    if dist.is_initialized():
        dist.all_reduce(total)
    return int(total)


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def _digest(values: Tensor, start: int, seed: int) -> Tensor:
    """Sum, modulo 2^64, of a hash of (place, bits) of every number: after splitmix64's finaliser."""
    total = torch.zeros((), dtype=torch.int64, device=values.device)
    for first in range(0, len(values), HASHED_AT_ONCE):
        some = values[first : first + HASHED_AT_ONCE]
        place = torch.arange(start + first, start + first + len(some), device=values.device)
        mixed = place.mul_(-7046029254386353131).add_(seed).bitwise_xor_(some.contiguous().view(torch.int32))
        for factor, shift in ((-4658895280553007687, 30), (-7723592293110705685, 27)):
            mixed.bitwise_xor_(mixed >> shift).mul_(factor)
        total += mixed.bitwise_xor_(mixed >> 31).sum()
    return total
