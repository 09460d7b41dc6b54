"""Our own model: a release with its tokenizer and detokenizer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arm import manifest as manifests
from arm.device import computing_dtype
from arm.errors import UserError
from arm.evaluation.config import SamplingConfig
from arm.evaluation.inference import PARTS, holds_parts, load_release
from arm.evaluation.items import Item, Pixels
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.files import files_digest
from arm.evaluation.models.likelihood import likelihood
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed, Likelihood, Question, Unable
from arm.evaluation.subject import Subject
from arm.model.decoding import Cache
from arm.model.vocabulary import text_ids
from arm.storage import open_folder


class Ours(Unable):
    """A subject of the evaluation behind the Protocol that the rivals share."""

    def __init__(self, subject: Subject, name: str, identity: dict[str, Any]) -> None:
        self.subject, self.name, self.identity = subject, name, identity

    def protocol(self) -> dict[str, Any]:
        """Its parts and how it samples."""
        config = self.subject.config
        return {
            **self.identity, **config.sizes, "dtype": computing_dtype(config.dtype),
            "temperature": config.sampling.temperature, "edit_temperature": config.edit_temperature,
            "top_k": config.sampling.top_k, "top_p": config.sampling.top_p,
            "guidance_text": config.sampling.guidance_text, "guidance_image": config.sampling.guidance_image,
            "steps": config.render_steps, "max_tokens": config.answer_tokens,
        }  # fmt: skip

    def answer(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str | Failed]:
        """Greedy answers; a question may be about several images, or none."""
        generator: Any = self.subject.generator
        return list(generator.answer(self._prompts(questions), max_tokens or self.subject.config.answer_tokens))

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        """Draw the codes and render them."""
        return self._made(drawings, clock)

    def edit(self, drawings: Sequence[Drawing]) -> list[Pixels | Failed]:
        """Draw the codes of the edited images and render them."""
        return self._made(drawings, NO_CLOCK)

    @torch.no_grad()
    def loglikelihood(self, questions: Sequence[Question], continuations: Sequence[str]) -> list[Likelihood]:
        """Teacher forcing over what an answer may hold, one question at a time."""
        generator: Any = self.subject.generator
        found = []
        for prompt, text in zip(self._prompts(questions), continuations, strict=True):
            wanted = text_ids(generator.tokenizer, [text])[0]
            cache = Cache(
                [[*generator.prompt_ids(prompt), generator.vocabulary.answer_start]], len(wanted), generator.model
            )
            logits = [generator.answer_logits(cache.prefill())]
            for token in wanted[:-1]:
                logits.append(generator.answer_logits(cache.extend(torch.tensor([token], device=logits[0].device))))
            wanted_N = torch.tensor(wanted, dtype=torch.long, device=logits[0].device)
            found.append(likelihood(torch.cat(logits), wanted_N))
        return found

    def _made(self, drawings: Sequence[Drawing], clock: Clock) -> list[Pixels | Failed]:
        seeds = [drawing.seed for drawing in drawings]
        items = [Item(uid=item.uid, group="all", prompt=item.prompt, source=item.source) for item in drawings]
        with clock.phase("decode"):
            codes = self.subject.draw(items, seeds)
        clock.count(sum(np.asarray(image).size for image in codes))
        with clock.phase("detokenize"):
            return list(self.subject.tools.render(codes, seeds))

    def _prompts(self, questions: Sequence[Question]) -> list[tuple[Any, ...]]:
        """[Question(text, (a, b))] -> [(codes of a, codes of b, text)]"""
        tools = self.subject.tools
        images = [tools.fit(image, tools.config.reading) for question in questions for image in question.images]
        codes = iter(tools.encode(images))
        return [(*(next(codes) for _ in question.images), question.text) for question in questions]


def load(config: ModelConfig) -> Ours:
    """Load a release, or a plain folder of its parts."""
    _refuse_others(config.model)
    sampling = SamplingConfig()
    if config.guidance is not None:
        sampling = replace(sampling, guidance_text=config.guidance)
    if config.temperature is not None:
        sampling = replace(sampling, temperature=config.temperature)
    release = load_release(config.model, image_size=config.image_size or None, sampling=sampling, dtype=config.dtype)
    tools = release.subject.tools
    tools.config = replace(
        tools.config, batch_size=config.batch_size, answer_tokens=config.max_tokens, render_steps=config.steps
    )
    return Ours(release.subject, Path(config.model).name, identity_of(config.model))


def identity_of(url: str) -> dict[str, Any]:
    """What names the parts: the release's digest in a store, the files' digests in a plain folder."""
    if holds_parts(url):
        return {"files": {name: files_digest(Path(url) / name) for name in PARTS}}
    return {"release": manifests.load(url).digest}


def _refuse_others(url: str) -> None:
    """UserError where there is neither a release nor its parts: what the default kind is given most often by mistake."""
    folder = open_folder(url.removesuffix(f"/{manifests.NAME}"))
    is_artifact = Path(url).is_file() or any(folder.exists(name) for name in ("current.json", manifests.NAME))
    if not is_artifact and not holds_parts(url):
        raise UserError(
            f"{url!r} is no model of the kind 'ours': neither a finished register-model nor a folder with "
            f"{', '.join(f'{name}/' for name in PARTS)}. Give such a folder, or --model.kind for a model of others."
        )
