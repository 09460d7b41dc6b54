"""What the learner computes of a model: the log-probability of every drawn code, under the logits contract.

Policy, old policy and reference all go through `CodePolicy`: logits of the rows that the grammar allows (the codes),
divided by the temperature, and never top-k or top-p, whose support moves with every update.

Shapes: B rollouts of one grid, N codes of an image, D width, V codes of the vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from arm.evaluation.imaging import Grid, by_grid
from arm.model.attention import NAME as DOCUMENTS
from arm.model.attention import Documents
from arm.model.generation import Prompt
from arm.model.sampling import log_probs
from arm.model.vocabulary import Vocabulary
from arm.rl.rollout import Rollout

PromptIds = Callable[[Prompt, Grid], list[int]]
"""A prompt's tokens, up to the image to come."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rollouts of one grid as one packed row, with what their loss needs.

    prompt p p p, codes a b c   ->   ids  p p p a b      targets of the last three positions: a b c
    """

    ids_1N: Tensor
    lengths: tuple[int, ...]
    codes_BN: Tensor
    sampled_BN: Tensor
    log_kept_BN: Tensor
    advantages_B: Tensor


def micro_batches(
    rollouts: Sequence[Rollout], advantages: Sequence[float], prompt_ids: PromptIds, first_code: int, size: int
) -> Iterator[MicroBatch]:
    """Pack rollouts, at most `size` of one grid at once; `prompt_ids(prompt, grid)` gives a prompt's tokens."""
    for grid, chosen in by_grid([rollout.codes.shape for rollout in rollouts], size):
        group = [rollouts[index] for index in chosen]
        codes = torch.stack([torch.from_numpy(rollout.codes.reshape(-1)) for rollout in group])
        places = {rollout.place: rollout.prompt for rollout in group}
        starts = {place: torch.tensor(prompt_ids(prompt, grid)) for place, prompt in places.items()}
        rows = [torch.cat([starts[r.place], code[:-1] + first_code]) for r, code in zip(group, codes, strict=True)]
        yield MicroBatch(
            ids_1N=torch.cat(rows)[None],
            lengths=tuple(len(row) for row in rows),
            codes_BN=codes,
            sampled_BN=torch.stack([torch.from_numpy(rollout.sampled) for rollout in group]),
            log_kept_BN=torch.stack([torch.from_numpy(rollout.log_kept) for rollout in group]),
            advantages_B=torch.tensor([advantages[index] for index in chosen]),
        )


class CodePolicy(nn.Module):
    """A language model as a policy over codes: what the engine wraps, and what the frozen reference is."""

    def __init__(self, model: Any, vocabulary: Vocabulary, *, temperature: float, chunk: int) -> None:
        super().__init__()
        model.set_attn_implementation(DOCUMENTS)
        self.model, self.vocabulary, self.temperature, self.chunk = model, vocabulary, temperature, chunk

    def forward(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Log-probability of each drawn code and entropy of the distribution it was drawn from: (B, N) float32 each."""
        hidden_MD = _hidden(self.model, batch)
        head_VD = self.model.lm_head.weight[self.vocabulary.code_rows]
        targets_M = batch.codes_BN.reshape(-1)
        parts = []
        for first in range(0, len(targets_M), self.chunk):
            some = slice(first, first + self.chunk)
            save_memory = self.chunk < len(targets_M)
            parts.append(_checkpointed(hidden_MD[some], head_VD, targets_M[some], self.temperature, save_memory))
        logp_M, entropy_M = (torch.cat(items) for items in zip(*parts, strict=True))
        return logp_M.view_as(batch.codes_BN), entropy_M.view_as(batch.codes_BN)


def _hidden(model: Any, batch: MicroBatch) -> Tensor:
    """Hidden states that predict the codes, (B·N, D): of each document the last N."""
    device = batch.ids_1N.device
    lengths = torch.tensor(batch.lengths, device=device)
    ends = lengths.cumsum(0)
    num_codes = batch.codes_BN.shape[1]
    positions = torch.arange(sum(batch.lengths), device=device) - torch.repeat_interleave(
        ends - lengths, lengths, output_size=sum(batch.lengths)
    )
    output = model.model(
        input_ids=batch.ids_1N,
        position_ids=positions[None],
        attention_mask={"full_attention": None},
        use_cache=False,
        documents=Documents.of(batch.lengths, model.dtype, device),
    )
    chosen = (ends[:, None] - num_codes + torch.arange(num_codes, device=device)[None]).reshape(-1)
    hidden: Tensor = output.last_hidden_state[0][chosen]
    return hidden


def _checkpointed(
    hidden_MD: Tensor, head_VD: Tensor, targets_M: Tensor, temperature: float, save_memory: bool
) -> tuple[Tensor, Tensor]:
    """One chunk; with several, its logits are thrown away and made again in the backward pass."""
    if save_memory and torch.is_grad_enabled():
        found: tuple[Tensor, Tensor] = checkpoint(
            _log_probs, hidden_MD, head_VD, targets_M, temperature, use_reentrant=False
        )
        return found
    return _log_probs(hidden_MD, head_VD, targets_M, temperature)


def _log_probs(hidden_MD: Tensor, head_VD: Tensor, targets_M: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    log_p_MV = log_probs(hidden_MD @ head_VD.T, temperature)
    with torch.no_grad():
        entropy_M = -(log_p_MV.exp() * log_p_MV).sum(-1)
    return log_p_MV.gather(1, targets_M[:, None])[:, 0], entropy_M
