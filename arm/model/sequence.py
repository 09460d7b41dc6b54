"""Ulysses sequence parallelism (DeepSpeed-Ulysses, arXiv 2309.14509): the tokens of a row split among some ranks.

    everywhere       rank 0: tokens 0 to 3, all heads       rank 1: tokens 4 to 7, all heads
    in attention     rank 0: all tokens, heads 0 and 1      rank 1: all tokens, heads 2 and 3

Queries, keys and values go out by one all-to-all each and come back by another, forward and backward; all else in the
model acts token by token. So packed documents attend as ever, and gradients are summed over all ranks as ever.
"""

import functools
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from arm.errors import UserError

TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class SequenceGroup:
    """The ranks that share rows: `size` of them, side by side; this is number `rank` among them."""

    size: int
    rank: int
    handle: Any


@functools.cache
def sequence_group(size: int) -> SequenceGroup | None:
    """This rank's group; None for groups of one. Every rank calls it."""
    if size == 1:
        return None
    world = dist.get_world_size()
    if world % size:
        raise UserError(f"sequence_parallel is {size} on {world} ranks; their number must be a multiple of it.")
    handles = [dist.new_group(list(range(first, first + size)), timeout=TIMEOUT) for first in range(0, world, size)]
    return SequenceGroup(size, dist.get_rank() % size, handles[dist.get_rank() // size])


def check_heads(config: Any, size: int) -> None:
    """Refuse a split that the heads of a model do not allow."""
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % size or key_heads % size:
        possible = [n for n in (1, 2, 4, 8) if heads % n == 0 and key_heads % n == 0]
        raise UserError(
            f"sequence_parallel is {size}, which does not divide the model's {heads} heads and {key_heads} key-value "
            f"heads; give one of {possible}."
        )


def tokens_to_heads(x_1HNE: Tensor, group: SequenceGroup) -> Tensor:
    """(1, H, N / size, E) of this rank's tokens -> (1, H / size, N, E) of all tokens."""
    heads, tokens, width = x_1HNE.shape[1:]
    parts = x_1HNE[0].view(group.size, heads // group.size, tokens, width).transpose(1, 2)
    return _exchanged(parts, group).reshape(1, group.size * tokens, heads // group.size, width).transpose(1, 2)


def heads_to_tokens(x_1NHE: Tensor, group: SequenceGroup) -> Tensor:
    """(1, N, H / size, E) -> (1, N / size, H, E)."""
    tokens, heads, width = x_1NHE.shape[1:]
    parts = x_1NHE[0].view(group.size, tokens // group.size, heads, width)
    received = _exchanged(parts, group)
    return received.transpose(0, 1).reshape(1, tokens // group.size, group.size * heads, width)


def _exchanged(parts: Tensor, group: SequenceGroup) -> Tensor:
    received: Tensor = _AllToAll.apply(parts, group)  # type: ignore[no-untyped-call]
    return received


class _AllToAll(torch.autograd.Function):
    """Part i goes to rank i; part j comes from rank j. The gradient goes the same ways back."""

    @staticmethod
    def forward(context: Any, parts: Tensor, group: SequenceGroup) -> Tensor:
        context.group = group
        return _all_to_all(parts, group)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _all_to_all(gradients[0], context.group), None


def _all_to_all(parts: Tensor, group: SequenceGroup) -> Tensor:
    sent = parts.contiguous()
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group.handle)
    return received
