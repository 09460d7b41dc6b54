"""The visual side of a rollout: sources become codes, codes become the images that the judge sees."""

from collections.abc import Sequence

import torch

from arm.evaluation.imaging import to_floats, to_pixels
from arm.rl.config import PolicyConfig
from arm.rl.rollout import Codes, Pixels
from arm.tokenizer.protocol import ImageDetokenizer, ImageTokenizer


class TokenizerRenderer:
    """The visual tokenizer and the detokenizer."""

    def __init__(self, tokenizer: ImageTokenizer, detokenizer: ImageDetokenizer, config: PolicyConfig) -> None:
        self._tokenizer, self._detokenizer, self._config = tokenizer, detokenizer, config
        self.stride = tokenizer.stride

    def encode(self, images: Sequence[Pixels]) -> Codes:
        """Images of one size -> codes (B, h, w)."""
        with torch.no_grad():
            codes: Codes = self._tokenizer.encode(to_floats(images)).cpu().numpy()
        return codes

    def render(self, codes_BHW: torch.Tensor, seeds: Sequence[int]) -> list[Pixels]:
        """Codes -> images; each image's noise is keyed by its seed."""
        steps, guidance = self._config.render_steps, self._config.render_guidance
        with torch.no_grad():
            images = self._detokenizer.render(codes_BHW, self._tokenizer, seeds=seeds, steps=steps, guidance=guidance)
        return to_pixels(images)
