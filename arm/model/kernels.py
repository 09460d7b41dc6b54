"""Attention inside documents on a GPU: flash attention with explicit lengths, or FlexAttention.

    lengths (3, 2, 4)     bounds 0 3 5 9          torch.nn.attention.varlen: half precision, nothing to compile
                          block mask              FlexAttention: any dtype; compiled once for all lengths

The block mask is made from the lengths alone, a comparison of numbers per pair of blocks, never of tokens: a dense mask
of 80K tokens would hold 6.7 billion entries.

Shapes: N tokens, H heads, K key-value heads, E head width, D documents, Q blocks of tokens.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kernel = Literal["blocks", "varlen", "flex"]
BLOCK = 128
"""Tokens of a block of FlexAttention's mask (its default)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Where documents begin and end, as a kernel wants it."""

    bounds_D: Tensor
    """Cumulative lengths, from 0, in int32."""
    longest: int
    mask: Any = None
    """FlexAttention's block mask."""


def kernel_for(device: torch.device | None, dtype: torch.dtype) -> Kernel:
    """What attends to documents there: blocks on a CPU; on a GPU varlen in half precision where torch has it, else flex."""
    if device is None or device.type != "cuda":
        return "blocks"
    try:
        import torch.nn.attention.varlen
    except ImportError:
        return "flex"
    return "varlen" if dtype in (torch.bfloat16, torch.float16) else "flex"


def pack(lengths: Sequence[int], kernel: Kernel, device: torch.device | None) -> Packed:
    """Prepare a batch's documents for a kernel."""
    bounds_D = torch.tensor([0, *lengths]).cumsum(0)
    mask = block_mask(lengths, device) if kernel == "flex" else None
    return Packed(bounds_D.to(device=device, dtype=torch.int32), max(lengths, default=0), mask)


def attend_packed(query_1HNE: Tensor, key_1KNE: Tensor, value_1KNE: Tensor, packed: Packed, scale: float) -> Tensor:
    """Attend inside each document; (1, N, H, E)."""
    grouped = query_1HNE.shape[1] != key_1KNE.shape[1]
    if packed.mask is not None:
        out_1HNE = _flex(query_1HNE.device.type)(
            query_1HNE, key_1KNE, value_1KNE, block_mask=packed.mask, scale=scale, enable_gqa=grouped
        )
        return out_1HNE.transpose(1, 2)  # type: ignore[no-any-return]
    from torch.nn.attention.varlen import varlen_attn

    query_NHE, key_NKE, value_NKE = (x[0].transpose(0, 1) for x in (query_1HNE, key_1KNE, value_1KNE))
    bounds, longest = packed.bounds_D, packed.longest
    out_NHE = varlen_attn(
        query_NHE, key_NKE, value_NKE, bounds, bounds, longest, longest, scale=scale, window_size=(-1, 0),
        enable_gqa=grouped,
    )  # fmt: skip
    assert isinstance(out_NHE, Tensor)
    return out_NHE.unsqueeze(0)


@functools.cache
def _flex(device_type: str) -> Any:
    """FlexAttention, compiled on a GPU (uncompiled it makes all scores); on the CPU its reference."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if device_type == "cuda" else flex_attention


def block_mask(lengths: Sequence[int], device: torch.device | None) -> Any:
    """FlexAttention's mask of causal documents.

    Block i of tokens sees block j when j is at most i and not before the start of the document of i's first token; all
    of it, when j lies before i, both lie in one document, and i is no incomplete last block.
    """
    from torch.nn.attention.flex_attention import BlockMask

    num_tokens = sum(lengths)
    document_N = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths), output_size=num_tokens)
    start_N = (torch.tensor([0, *lengths]).cumsum(0)[:-1])[document_N]
    first_Q = torch.arange(0, num_tokens, BLOCK)
    last_Q = (first_Q + BLOCK).clamp(max=num_tokens) - 1
    block_Q = torch.arange(len(first_Q))
    seen_QQ = (block_Q[None] <= block_Q[:, None]) & (block_Q[None] >= start_N[first_Q][:, None] // BLOCK)
    whole_QQ = (block_Q[None] < block_Q[:, None]) & (document_N[first_Q][None] == document_N[last_Q][:, None])
    whole_QQ &= (last_Q - first_Q + 1 == BLOCK)[:, None]
    number, order = _ordered(seen_QQ & ~whole_QQ, device)
    whole_number, whole_order = _ordered(whole_QQ, device)
    document = document_N.to(device)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (document[query] == document[key])

    return BlockMask.from_kv_blocks(
        number, order, whole_number, whole_order, BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(num_tokens, num_tokens)
    )


def _ordered(chosen_QQ: Tensor, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """How many blocks each block sees, and which, those first: in int32 with dimensions for batch and heads."""
    order = chosen_QQ.int().argsort(dim=1, descending=True, stable=True)
    return chosen_QQ.sum(1)[None, None].int().to(device), order[None, None].int().to(device)
