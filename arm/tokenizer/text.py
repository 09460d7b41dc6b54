"""The text side of the objectives: frozen SigLIP text vectors, and caption tokens of the language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from arm.device import rank_device

CACHE_TEXTS = 100_000
BATCH = 16
"""Texts embedded at a time, always this many: a vector must not depend on which texts were new together, or a resumed
run, whose memory is empty, would differ in the last bit."""


class TextTower:
    """The frozen text half of a SigLIP checkpoint. Text is lower-cased and padded to the tower's full length, as
    SigLIP2 was trained; each text is embedded once."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).text_model
        self.model = model.eval().requires_grad_(False).to(rank_device())
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.length = int(self.model.config.max_position_embeddings)
        self._cache: dict[str, Tensor] = {}

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, C) float32."""
        missing = sorted({text for text in texts if text not in self._cache})
        if len(self._cache) + len(missing) > CACHE_TEXTS:
            self._cache.clear()
            missing = sorted(set(texts))
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            filled = part + part[:1] * (BATCH - len(part))
            self._cache.update(zip(part, self._embed(filled), strict=False))
        return torch.stack([self._cache[text] for text in texts])

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        words = [text.lower() for text in texts]
        ids = self.tokenizer(words, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt")
        with torch.autocast(self.model.device.type, enabled=False):
            return F.normalize(
                self.model(input_ids=ids["input_ids"].to(self.model.device)).pooler_output.float(), dim=-1
            )


class CaptionTokens:
    """Captions as ids of the language model, each ended by its end-of-text token."""

    def __init__(self, folder: Path, max_length: int) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.max_length = max_length

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, T), padded behind, and lengths (B,)."""
        end = self.tokenizer.eos_token_id
        rows = [[*row[: self.max_length - 1], end] for row in self.tokenizer(list(captions))["input_ids"]]
        lengths = torch.tensor([len(row) for row in rows])
        padded = [row + [end] * (int(lengths.max()) - len(row)) for row in rows]
        return torch.tensor(padded), lengths
