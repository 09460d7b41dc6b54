"""What a user does with a release: draw an image, edit one, ask about one.

    release = load_release("store/26-register-model")
    generate(release, "a red circle and a blue square", seed=0).save("drawn.png")
    edit(release, Path("drawn.png"), "make the red circle blue").save("edited.png")
    ask(release, Path("edited.png"), "how many circles are there?")    ->  "one"

Where a release is wanted, the address of one does too; it is then loaded for this one call.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from arm import config as configs
from arm import manifest as manifests
from arm.data.images import converted, flatten
from arm.device import Dtype, computing_dtype
from arm.errors import UserError
from arm.evaluation.config import EvaluateConfig, SamplingConfig
from arm.evaluation.items import Item, Pixels
from arm.evaluation.subject import Subject, Tools
from arm.tracking.registration import FILE_NAME

MAX_PIXELS = 100_000_000
"""A larger picture is refused before it is decoded."""


PARTS = ("model", "tokenizer", "detokenizer")


@dataclass(frozen=True, kw_only=True)
class Release:
    """A loaded release: the model with the tools around it."""

    subject: Subject


def load_release(
    url: str | Path, *, image_size: int | None = None, sampling: SamplingConfig | None = None, dtype: Dtype = "float32",
    answer_tokens: int = 32,
) -> Release:  # fmt: skip
    """Load a release by its folder. Images are read and drawn at the sizes that its evaluation named, else with the side that
    the encoder was trained at, unless another is given. What is said of sampling holds for images of texts and for edits."""
    from arm.model.generation import Generator

    folders, record = _opened(url)
    sampling = sampling or SamplingConfig()
    config = replace(
        configs.from_dict(EvaluateConfig, _sizes(record, folders["tokenizer"], image_size)),
        sampling=sampling,
        edit_temperature=sampling.temperature,
        answer_tokens=answer_tokens,
        dtype=dtype,
    )
    tools = Tools(tokenizer=folders["tokenizer"], detokenizer=folders["detokenizer"], encoder=None, config=config)
    generator = Generator.from_pretrained(folders["model"], getattr(torch, computing_dtype(dtype)))
    return Release(subject=Subject(name="release", tools=tools, generator=generator))


def generate(release: Release | str | Path, prompt: str, *, seed: int = 0) -> PIL.Image.Image:
    """Draw an image of a text; another seed draws another image."""
    _refuse_empty(prompt, "prompt", "say what the image should show")
    return _draw(release, Item(uid="0", group="all", prompt=prompt), seed)


def edit(release: Release | str | Path, image: Path, instruction: str, *, seed: int = 0) -> PIL.Image.Image:
    """Edit an image as the instruction says; the result has the image's aspect ratio."""
    _refuse_empty(instruction, "instruction", "say what to change")
    return _draw(release, Item(uid="0", group="all", prompt=instruction, source=read_image(image, turned=True)), seed)


def ask(release: Release | str | Path, image: Path, question: str) -> str:
    """The model's answer to a question about an image."""
    _refuse_empty(question, "question", "ask something about the image")
    item = Item(uid="0", group="all", prompt=question, source=read_image(image, turned=True))
    return _loaded(release).subject.answer([item])[0].strip()


def read_image(path: Path, *, turned: bool = False) -> Pixels:
    """An image file as RGB pixels (H, W, 3), transparency laid on white; a UserError when it is none.

    `turned`: upright and in sRGB, as training reads a user's photograph. Benchmarks' own programs do not turn theirs.
    """
    try:
        with PIL.Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise UserError(f"{path} has {picture.width}×{picture.height} pixels; at most {MAX_PIXELS:,} are read.")
            return np.asarray(converted(picture, None) if turned else flatten(picture))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}).") from None


def _draw(release: Release | str | Path, item: Item, seed: int) -> PIL.Image.Image:
    subject = _loaded(release).subject
    codes = subject.draw([item], seeds=[seed])
    return PIL.Image.fromarray(subject.tools.render(codes, [seed])[0])


def _loaded(release: Release | str | Path) -> Release:
    return release if isinstance(release, Release) else load_release(release)


def holds_parts(url: str | Path) -> bool:
    """Whether it is a plain folder of a release's parts, rather than a release in a store."""
    return all((Path(url) / name).is_dir() for name in PARTS)


def _opened(url: str | Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The release's parts and what release.json says of it: of a plain folder that holds them, where nothing may be said,
    or of a release in a store, verified."""
    if holds_parts(url):
        said = Path(url) / FILE_NAME
        return {name: Path(url) / name for name in PARTS}, json.loads(said.read_text()) if said.is_file() else {}
    manifest = manifests.load(str(url))
    if manifest.kind != "release":
        raise UserError(
            f"{url} is of the kind {manifest.kind!r}; give the folder of a release, made by register-model."
        )
    record = [manifest.local(entry).read_text() for entry in manifest.select(FILE_NAME)]
    return {name: manifest.local_folder(name) for name in PARTS}, json.loads(record[0]) if record else {}


def _refuse_empty(text: str, name: str, remedy: str) -> None:
    if not text.strip():
        raise UserError(f"The {name} is empty; {remedy}.")


def _sizes(record: dict[str, Any], tokenizer: Path, image_size: int | None) -> dict[str, Any]:
    """Sizes of images, as fields of EvaluateConfig."""
    if image_size:
        return {"image_size": image_size}
    return record.get("sizes") or {"image_size": _trained_size(tokenizer)}


def _trained_size(tokenizer: Path) -> int:
    """Side in pixels that the frozen encoder was trained at."""
    from transformers import AutoConfig

    if not (tokenizer / "encoder").exists():
        raise UserError(
            "The release's tokenizer was imported and does not say at which size it was trained; give image_size."
        )
    config: Any = AutoConfig.from_pretrained(tokenizer / "encoder")
    return int(getattr(config, "image_size", None) or config.num_patches**0.5 * config.patch_size)
