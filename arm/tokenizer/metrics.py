"""Metrics of codes and reconstructions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from arm.tokenizer.fsq import index_to_digits


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, at most 100, for values in [0, 1]: (B, …) to (B,)."""
    error = (images - reference).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp(min=1e-10))


def code_statistics(codes: Tensor, levels: Sequence[int]) -> dict[str, float]:
    """Usage (share of codes that occur), perplexity, perplexity / codebook, and the mean entropy per dimension in bits.

    codes (0, 0, 1, 1) of 4: usage 0.5, perplexity 2, perplexity / codebook 0.5
    """
    num_codes = int(np.prod(levels))
    counts = torch.bincount(codes.flatten(), minlength=num_codes).double()
    perplexity = float(2 ** entropy_bits(counts.numpy()))
    digits = index_to_digits(codes.flatten(), levels)
    bits = [
        entropy_bits(np.bincount(digits[:, d].numpy(), minlength=size).astype(float)) for d, size in enumerate(levels)
    ]
    return {
        "code_usage": float((counts > 0).double().mean()),
        "perplexity": perplexity,
        "perplexity_per_codebook": perplexity / num_codes,
        "bits_per_dimension": float(np.mean(bits)),
    }


def entropy_bits(counts: npt.NDArray[np.float64]) -> float:
    """Entropy of a histogram in bits: (1, 1, 2) has 1.5."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def zero_shot_accuracy(images_NC: Tensor, classes_KC: Tensor, labels: Sequence[int]) -> float:
    """Share of image vectors whose nearest class vector, by cosine, is their label's."""
    nearest = (F.normalize(images_NC.float(), dim=-1) @ F.normalize(classes_KC.float(), dim=-1).T).argmax(-1)
    return float((nearest.cpu() == torch.tensor(labels)).float().mean())


def class_of(caption: str, classes: Sequence[str]) -> int | None:
    """The index of the only class that a caption names; None when it names none or several."""
    named = [index for index, name in enumerate(classes) if name.lower() in caption.lower()]
    return named[0] if len(named) == 1 else None
