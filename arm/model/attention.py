"""Attention inside documents: causal in each, blind to its neighbours in the packed row.

    tokens     a a a b b c c c c            lengths (3, 2, 4)
    blocks     [a a a ·]  [b b · ·]  [c c c c]       short documents, padded side by side: one batched product
               a long document                       one causal SDPA call for it alone
    on a GPU   all documents                         one call of a kernel that takes their lengths (`kernels`)

With a sequence group the tokens of the row are split among its ranks, and heads are for the time of the attention.
Registered with transformers as the attention interface `documents`; the layout goes through the model's forward as the
keyword `documents`. Exact: packed logits equal those of each document alone (tests/model/test_attention.py).

Shapes: N tokens, H heads, K key-value heads, E head width, D documents of a block, L its longest document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from arm.model.kernels import Kernel, Packed, attend_packed, kernel_for, pack
from arm.model.sequence import SequenceGroup, heads_to_tokens, tokens_to_heads

NAME = "documents"
LONGEST_IN_BLOCK = 256
"""Longer documents get an SDPA call of their own: below this its bf16 backward on CPU is the slower one (ours)."""
SHAPE_STEP = 8
"""Blocks are padded to multiples of this: on CPU every new shape costs a new oneDNN kernel, in time and in memory."""
BLOCK_WASTE = 1.6
"""A block ends where its longest document would be more than this times its shortest (ours)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Short documents of similar length, side by side. `slots_DL` holds token indices, N where there is no token."""

    slots_DL: Tensor
    mask_DLL: Tensor
    """Added to the scores: 0 on and below the diagonal, −inf above."""


@dataclass(frozen=True, slots=True)
class Documents:
    """How the documents of a packed row are attended to: built once a batch, used by every layer."""

    num_tokens: int
    blocks: tuple[Block, ...]
    long_spans: tuple[tuple[int, int], ...]
    home_N: Tensor
    """Where each token's output lies in the outputs of all blocks, then of all long documents, one after another."""
    packed: Packed | None = None
    """Bounds for a kernel that takes all documents at once; then there are no blocks."""
    group: SequenceGroup | None = None

    @classmethod
    def of(
        cls,
        lengths: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        *,
        kernel: Kernel | None = None,
        group: SequenceGroup | None = None,
    ) -> "Documents":
        """Lay out documents of these lengths, in order of their tokens, for a model of that dtype and device."""
        kernel = kernel or kernel_for(device, dtype)
        if kernel == "blocks":
            return cls._in_blocks(lengths, dtype, device, group)
        packed, nowhere = pack(lengths, kernel, device), torch.empty(0, dtype=torch.long)
        return cls(num_tokens=sum(lengths), blocks=(), long_spans=(), home_N=nowhere, packed=packed, group=group)

    @classmethod
    def _in_blocks(
        cls, lengths: Sequence[int], dtype: torch.dtype, device: torch.device | None, group: SequenceGroup | None
    ) -> "Documents":
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        order = sorted((length, start) for length, start in zip(lengths, starts, strict=False))
        short = [item for item in order if item[0] <= LONGEST_IN_BLOCK]
        blocks = tuple(_block(group, starts[-1], dtype) for group in _groups(short))
        spans = tuple((start, start + length) for length, start in order if length > LONGEST_IN_BLOCK)
        slots = [block.slots_DL.reshape(-1) for block in blocks] + [torch.arange(a, b) for a, b in spans]
        flat = torch.cat(slots) if slots else torch.empty(0, dtype=torch.long)
        home = torch.empty(starts[-1] + 1, dtype=torch.long)
        home[flat] = torch.arange(len(flat))  # empty slots all write the one entry past the end
        moved = tuple(Block(block.slots_DL.to(device), block.mask_DLL.to(device)) for block in blocks)
        return cls(num_tokens=starts[-1], blocks=moved, long_spans=spans, home_N=home[:-1].to(device), group=group)


