"""How likely a text is, from the logits before each of its tokens."""

import torch

from arm.errors import UserError
from arm.evaluation.models.model import Likelihood


def likelihood(logits_NV: torch.Tensor, wanted_N: torch.Tensor) -> Likelihood:
    """The likelihood of N tokens, each under the logits (V) at its place."""
    if not len(wanted_N):
        raise UserError("A text without tokens has no likelihood; leave empty choices out.")
    logp_NV = torch.log_softmax(logits_NV.float(), dim=-1)
    return Likelihood(
        logprob=float(logp_NV.gather(1, wanted_N[:, None]).sum()),
        num_tokens=len(wanted_N),
        is_greedy=bool((logp_NV.argmax(dim=-1) == wanted_N).all()),
    )
