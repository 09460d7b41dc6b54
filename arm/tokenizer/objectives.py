"""The four losses on z_q (Eq. 1 to 4). Each is a function of tensors, or a small module where it has weights.

caption   cross-entropy of a frozen causal language model that reads z_q through an adapter (Eq. 1)
pixel     rectified flow in pixels (Eq. 2): `arm.tokenizer.pixel_dit`
sigmoid   SigLIP's loss between pooled z_q and frozen text embeddings (Eq. 3)
feature   cosine distance to the encoder's own features
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_SCALE, INITIAL_BIAS = math.log(10.0), -10.0
"""SigLIP's (arXiv 2303.15343, section 3.1); the paper gives none."""


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
        """Mean cross-entropy of the caption's tokens (B, T), of which `lengths_B` count, after N soft tokens."""
        soft = self.adapter(features_BNC)
        words = self.language_model.get_input_embeddings()(ids_BT)
        hidden = self.language_model.model(inputs_embeds=torch.cat([soft, words.to(soft)], dim=1)).last_hidden_state
        predicting = hidden[:, soft.shape[1] - 1 : -1]
        real_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]
        logits = self.language_model.lm_head(predicting[real_BT])
        return F.cross_entropy(logits.float(), ids_BT[real_BT])


class SigmoidObjective(nn.Module):
    """SigLIP's pairwise loss with its own scale and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(INITIAL_SCALE))
        self.bias = nn.Parameter(torch.tensor(INITIAL_BIAS))

    def forward(self, images_BC: Tensor, texts_BC: Tensor, same_BB: Tensor) -> Tensor:
        """Vectors of images and texts in any length; `same_BB[i, j]`: text j is also image i's caption."""
        return sigmoid_loss(images_BC, texts_BC, same_BB, self.scale, self.bias)


def sigmoid_loss(images_BC: Tensor, texts_BC: Tensor, same_BB: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """- sum over pairs of log sigmoid(y (e^scale cos + bias)) / B, y = +1 for a pair that belongs together, else -1."""
    cosine = F.normalize(images_BC.float(), dim=-1) @ F.normalize(texts_BC.float(), dim=-1).T
    sign = same_BB.float() * 2 - 1
    return -F.logsigmoid(sign * (cosine * scale.exp() + bias)).sum() / len(images_BC)


def feature_loss(features_BNC: Tensor, target_BNC: Tensor) -> Tensor:
    """Mean over tokens of 1 - cosine."""
    return (1 - F.cosine_similarity(features_BNC.float(), target_BNC.float(), dim=-1)).mean()


def commitment_loss(bounded_BND: Tensor, values_BND: Tensor) -> Tensor:
    """Mean squared distance from bounded values to their codes: pulls values off the edge between two codes."""
    return (bounded_BND - values_BND.detach()).square().mean()


class Weighting(nn.Module):
    """Sums losses by weight; with `running`, each is first divided by its running mean, so that weights compare."""

    def __init__(self, weights: dict[str, float], normalisation: str, momentum: float = 0.99) -> None:
        super().__init__()
        self.weights, self.normalisation, self.momentum = weights, normalisation, momentum
        for name in weights:
            self.register_buffer(f"mean_{name}", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses given (scalars)."""
        self.get_buffer("steps").add_(1)
        return torch.stack([self.weights[name] * self._scaled(name, loss) for name, loss in losses.items()]).sum()

    def _scaled(self, name: str, loss: Tensor) -> Tensor:
        if self.normalisation == "none":
            return loss
        mean, steps = self.get_buffer(f"mean_{name}"), self.get_buffer("steps")
        mean.lerp_(loss.detach().float(), 1 - self.momentum)
        return loss / (mean / (1 - self.momentum**steps)).clamp(min=1e-6)
