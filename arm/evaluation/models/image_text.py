"""Janus, Emu3 and Chameleon: transformers' classes that read and write images as tokens.

    model_type   answers   draws   how it draws
    janus        yes       yes     generate(generation_mode="image"): guidance and sampling of its generation config
    emu3         yes       yes     generate under a grammar of rows, as its documentation shows
    chameleon    yes       no      the decoder of its images is not in transformers

Images are drawn one by one, each from torch's generator at its seed: what is drawn depends on no batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from arm.errors import UserError
from arm.evaluation.items import Pixels
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed
from arm.evaluation.models.vision_language import VisionLanguage, load_parts

NEGATIVE = "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped"
"""What Emu3 is guided away from: the start of the negative prompt in its documentation."""
JANUS_GUIDANCE, EMU3_GUIDANCE = 5.0, 3.0
"""Of their documentation."""
EMU3_SIDE = 720
"""The side that Emu3 was trained at."""


class ImageText(VisionLanguage):
    """A vision-language model that also draws."""

    def protocol(self) -> dict[str, Any]:
        """As a vision-language model, with how it draws."""
        drawing = {"guidance": self._guidance(), "temperature": self._temperature()}
        return {**super().protocol(), **drawing, "image_size": self.config.image_size or None}

    @torch.no_grad()
    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        """One after the other, each at its seed."""
        draw = self._drawer()
        made: list[Pixels | Failed] = []
        for drawing in drawings:
            torch.manual_seed(drawing.seed)
            made.append(draw(drawing.prompt, clock))
        return made

    def _drawer(self) -> Callable[[str, Clock], Pixels]:
        drawers = {"janus": self._draw_janus, "emu3": self._draw_emu3}
        kind = self.model.config.model_type
        if kind not in drawers:
            raise UserError(
                f"{self.name} is a {kind}, whose images transformers cannot decode; known: {', '.join(drawers)}."
            )
        return drawers[kind]

    def _draw_janus(self, prompt: str, clock: Clock) -> Pixels:
        if self.config.image_size:
            raise UserError(f"ModelConfig.image_size has no effect on {self.name}, which draws at one size.")
        text = prompt
        if self.processor.chat_template:
            content = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
            text = self.processor.apply_chat_template(content, add_generation_prompt=True)
        inputs = self.processor(text=[text], generation_mode="image", return_tensors="pt").to(self.model.device)
        settings = self.model.generation_config
        if not getattr(settings, "generation_kwargs", None):  # transformers 5 drops what it does not know on loading
            settings.generation_kwargs = {"boi_token_id": self.processor.tokenizer.boi_token_id}
        with clock.phase("decode"):
            tokens_BN = self.model.generate(
                **inputs, generation_mode="image", guidance_scale=self._guidance(), **self._sampling()
            )
        clock.count(tokens_BN.numel())
        with clock.phase("detokenize"):
            (decoded_HWC,) = self.model.decode_image_tokens(tokens_BN.to(self.model.device)).float().cpu()
        images = self.processor.image_processor  # whose own postprocess fails without torchvision (transformers 5.23)
        shown_HWC = decoded_HWC * torch.tensor(images.image_std) + torch.tensor(images.image_mean)
        return np.asarray(shown_HWC.mul(255).clamp(0, 255).to(torch.uint8))

    def _draw_emu3(self, prompt: str, clock: Clock) -> Pixels:
        side = self.config.image_size or EMU3_SIDE
        settings: dict[str, Any] = {
            "return_for_image_generation": True, "ratio": "1:1", "image_area": side * side, "return_tensors": "pt",
        }  # fmt: skip
        inputs = self.processor(text=[prompt], **settings).to(self.model.device)
        away = self.processor(text=[NEGATIVE], **settings).to(self.model.device)
        (size,) = inputs.pop("image_sizes")
        height, width = (int(side) for side in size)
        num_tokens = height * (width + 1) + 3
        with clock.phase("decode"):
            made = self.model.generate(
                **inputs, max_new_tokens=num_tokens, min_new_tokens=num_tokens, guidance_scale=self._guidance(),
                negative_prompt_ids=away["input_ids"], negative_prompt_attention_mask=away["attention_mask"],
                prefix_allowed_tokens_fn=self._rows(height, width, inputs["input_ids"].shape[1]), **self._sampling(),
            )  # fmt: skip
        clock.count(num_tokens)
        with clock.phase("detokenize"):
            tokens = made[:, inputs["input_ids"].shape[1] :]
            decoded = self.model.decode_image_tokens(image_tokens=tokens, height=height, width=width)
        settings = {"return_tensors": "PIL.Image.Image"}
        (picture,) = self.processor.postprocess(list(decoded.float()), **settings)["pixel_values"]
        return np.asarray(picture.convert("RGB"))

    def _rows(self, height: int, width: int, start: int) -> Callable[[int, torch.Tensor], list[int]]:
        """The grammar: `height` rows of `width` visual tokens, each with an end of line; then the image's end."""
        mapping, tokenizer = self.model.vocabulary_mapping, self.processor.tokenizer
        end = [tokenizer.eof_token_id, tokenizer.eoi_token_id, tokenizer.eos_token_id]

        def allowed(_: int, ids: torch.Tensor) -> list[int]:
            row, column = divmod(len(ids) - start, width + 1)
            if row == height:
                return [end[min(column, 2)]]
            return [mapping.eol_token_id] if column == width else list(mapping.image_tokens)

        return allowed

    def _guidance(self) -> float:
        own = EMU3_GUIDANCE if self.model.config.model_type == "emu3" else JANUS_GUIDANCE
        return own if self.config.guidance is None else self.config.guidance

    def _temperature(self) -> float:
        return 1.0 if self.config.temperature is None else self.config.temperature

    def _sampling(self) -> dict[str, Any]:
        temperature = self._temperature()
        return {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}


def load(config: ModelConfig) -> ImageText:
    """Load one of the three."""
    return ImageText(*load_parts(config))
