"""The loss with its table by kind, against torch's cross-entropy; with z-loss, against cross-entropy and logsumexp.

Forward and backward in float32 over 2,048 targets, 4,096 rows, width 256: one chunk of the head of a 17M model.
`python benchmarks/loss.py`
"""

import time

import torch
from _pairs import compare
from torch import Tensor
from torch.nn import functional

from arm.training.loss import target_losses

TARGETS, ROWS, WIDTH, Z_LOSS = 2_048, 4_096, 256, 1e-4


def main() -> None:
    """Print the ratios in targets a second of CPU time."""
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    hidden_MW = torch.randn(TARGETS, WIDTH, generator=random, requires_grad=True)
    weight_VW = (0.05 * torch.randn(ROWS, WIDTH, generator=random)).requires_grad_()
    targets_M = torch.randint(0, ROWS, (TARGETS,), generator=random)

    def learn(loss: Tensor) -> int:
        hidden_MW.grad = weight_VW.grad = None
        loss.backward()
        return TARGETS

    def ours(learn_z: bool, measure: bool) -> int:
        found = target_losses(hidden_MW, weight_VW, targets_M, chunk=8_192, learn_z=learn_z, measure=measure)
        return learn((found.losses_M + (Z_LOSS * found.z_M.square() if learn_z else 0)).sum())

    def torchs(learn_z: bool) -> int:
        logits_MV = functional.linear(hidden_MW, weight_VW)
        loss = functional.cross_entropy(logits_MV, targets_M, reduction="sum")
        return learn(loss + Z_LOSS * torch.logsumexp(logits_MV, dim=-1).square().sum() if learn_z else loss)

    clock = time.process_time
    compare("losses", lambda: ours(False, False), {"cross_entropy": lambda: torchs(False)}, clock=clock)
    compare("with sizes of logits", lambda: ours(False, True), {"cross_entropy": lambda: torchs(False)}, clock=clock)
    compare("with z-loss", lambda: ours(True, False), {"+ logsumexp": lambda: torchs(True)}, clock=clock)


if __name__ == "__main__":
    main()
