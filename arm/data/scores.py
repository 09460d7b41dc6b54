"""Scores of an image: from its pixels alone, and by a SigLIP or CLIP checkpoint against its caption.

measure_grey(grey)                     -> Measures(entropy=[4.1], sharpness=[312.0], text_area=[0.0])
Scorer(path, batch)(images, captions)   -> cosines, array (N,), and the image embeddings (N, D), which heads read
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from arm.data.text_area import measure_text_area

TEXT_LENGTH = 64
"""SigLIP's text tower was trained on lower-cased text padded to 64 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What the pixels of B images say, arrays (B,)."""

    entropy: NDArray[np.float64]
    """Of the grey values' histogram, bits (0 to 8): a blank image has 0."""
    sharpness: NDArray[np.float64]
    """Variance of the Laplacian of the grey values (Pech-Pacheco et al., 2000): a blurred image has little."""
    text_area: NDArray[np.float64]
    """Share that looks like lines of text, 0 to 1."""


def measure_grey(grey_BHW: NDArray[np.float32]) -> Measures:
    """Measures of B grey images of one size (B, H, W), levels 0 to 255."""
    whole_BHW = np.rint(grey_BHW)
    return Measures(
        entropy=_entropy(whole_BHW.astype(np.int64)),
        sharpness=_sharpness(whole_BHW),
        text_area=measure_text_area(whole_BHW),
    )


def _entropy(grey_BHW: NDArray[np.int64]) -> NDArray[np.float64]:
    batch, pixels = len(grey_BHW), grey_BHW[0].size
    offsets = 256 * np.arange(batch)[:, None, None]
    counts = np.bincount((grey_BHW + offsets).ravel(), minlength=256 * batch).reshape(batch, 256)
    shares = counts / pixels
    bits: NDArray[np.float64] = -(shares * np.log2(np.maximum(shares, 1e-12))).sum(axis=1)
    return np.maximum(bits, 0.0)


def _sharpness(grey_BHW: NDArray[np.float32]) -> NDArray[np.float64]:
    if min(grey_BHW.shape[1:]) < 3:
        return np.zeros(len(grey_BHW))
    around = grey_BHW[:, :-2, 1:-1] + grey_BHW[:, 2:, 1:-1] + grey_BHW[:, 1:-1, :-2] + grey_BHW[:, 1:-1, 2:]
    laplacian = around - 4 * grey_BHW[:, 1:-1, 1:-1]
    return np.asarray(laplacian.reshape(len(grey_BHW), -1).astype(np.float64).var(axis=1))


class Scorer:
    """SigLIP's or CLIP's image and text embeddings; one thread, so the same numbers on any machine load."""

    def __init__(self, path: Path, batch: int) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        from arm.device import make_deterministic

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        make_deterministic(threads=1)
        self._torch, self._batch = torch, batch
        self._model: Any = AutoModel.from_pretrained(path).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._side = int(self._model.config.vision_config.image_size)
        self._length = min(TEXT_LENGTH, int(self._model.config.text_config.max_position_embeddings))
        self._is_siglip = str(self._model.config.model_type).startswith("siglip")
        self._mean, self._spread = _levels(path)

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], captions: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines of images (H, W, 3) and their captions, array (N,), and the images' embeddings (N, D)."""
        found = [
            self._score(images[start : start + self._batch], captions[start : start + self._batch])
            for start in range(0, len(images), self._batch)
        ]
        return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])

    def _score(
        self, images: Sequence[NDArray[np.uint8]], captions: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        torch = self._torch
        pixels_BHWC = np.stack([self._resized(image) for image in images]).astype(np.float32)
        pixels_BHWC = (pixels_BHWC - self._mean) / self._spread
        tokens = self._tokenizer(
            [caption.lower() if self._is_siglip else caption for caption in captions],
            padding="max_length", truncation=True, max_length=self._length, return_tensors="pt",
        )  # fmt: skip
        read_as = {"input_ids": tokens["input_ids"]}
        if not self._is_siglip:  # SigLIP was trained to read its padding
            read_as["attention_mask"] = tokens["attention_mask"]
        with torch.inference_mode():
            seen = _pooled(
                self._model.get_image_features(pixel_values=torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2))
            )
            read = _pooled(self._model.get_text_features(**read_as))
            cosines = torch.nn.functional.cosine_similarity(seen.float(), read.float())
        return np.asarray(cosines.numpy(), np.float32), np.asarray(seen.float().numpy(), np.float32)

    def _resized(self, pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels_HWC.shape[:2] == (self._side, self._side):
            return pixels_HWC
        picture = PIL.Image.fromarray(pixels_HWC)
        return np.asarray(picture.resize((self._side, self._side), PIL.Image.Resampling.BILINEAR))


def _levels(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread of the grey levels 0 to 255 that the checkpoint was trained with; SigLIP's where it does not say."""
    file = path / "preprocessor_config.json"
    told = json.loads(file.read_text()) if file.exists() else {}
    halves = [0.5, 0.5, 0.5]
    mean, spread = (np.asarray(told.get(name) or halves, np.float32) for name in ("image_mean", "image_std"))
    return 255 * mean, 255 * spread


def _pooled(output: Any) -> Any:
    """The embedding itself, or the output that holds it (transformers 5)."""
    return getattr(output, "pooler_output", output)