def attend(
    module: torch.nn.Module,
    query_1HNE: Tensor,
    key_1KNE: Tensor,
    value_1KNE: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    documents: Documents | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attend inside each document of one packed row; returns (1, N, H, E)."""
    if documents is None:
        raise ValueError("the attention 'documents' needs the keyword documents=Documents.of(lengths)")
    scale = scaling if scaling is not None else query_1HNE.shape[-1] ** -0.5
    if documents.group is None:
        return _attend_documents(query_1HNE, key_1KNE, value_1KNE, documents, scale), None
    group = documents.group
    query, key, value = (tokens_to_heads(x, group) for x in (query_1HNE, key_1KNE, value_1KNE))
    return heads_to_tokens(_attend_documents(query, key, value, documents, scale), group), None


def _attend_documents(
    query_1HNE: Tensor, key_1KNE: Tensor, value_1KNE: Tensor, documents: Documents, scale: float
) -> Tensor:
    if documents.packed is not None:
        return attend_packed(query_1HNE, key_1KNE, value_1KNE, documents.packed, scale)
    groups = query_1HNE.shape[1] // key_1KNE.shape[1]
    query, key, value = (
        _token_major(x, g) for x, g in ((query_1HNE * scale, 1), (key_1KNE, groups), (value_1KNE, groups))
    )
    outputs = [_attend_block(query, key, value, block) for block in documents.blocks]
    outputs += [_attend_long(query, key, value, span) for span in documents.long_spans]
    joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    return _rows(joined, documents.home_N).unsqueeze(0)


def _token_major(x_1KNE: Tensor, groups: int) -> Tensor:
    """(1, K, N, E) -> (N, H, E): key-value heads repeated for their query heads."""
    x_NKE = x_1KNE[0].transpose(0, 1)
    return x_NKE.repeat_interleave(groups, dim=1) if groups > 1 else x_NKE


def _attend_block(query_NHE: Tensor, key_NHE: Tensor, value_NHE: Tensor, block: Block) -> Tensor:
    num_documents, longest = block.slots_DL.shape
    heads, width = query_NHE.shape[1:]

    def pad(x_NHE: Tensor) -> Tensor:
        flat = _rows(x_NHE, block.slots_DL.reshape(-1))
        return flat.view(num_documents, longest, heads, width).transpose(1, 2)

    q_DHLE, k_DHLE, v_DHLE = pad(query_NHE), pad(key_NHE), pad(value_NHE)
    scores_DHLL = torch.matmul(q_DHLE, k_DHLE.transpose(2, 3)) + block.mask_DLL
    weights_DHLL = functional.softmax(scores_DHLL, dim=-1)
    out_DHLE = torch.matmul(weights_DHLL, v_DHLE)
    return out_DHLE.transpose(1, 2).reshape(num_documents * longest, heads, width)


def _attend_long(query_NHE: Tensor, key_NHE: Tensor, value_NHE: Tensor, span: tuple[int, int]) -> Tensor:
    q, k, v = (x[span[0] : span[1]].transpose(0, 1).unsqueeze(0) for x in (query_NHE, key_NHE, value_NHE))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)[0].transpose(0, 1)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    rows: Tensor = _Gather.apply(x, index)  # type: ignore[no-untyped-call]
    return rows


class _Gather(torch.autograd.Function):
    """Rows by index, zero where the index is past the end. Every row is wanted at most once, so the gradient is a
    plain scatter, not the slow accumulating one of `index_select`."""

    @staticmethod
    def forward(context: Any, x: Tensor, index: Tensor) -> Tensor:
        context.save_for_backward(index)
        context.rows = x.shape[0]
        return torch.cat([x, x.new_zeros(1, *x.shape[1:])]).index_select(0, index)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = context.saved_tensors
        result = gradients[0].new_zeros(context.rows + 1, *gradients[0].shape[1:])
        result[index] = gradients[0]
        return result[:-1], None


def _groups(short: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Split documents sorted by length into blocks of similar length."""
    groups: list[list[tuple[int, int]]] = []
    for length, start in short:
        if groups and length <= max(groups[-1][0][0], 8) * BLOCK_WASTE:
            groups[-1].append((length, start))
        else:
            groups.append([(length, start)])
    return groups


def _block(group: list[tuple[int, int]], num_tokens: int, dtype: torch.dtype) -> Block:
    longest = -(-group[-1][0] // SHAPE_STEP) * SHAPE_STEP
    group = group + [(0, 0)] * (-len(group) % SHAPE_STEP)
    lengths = torch.tensor([length for length, _ in group])[:, None]
    starts = torch.tensor([start for _, start in group])[:, None]
    offsets = torch.arange(longest)[None]
    slots = torch.where(offsets < lengths, starts + offsets, num_tokens)
    mask = torch.full((longest, longest), float("-inf"), dtype=dtype).triu(1)
    return Block(slots, mask)


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
