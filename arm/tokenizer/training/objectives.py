"""The four losses on z_q (Eq. 1 to 4). Each is a function of tensors, or a small module where it has weights.

caption   cross-entropy of a frozen causal language model that reads z_q through an adapter (Eq. 1)
pixel     rectified flow in pixels (Eq. 2): `arm.tokenizer.training.pixel_dit`
sigmoid   SigLIP's loss between pooled z_q and frozen text embeddings (Eq. 3)
feature   cosine distance to the encoder's own features
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

INITIAL_SCALE, INITIAL_BIAS = math.log(10.0), -10.0
"""SigLIP's (arXiv 2303.15343, section 3.1); the paper gives none."""
TEXT_CHUNK = 4096
"""Texts that image rows meet at a time: with 512 rows, logits of 8 MiB. Ours."""


class CaptionObjective(nn.Module):
    """A frozen causal language model behind a trainable adapter (a norm and two linear maps)."""

    def __init__(self, language_model: Any, width: int) -> None:
        super().__init__()
        self.language_model = language_model.eval().requires_grad_(False)
        inner = language_model.config.hidden_size
        self.adapter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, inner))

    def train(self, mode: bool = True) -> "CaptionObjective":
        """The language model stays in evaluation mode."""
        super().train(mode)
        self.language_model.eval()
        return self

    def forward(self, features_BNC: Tensor, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Summed cross-entropy of the captions' tokens (B, T), of which `lengths_B` count, after N soft tokens."""
        soft = self.adapter(features_BNC)
        words = self.language_model.get_input_embeddings()(ids_BT)
        hidden = self.language_model.model(inputs_embeds=torch.cat([soft, words.to(soft)], dim=1)).last_hidden_state
        real_BT = real_tokens(ids_BT, lengths_B)
        logits = self.language_model.lm_head(hidden[:, soft.shape[1] - 1 : -1][real_BT])
        return caption_loss(logits, ids_BT[real_BT])


def caption_loss(logits_TV: Tensor, ids_T: Tensor) -> Tensor:
    """Summed cross-entropy of caption tokens (Eq. 1): - sum over t of log p(w_t | z_q, w_<t)."""
    return F.cross_entropy(logits_TV.float(), ids_T, reduction="sum")


def real_tokens(ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """Which ids are words, not padding (B, T): lengths (1, 2) of T = 2 give ((1, 0), (1, 1))."""
    return torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]


class SigmoidObjective(nn.Module):
    """SigLIP's pairwise loss with its own scale and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([INITIAL_SCALE]))  # of one dimension: DeepSpeed takes no scalars
        self.bias = nn.Parameter(torch.tensor([INITIAL_BIAS]))

    def forward(self, images_MC: Tensor, texts_BC: Tensor, numbers_M: Tensor, numbers_B: Tensor) -> Tensor:
        """`sigmoid_share` with the learned scale and bias."""
        return sigmoid_share(images_MC, texts_BC, numbers_M, numbers_B, self.scale, self.bias)


def sigmoid_loss(images_BC: Tensor, texts_BC: Tensor, same_BB: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """- sum over pairs of log sigmoid(y (e^scale cos + bias)) / B, y = +1 for a pair that belongs together, else -1.

    Eq. 3; SigLIP (arXiv 2303.15343).
    """
    return _pair_losses(images_BC, texts_BC, same_BB, scale, bias) / len(images_BC)


def sigmoid_share(
    images_MC: Tensor, texts_BC: Tensor, numbers_M: Tensor, numbers_B: Tensor, scale: Tensor, bias: Tensor,
    chunk: int = TEXT_CHUNK,
) -> Tensor:  # fmt: skip
    """The share of M image rows in the sigmoid loss of a global batch of B pairs; the shares of all rows add up to it.

    Every text of the batch is a negative unless it has the image's caption: equal `numbers` are the same caption. Texts
    are frozen; they come in chunks, whose M x chunk logits are made again in the backward pass where there are several.
    """
    total = images_MC.new_zeros((), dtype=torch.float32)
    for start in range(0, len(texts_BC), chunk):
        texts = texts_BC[start : start + chunk]
        same = numbers_M[:, None] == numbers_B[start : start + chunk]
        if len(texts_BC) <= chunk:
            return _pair_losses(images_MC, texts, same, scale, bias) / len(texts_BC)
        total = total + checkpoint(_pair_losses, images_MC, texts, same, scale, bias, use_reentrant=False)
    return total / len(texts_BC)


def _pair_losses(images_MC: Tensor, texts_NC: Tensor, same_MN: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    cosine = F.normalize(images_MC.float(), dim=-1) @ F.normalize(texts_NC.float(), dim=-1).T
    sign = same_MN.float() * 2 - 1
    return -F.logsigmoid(sign * (cosine * scale.exp() + bias)).sum()


def feature_loss(features_BNC: Tensor, target_BNC: Tensor) -> Tensor:
    """Mean over tokens of 1 - cosine."""
    return (1 - F.cosine_similarity(features_BNC.float(), target_BNC.float(), dim=-1)).mean()


def commitment_loss(bounded_BND: Tensor, values_BND: Tensor) -> Tensor:
    """Mean squared distance from bounded values to their codes: pulls values off the edge between two codes."""
    return (bounded_BND - values_BND.detach()).square().mean()


class Weighting(nn.Module):
    """Sums losses by weight; with `running`, each is first divided by its running mean, so that weights compare.

    The mean is that of the steps before, over all ranks: `update` takes it in. Before the first step the caller measures
    the losses once and hands them to `update`.
    """

    def __init__(self, weights: dict[str, float], normalisation: str, momentum: float = 0.99) -> None:
        super().__init__()
        self.weights, self.normalisation, self.momentum = weights, normalisation, momentum
        for name in weights:
            self.register_buffer(f"mean_{name}", torch.zeros((), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def needs_measure(self) -> bool:
        """Whether the losses must be measured before the first step."""
        return self.normalisation == "running" and int(self.get_buffer("steps")) == 0

    def update(self, means: Mapping[str, float]) -> None:
        """Take in a step's losses, the same on all ranks; a step that overflowed is left out, as the engine leaves it out."""
        if not all(math.isfinite(means[name]) for name in self.weights):
            return
        self.get_buffer("steps").add_(1)
        for name in self.weights:
            mean = self.get_buffer(f"mean_{name}")
            mean.lerp_(torch.full_like(mean, means[name]), 1 - self.momentum)

    def forward(self, shares: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the losses given (scalars, or shares of them)."""
        return torch.stack([self.weights[name] / self._mean(name) * share for name, share in shares.items()]).sum()

    def _mean(self, name: str) -> float:
        steps = int(self.get_buffer("steps"))
        if self.normalisation == "none" or not steps:
            return 1.0
        return max(float(self.get_buffer(f"mean_{name}")) / (1 - self.momentum**steps), 1e-6)
