"""Metrics of codes, reconstructions and classes: functions of tensors. Images are (B, 3, H, W) in [0, 1]."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from arm.tokenizer.codes import digit_shares, digit_statistics

SSIM_WINDOW = 11
"""Side of the Gaussian window: torchmetrics' default, sigma 1.5 (Wang et al. 2004)."""


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB; infinite where both are equal: (B, …) to (B,)."""
    error = (images.double() - reference.double()).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(error)


def finite_mean(values: Tensor) -> tuple[float, int]:
    """Mean of the finite values, NaN without any, and how many are infinite: (20, inf, 30) gives (25, 1)."""
    finite = values[torch.isfinite(values)]
    return (float(finite.double().mean()) if len(finite) else math.nan), int(torch.isinf(values).sum())


def finite_means(columns: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean of the finite values of each column, left out without any; infinite ones are counted beside it.

    {"psnr": (20, inf, 30), "ssim": (nan,)}  ->  {"psnr": 25, "psnr_infinite": 1}
    """
    found: dict[str, float] = {}
    for name, values in columns.items():
        mean, num_infinite = finite_mean(values)
        if not math.isnan(mean):
            found[name] = mean
        if num_infinite:
            found[f"{name}_infinite"] = float(num_infinite)
    return found


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of each image (torchmetrics, Gaussian window of 11): (B, 3, H, W) to (B,); H, W >= 11."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(
        images.double(), reference.double(), kernel_size=SSIM_WINDOW, data_range=1.0, reduction="none"
    )
    assert isinstance(found, Tensor)
    return found.reshape(len(images))


def histogram_statistics(counts: Tensor, levels: Sequence[int]) -> dict[str, float]:
    """Statistics of ONE histogram over the whole set (num_codes,): a batch of N codes could not pass perplexity N.

    code_usage                share of codes that occur
    perplexity                exp of the entropy; perplexity_per_codebook divides it by the number of codes
    bits_per_dimension        mean entropy of the FSQ digits, and `digits/…` of arm.tokenizer.codes; none without levels

    counts (2, 2, 0, 0), levels (2, 2): usage 0.5, perplexity 2, perplexity / codebook 0.5, bits 0.5
    """
    perplexity = float(2 ** entropy_bits(counts.numpy().astype(float)))
    found = {
        "code_usage": float((counts > 0).double().mean()),
        "perplexity": perplexity,
        "perplexity_per_codebook": perplexity / len(counts),
    }
    if not levels:
        return found
    bits = [entropy_bits(share.numpy()) for share in digit_shares(counts, levels)]
    return found | {"bits_per_dimension": float(np.mean(bits))} | digit_statistics(counts, levels)


def entropy_bits(counts: npt.NDArray[np.float64]) -> float:
    """Entropy of a histogram in bits: (1, 1, 2) has 1.5."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def zero_shot_accuracy(images_NC: Tensor, classes_KC: Tensor, labels: Sequence[int]) -> float:
    """Share of image vectors whose nearest class vector, by cosine, is their label's."""
    nearest = (F.normalize(images_NC.float(), dim=-1) @ F.normalize(classes_KC.float(), dim=-1).T).argmax(-1)
    return float((nearest.cpu() == torch.tensor(labels)).float().mean())


def class_vectors(embed: Callable[[Sequence[str]], Tensor], names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Unit vectors (K, C) of classes: the prompts' embeddings normalised, averaged, normalised (CLIP, arXiv 2103.00020)."""
    prompts = [F.normalize(embed([template.format(name) for name in names]), dim=-1) for template in templates]
    return F.normalize(torch.stack(prompts).mean(0), dim=-1)


def class_of(caption: str, classes: Sequence[str]) -> int | None:
    """The index of the only class that a caption names; None when it names none or several.

    classes cat, dog:  "two cats" -> 0   "a cat and a dog", "a caterpillar" -> None
    """
    text = caption.lower()
    named = [index for index, name in enumerate(classes) if name.lower() in text and _names(text, name.lower())]
    return named[0] if len(named) == 1 else None


def _names(text: str, name: str) -> bool:
    """Whether a name stands in a text for itself or in the plural, not inside another word; both in lower case.

    Only between two letters a to z does a word go on: in scripts without spaces a name stands anywhere.
    """
    return re.search(f"(?<![a-z](?=[a-z])){re.escape(name)}(?:e?s)?(?!(?<=[a-z])[a-z])", text) is not None


def frechet_distance(first_ND: npt.NDArray[np.float64], second_ND: npt.NDArray[np.float64]) -> float:
    """Distance of the Gaussians that fit two sets of features (arXiv 1706.08500): |m1 - m2|² + tr(S1 + S2 - 2 √(S1 S2)).

    The trace of the root is the sum of the singular values of √S1 √S2: no matrix root of a product that is not
    symmetric, hence no imaginary part to drop.
    """
    means = first_ND.mean(0) - second_ND.mean(0)
    roots = [_root(np.atleast_2d(np.cov(features, rowvar=False))) for features in (first_ND, second_ND)]
    traces = sum(float((root**2).sum()) for root in roots)
    return float(means @ means + traces - 2 * np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum())


def _root(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T  # type: ignore[no-any-return]


def logistic_regression(
    train_NC: Tensor, labels: Tensor, test_NC: Tensor, num_classes: int, *, penalty: float
) -> Tensor:
    """Logits (M, K) of test vectors by multinomial logistic regression fitted to train vectors.

    Minimises mean cross-entropy + penalty / 2 · |W|² by L-BFGS in float64 on standardised vectors; the bias is free. The
    problem is convex and starts from 0, so the answer does not depend on a seed.
    """
    train, test = train_NC.double(), test_NC.double()
    mean, spread = train.mean(0), train.std(0).clamp(min=1e-6)
    train, test = (train - mean) / spread, (test - mean) / spread
    weight = torch.zeros(train.shape[1], num_classes, dtype=torch.float64, device=train.device, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, device=train.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-7, tolerance_change=1e-12, history_size=10,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(train @ weight + bias, labels) + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (test @ weight + bias).detach()
