"""Any vision-language model that transformers loads as an image-text-to-text model, with its own chat template."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch

from arm.device import computing_dtype, rank_device
from arm.errors import UserError
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.files import SAFE, files_digest, model_folder
from arm.evaluation.models.likelihood import likelihood
from arm.evaluation.models.model import Failed, Likelihood, Question, Unable


class VisionLanguage(Unable):
    """Greedy answers in batches; a model without a chat template gets the images' marks before the question."""

    def __init__(self, model: Any, processor: Any, config: ModelConfig, folder: Path) -> None:
        self.model, self.processor, self.config = model, processor, config
        self.name, self._digest = folder.name, files_digest(folder)
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token

    def protocol(self) -> dict[str, Any]:
        """Class, files and how it answers."""
        return {
            "class": type(self.model).__name__, "files": self._digest, "dtype": str(self.model.dtype).removeprefix("torch."),
            "batch_size": self.config.batch_size, "max_tokens": self.config.max_tokens, "decoding": "greedy",
            "chat_template": bool(self.processor.chat_template),
        }  # fmt: skip

    @torch.no_grad()
    def answer(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str | Failed]:
        """The text after each question, special tokens left out."""
        answers: list[str | Failed] = []
        for some in _batches(questions, self.config.batch_size):
            inputs = self._inputs(some)
            made = self.model.generate(**inputs, **self._greedy(max_tokens or self.config.max_tokens))
            texts = self.processor.tokenizer.batch_decode(
                made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
            answers += [text.strip() for text in texts]
        return answers

    @torch.no_grad()
    def loglikelihood(self, questions: Sequence[Question], continuations: Sequence[str]) -> list[Likelihood]:
        """One forward pass a question; the continuation's tokens follow the prompt's as they are."""
        found = []
        for question, text in zip(questions, continuations, strict=True):
            inputs = self._inputs([question])
            ids = self.processor.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
            wanted = ids.to(self.model.device)
            length = inputs["input_ids"].shape[1]
            logits_NV = self.model(**_continued(inputs, wanted)).logits[0, length - 1 : -1]
            found.append(likelihood(logits_NV, wanted[0]))
        return found

    def _greedy(self, max_tokens: int) -> dict[str, Any]:
        return {"max_new_tokens": max_tokens, "do_sample": False, "num_beams": 1}

    def _inputs(self, questions: Sequence[Question]) -> dict[str, Any]:
        pictures = [[PIL.Image.fromarray(image) for image in question.images] for question in questions]
        images = pictures if any(pictures) else None
        try:
            made = self.processor(
                images=images, text=[self._prompt(question) for question in questions],
                return_tensors="pt", padding=True,
            )  # fmt: skip
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"The processor of {self.name} refuses question {questions[0].uid} ({error}).") from None
        return {name: self._placed(value) for name, value in made.items()}

    def _placed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)

    def _prompt(self, question: Question) -> str:
        if not self.processor.chat_template:
            mark = getattr(self.processor, "image_token", "<image>")
            return f"{mark * len(question.images)}{question.text}"
        content = [*({"type": "image"} for _ in question.images), {"type": "text", "text": question.text}]
        return str(
            self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        )


def load(config: ModelConfig) -> VisionLanguage:
    """Load any class that AutoModelForImageTextToText knows."""
    return VisionLanguage(*load_parts(config))


def load_parts(config: ModelConfig) -> tuple[Any, Any, ModelConfig, Path]:
    """Model and processor from a local folder."""
    folder = model_folder(config.model, "config.json")
    from transformers import AutoModelForImageTextToText, AutoProcessor

    loader: Any = AutoProcessor
    try:
        processor = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, computing_dtype(config.dtype)), **SAFE
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{config.model} cannot be loaded as a vision-language model by transformers ({reason})."
        ) from None
    if not hasattr(processor, "tokenizer"):
        raise UserError(f"{config.model} holds no processor for images and texts; give a vision-language model.")
    return model.eval().to(rank_device()), processor, config, folder


def _batches(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    """At most `size` at once, and never some with images beside some without: processors refuse that."""
    run: list[Question] = []
    for question in questions:
        if run and (len(run) == size or bool(run[0].images) != bool(question.images)):
            yield run
            run = []
        run.append(question)
    if run:
        yield run


def _continued(inputs: dict[str, Any], wanted_1N: torch.Tensor) -> dict[str, Any]:
    """The prompt's tensors with the continuation's tokens behind; whatever marks tokens marks these as text."""
    shape = inputs["input_ids"].shape
    longer = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.shape == shape and not value.is_floating_point():
            fill = {"input_ids": wanted_1N, "attention_mask": torch.ones_like(wanted_1N)}
            longer[name] = torch.cat([value, fill.get(name, torch.zeros_like(wanted_1N)).to(value.dtype)], dim=1)
    return longer
