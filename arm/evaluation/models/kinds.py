"""The kinds of models that can be evaluated: one table of import strings, each with what it needs and what it can do."""

import dataclasses
import importlib
from dataclasses import dataclass
from typing import cast

from arm.config import suggest
from arm.errors import UserError
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way to reach a model."""

    adapter: str
    """Import string of `(ModelConfig) -> Model`."""
    purpose: str
    can: tuple[str, ...]
    """Methods of `Model` that its models have, at best."""
    settings: tuple[str, ...] = ()
    """Fields of ModelConfig that have an effect."""
    extra: str = "model"
    """Extra of this project to install when the import fails."""


KINDS: dict[str, Kind] = {
    "ours": Kind(
        adapter="arm.evaluation.models.ours:load",
        purpose="a release of register-model, or a folder with model/, tokenizer/ and detokenizer/",
        can=("answer", "generate_images", "edit", "loglikelihood"),
        settings=("dtype", "batch_size", "image_size", "steps", "guidance", "temperature", "max_tokens"),
    ),
    "huggingface": Kind(
        adapter="arm.evaluation.models.vision_language:load",
        purpose="a vision-language model of transformers (AutoModelForImageTextToText)",
        can=("answer", "loglikelihood"),
        settings=("dtype", "batch_size", "max_tokens"),
    ),
    "autoregressive": Kind(
        adapter="arm.evaluation.models.image_text:load",
        purpose="Janus, Emu3 or Chameleon, in the format of transformers",
        can=("answer", "generate_images", "loglikelihood"),
        settings=("dtype", "batch_size", "image_size", "guidance", "temperature", "max_tokens"),
    ),
    "diffusers": Kind(
        adapter="arm.evaluation.models.pipelines:load",
        purpose="a pipeline of diffusers: FLUX, SD3, Qwen-Image, …",
        can=("generate_images", "edit"),
        settings=("dtype", "batch_size", "image_size", "steps", "guidance"),
    ),
    "openai": Kind(
        adapter="arm.evaluation.models.endpoint:load",
        purpose="an OpenAI-compatible endpoint at OPENAI_BASE_URL, its key in OPENAI_API_KEY",
        can=("answer", "generate_images", "edit"),
        settings=("batch_size", "image_size", "max_tokens"),
    ),
    "folder": Kind(
        adapter="arm.evaluation.models.made_images:load",
        purpose="a folder of images made elsewhere, <uid>.png or <uid>_<number>.png",
        can=("generate_images", "edit"),
    ),
}
"""Name -> kind."""
TASKS = {
    "answer": "answers no questions",
    "generate_images": "draws no images",
    "edit": "edits no images",
    "loglikelihood": "gives no log-likelihoods",
}


def find(config: ModelConfig, task: str) -> Kind:
    """The kind of that name; UserError when it is unknown, cannot do the task, or a setting has no effect on it."""
    if config.kind not in KINDS:
        raise UserError(f"There is no kind of model {config.kind!r}; {suggest(config.kind, list(KINDS))}")
    kind = KINDS[config.kind]
    if task not in kind.can:
        able = ", ".join(name for name, other in KINDS.items() if task in other.can)
        raise UserError(f"A model of the kind {config.kind!r} {TASKS[task]}; kinds that do: {able}.")
    if not config.model:
        raise UserError(f"ModelConfig.model is empty; for the kind {config.kind!r} give {kind.purpose}.")
    for field in dataclasses.fields(config):
        given = getattr(config, field.name) != field.default
        if given and field.name not in ("kind", "model", *kind.settings):
            raise UserError(
                f"ModelConfig.{field.name} has no effect on a model of the kind {config.kind!r}; leave it out."
            )
    return kind


def load(config: ModelConfig, task: str) -> Model:
    """Load the model for a task (a method of Model); the sentence of a missing package names the extra."""
    kind = find(config, task)
    module, _, attribute = kind.adapter.partition(":")
    try:
        return cast(Model, getattr(importlib.import_module(module), attribute)(config))
    except ModuleNotFoundError as error:
        if str(error.name).startswith("arm."):
            raise
        raise UserError(
            f"A model of the kind {config.kind!r} needs the package {error.name}, which is not installed; "
            f"pip install 'arm-platform[{kind.extra}]'."
        ) from None


def local_names() -> str:
    """The table as help: one line a kind."""
    return "\n".join(f"  {name:15} {kind.purpose}" for name, kind in KINDS.items())
