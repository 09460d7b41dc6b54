"""FSQ's speed, forward alone and with backward: ours against vector-quantize-pytorch in one process.

    python benchmarks/fsq.py [--tokens 65536]

Both quantize the same float32 inputs (tokens, 16) of two levels under the symmetric bound, and give values and indices.
"""

import argparse
from collections.abc import Callable

import torch
from _pairs import compare
from vector_quantize_pytorch import FSQ as Peer

from arm.tokenizer.fsq import FSQ, digits_to_index, values_to_digits

REPEATS = 8
"""Calls of one round."""


def repeated(work: Callable[[], object], tokens: int) -> Callable[[], int]:
    """A round: how many tokens it quantized."""

    def round_of() -> int:
        for _ in range(REPEATS):
            work()
        return REPEATS * tokens

    return round_of


def measure(levels: tuple[int, ...], tokens: int) -> None:
    """Print the two ratios of one list of levels."""
    x = torch.randn(1, tokens, len(levels), generator=torch.Generator().manual_seed(0))
    ours, peer = FSQ(levels), Peer(levels=list(levels), preserve_symmetry=True)
    leaf, gradient = x.clone().requires_grad_(), torch.ones_like(x)

    def our_values(inputs: torch.Tensor) -> torch.Tensor:
        values, bounded = ours(inputs)
        digits_to_index(values_to_digits(bounded, levels), levels)
        return values  # type: ignore[no-any-return]

    def backward(values: torch.Tensor) -> None:
        leaf.grad = None
        values.backward(gradient)

    def forward_alone(quantize: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], int]:
        return repeated(torch.no_grad()(lambda: quantize(x)), tokens)

    def both(quantize: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], int]:
        return repeated(lambda: backward(quantize(leaf)), tokens)

    def peer_values(inputs: torch.Tensor) -> torch.Tensor:
        return peer(inputs)[0]  # type: ignore[no-any-return]

    name = f"levels {' '.join(map(str, levels))}, {tokens:,} tokens"
    compare(f"{name}, forward", forward_alone(our_values), {"vector-quantize-pytorch": forward_alone(peer_values)})
    compare(f"{name}, forward + backward", both(our_values), {"vector-quantize-pytorch": both(peer_values)})


def main() -> None:
    """The paper's two levels in sixteen dimensions, and a list of mixed levels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=65_536, help="codes a call")
    tokens = parser.parse_args().tokens
    for levels in ((2,) * 16, (8, 8, 8, 5, 5, 5)):
        measure(levels, tokens)


if __name__ == "__main__":
    main()
