"""Models made up for tests: codes are grey levels, and what is drawn follows from the seed."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

CALLS: list[str] = []
"""What was asked of the drawer and of the checker, in order."""


class GreyTokenizer:
    """Codes are grey levels over 16, patches of 4 pixels."""

    stride = 4

    def encode(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return (images_BCHW[:, 0, ::4, ::4] * 255 / 16).long()


class GreyDetokenizer:
    def render(self, codes_BHW: torch.Tensor, tokenizer: Any, *, seeds: Sequence[int], **_: Any) -> torch.Tensor:
        assert len(seeds) == len(codes_BHW)
        grey = (codes_BHW.float() * 16 / 255).repeat_interleave(4, 1).repeat_interleave(4, 2)
        return grey[:, None].expand(-1, 3, -1, -1)


class Drawer:
    """Draws a code that depends on the item's seed alone; edits add one; answers 'two'."""

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def generate_images(self, prompts: Any, grid: tuple[int, int], sampling: Any, seeds: Sequence[int]) -> Any:
        CALLS.append("draw")
        codes = [
            (p[0][0, 0] + 1 if len(p) == 2 else seed % 8 + self.shift) for p, seed in zip(prompts, seeds, strict=True)
        ]
        return SimpleNamespace(codes_BHW=torch.tensor(np.array(codes)).view(-1, 1, 1).expand(-1, *grid).long())

    def answer(self, prompts: Any, max_tokens: int) -> list[str]:
        return ["two"] * len(prompts)
