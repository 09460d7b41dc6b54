"""Verbs that ask the released model of a store; `arm.cli` lists them.

    arm generate "two red circles" --output circles.png
    arm edit circles.png "make the left circle blue"
    arm ask edited.png "how many circles are there?"

Images are read, and names of outputs checked, before a model is loaded.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import PIL.Image

from arm import manifest
from arm.errors import UserError
from arm.launch import prepare_process
from arm.recipes import folder_name


def run(verb: str, parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Run one of COMMANDS; the parser has --store already."""
    text = "folder of a release (default: the newest one of the store)"
    parser.add_argument("--release", metavar="DIR", help=text)
    COMMANDS[verb](parser, arguments)


def generate(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Draw an image of what the text says."""
    parser.add_argument("prompt", help="what the image shows")
    _add_image(parser, "generated.png")
    options = parser.parse_args(arguments)
    output, release = _writable_image(options.output), _release(options)
    from arm.evaluation import inference

    inference.generate(release, options.prompt, seed=options.seed).save(output)
    print(options.output)


def edit(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Change an image as the text says."""
    parser.add_argument("image", help="the image to change")
    parser.add_argument("instruction", help="what to change")
    _add_image(parser, "edited.png")
    options = parser.parse_args(arguments)
    image, output, release = _readable_image(options.image), _writable_image(options.output), _release(options)
    from arm.evaluation import inference

    inference.edit(release, image, options.instruction, seed=options.seed).save(output)
    print(options.output)


def ask(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Answer a question about an image."""
    parser.add_argument("image", help="the image that the question is about")
    parser.add_argument("question", help="the question")
    options = parser.parse_args(arguments)
    image, release = _readable_image(options.image), _release(options)
    from arm.evaluation import inference

    print(inference.ask(release, image, options.question))


def _add_image(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--output", default=name, help="where the image goes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws another image")


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
