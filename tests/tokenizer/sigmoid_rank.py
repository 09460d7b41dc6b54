"""One rank of the sigmoid loss over two accumulation steps: `python sigmoid_rank.py FILE`, which rank 0 writes."""

import sys

import torch
import torch.distributed as dist

from arm.tokenizer.training.objectives import sigmoid_share
from arm.tokenizer.training.steps import gather_rows
from arm.training.engine import num_ranks, rank, start_process_group

BATCH, WIDTH, CHUNK = 8, 5, 3
CAPTIONS = torch.tensor([0, 1, 2, 0, 4, 5, 1, 7])
"""Rows 0 and 3 share a caption inside rank 0; rows 1 and 6 across the ranks."""


def make() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, texts, scale and bias."""
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(BATCH, WIDTH, generator=generator) for _ in range(2))
    texts[3], texts[6] = texts[0], texts[1]
    return (
        images.requires_grad_(),
        texts,
        torch.tensor([1.2], requires_grad=True),
        torch.tensor([-2.0]).requires_grad_(),
    )


def main() -> None:
    """This rank's two micro-batches; sums of loss and gradients over the ranks go to the file."""
    start_process_group()
    images, texts, scale, bias = make()
    share = BATCH // num_ranks()
    whole = gather_rows(texts[rank() * share : (rank() + 1) * share])
    total = torch.zeros(())
    for half in range(2):
        rows = slice(rank() * share + half * share // 2, rank() * share + (half + 1) * share // 2)
        loss = sigmoid_share(images[rows], whole, CAPTIONS[rows], CAPTIONS, scale, bias, CHUNK)
        loss.backward()
        total += loss.detach()
    results = {"loss": total, "images": images.grad, "scale": scale.grad, "bias": bias.grad, "texts": whole}
    for name in ("loss", "images", "scale", "bias"):
        dist.all_reduce(results[name])
    if rank() == 0:
        torch.save(results, sys.argv[1])
    dist.barrier()


if __name__ == "__main__":
    main()
