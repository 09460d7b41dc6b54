"""Verbs that ask the released model of a store; `arm.cli` lists them.

    arm generate "two red circles" --output circles.png --temperature 0.7 --guidance-text 2
    arm edit circles.png "make the left circle blue"
    arm ask edited.png "how many circles are there?"

Images are read, and names of outputs checked, before a model is loaded.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image

from arm import config as configs
from arm import manifest
from arm.command_line import add_fields, collect
from arm.errors import UserError
from arm.evaluation.config import SamplingConfig
from arm.launch import prepare_process
from arm.recipes import folder_name

if TYPE_CHECKING:
    from arm.evaluation.inference import Release


def run(verb: str, parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Run one of COMMANDS; the parser has --store already."""
    text = "folder of a release (default: the newest one of the store)"
    parser.add_argument("--release", metavar="DIR", help=text)
    types, text = ("auto", "bfloat16", "float32"), "type of the weights (default: %(default)s)"
    parser.add_argument("--dtype", choices=types, default="float32", help=text)
    COMMANDS[verb](parser, arguments)


def generate(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Draw an image of what the text says."""
    parser.add_argument("prompt", help="what the image shows")
    _add_image(parser, "generated.png")
    options = parser.parse_args(arguments)
    sampling, output = _sampling(options), _writable_image(options.output)
    if "guidance_image" in sampling:
        raise UserError("--guidance-image has no effect without a source image: leave it out.")
    release = _loaded(options, sampling=sampling, image_size=options.image_size)
    from arm.evaluation import inference

    inference.generate(release, options.prompt, seed=options.seed).save(output)
    print(options.output)


def edit(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Change an image as the text says."""
    parser.add_argument("image", help="the image to change")
    parser.add_argument("instruction", help="what to change")
    _add_image(parser, "edited.png")
    options = parser.parse_args(arguments)
    sampling, image, output = _sampling(options), _readable_image(options.image), _writable_image(options.output)
    release = _loaded(options, sampling=sampling, image_size=options.image_size)
    from arm.evaluation import inference

    inference.edit(release, image, options.instruction, seed=options.seed).save(output)
    print(options.output)


def ask(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Answer a question about an image."""
    parser.add_argument("image", help="the image that the question is about")
    parser.add_argument("question", help="the question")
    parser.add_argument("--max-tokens", type=_at_least_1, default=32, help="longest answer (default: %(default)s)")
    options = parser.parse_args(arguments)
    image = _readable_image(options.image)
    release = _loaded(options, answer_tokens=options.max_tokens)
    from arm.evaluation import inference

    print(inference.ask(release, image, options.question))


def _add_image(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--output", default=name, help="where the image goes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws another image")
    text = "side of drawn images in pixels, and the longer side of read ones (default: as evaluated, or the encoder's)"
    parser.add_argument("--image-size", type=_at_least_1, metavar="N", help=text)
    add_fields(parser, SamplingConfig)


def _sampling(options: argparse.Namespace) -> dict[str, Any]:
    """The flags of sampling that were given."""
    given: dict[str, Any] = json.loads(collect(SamplingConfig, "{}", vars(options)))
    return given


def _loaded(options: argparse.Namespace, *, sampling: dict[str, Any] | None = None, **changes: Any) -> "Release":
    """The release that is asked, with what was said of sampling."""
    chosen, place = configs.from_dict(SamplingConfig, sampling or {}), _release(options)
    from arm.evaluation import inference

    return inference.load_release(place, sampling=chosen, dtype=options.dtype, **changes)


def _at_least_1(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number of at least 1")
    return int(word)


def _release(options: argparse.Namespace) -> str:
    """The folder of the release that is asked; checked before anything heavy is imported."""
    prepare_process(threads=os.cpu_count() or 1)
    place = options.release or f"{options.store.rstrip('/')}/{folder_name('register-model')}"
    found = manifest.load(place)
    if found.kind != "release":
        raise UserError(f"{found.folder.url} is a {found.kind}, no release; give the folder of register-model.")
    return found.folder.url


def _readable_image(path: str) -> Path:
    """The image that a verb reads; checked before a model is loaded."""
    if not Path(path).is_file():
        raise UserError(f"There is no image at {path!r}.")
    try:
        with PIL.Image.open(path) as picture:
            picture.verify()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}).") from None
    return Path(path)


def _writable_image(path: str) -> Path:
    """Where a verb writes its image; checked before a model is loaded."""
    PIL.Image.init()
    formats = PIL.Image.registered_extensions()
    if formats.get(Path(path).suffix.lower()) not in PIL.Image.SAVE:
        raise UserError(f"--output {path!r} does not end like an image; give a name such as {Path(path).stem}.png.")
    if Path(path).is_dir():
        raise UserError(f"--output {path!r} is a folder; give the name of a file in it.")
    if not os.access(Path(path).absolute().parent, os.W_OK | os.X_OK):
        raise UserError(f"--output {path!r} cannot be written: {Path(path).absolute().parent} is no writable folder.")
    return Path(path)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser, list[str]], None]] = {
    "generate": generate, "edit": edit, "ask": ask,
}  # fmt: skip
