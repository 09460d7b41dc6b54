"""Verbs that ask a model, ours or another's, and that measure one; `arm.cli` lists them.

    arm generate-images --kind diffusers --model weights/flux --prompts evaluation_metadata.jsonl --layout geneval --output DIR
    arm edit-images --kind ours --model RELEASE --prompts gedit.parquet --layout gedit --output DIR
    arm answer-questions --kind openai --model NAME --questions pope.jsonl --images DIR --output answers.jsonl
    arm detect-objects --model weights/mask2former --clip weights/clip --images DIR --output detections.jsonl
    arm check-contamination --training STORE/08-curate-images --sets geneval=evaluation_metadata.jsonl --output DIR
    arm measure-cost --kind ours --model RELEASE --prompts evaluation_metadata.jsonl --batch-sizes 1,8

Input is read before a model is loaded, so that a wrong path costs no minutes.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arm import config as configs
from arm.command_line import Formatter, add_fields, collect
from arm.errors import UserError
from arm.evaluation.benchmarks.prompts import STYLES
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.kinds import find, load, local_names
from arm.lock import output_lock
from arm.storage import open_folder

if TYPE_CHECKING:
    from arm.evaluation.models.model import Model


@dataclass(frozen=True, slots=True)
class Command:
    """A verb: its flags, and what it does with them."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def run(verb: str, parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Run one of COMMANDS."""
    command = COMMANDS[verb]
    parser.formatter_class = Formatter
    command.add_arguments(parser)
    command.run(parser.parse_args(arguments))


def _add_images(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--prompts", required=True, metavar="FILE", help="JSONL, JSON, TSV, Parquet, folder of .txt")
    parser.add_argument("--layout", default="plain", help="folders of the output: geneval, dpg, wise, plain")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the images go, s3:// too")
    parser.add_argument("--seeds", type=int, metavar="N", help="images a prompt (default: what the layout asks for)")


def _add_edits(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--prompts", required=True, metavar="FILE", help="instructions: JSONL, JSON, TSV or Parquet")
    parser.add_argument("--images", metavar="DIR", help="folder of the source images that the file names")
    parser.add_argument("--layout", default="plain", help="folders of the output: gedit, imgedit, plain")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the images go, s3:// too")
    parser.add_argument("--seeds", type=int, metavar="N", help="images an instruction (default: 1)")


def _add_answers(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--questions", required=True, metavar="FILE", help="JSONL, JSON, TSV or Parquet")
    parser.add_argument("--images", metavar="DIR", help="folder of the images that the file names")
    parser.add_argument("--style", default="none", choices=tuple(STYLES), help="wording of a question")
    parser.add_argument("--output", required=True, metavar="FILE", help="answers, as JSONL")


def _add_cost(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--prompts", required=True, metavar="FILE", help="prompts to draw, taken in turn")
    parser.add_argument("--batch-sizes", default="1,8", metavar="N,N", help="images at once (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=10, metavar="N", help="batches that are timed")
    parser.add_argument("--output", default="cost.json", metavar="FILE", help="where the numbers go")


def _add_detector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", required=True, metavar="DIR", help="images in the layout geneval")
    parser.add_argument("--output", required=True, metavar="FILE", help="detections, as JSONL")
    parser.add_argument("--config", default="{}", metavar="JSON", help="as one JSON object; flags go over it")
    add_fields(parser, DetectorConfig)


def _add_contamination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--training", required=True, nargs="+", metavar="DIR", help="jobs that made image shards")
    parser.add_argument(
        "--sets", required=True, nargs="+", metavar="NAME=PATH", help="data files with prompts, or jobs of image shards"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where contamination.json and .html go")
    parser.add_argument("--max-share", type=float, default=1.0, metavar="X", help="fail when a set's share is larger")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="{}", metavar="JSON", help="the model as one JSON object; flags go over it")
    add_fields(parser, ModelConfig)
    parser.epilog = f"kinds: {'; '.join(' '.join(line.split()) for line in local_names().splitlines())}"


def generate_images(options: argparse.Namespace) -> None:
    """Draw every prompt of a benchmark, in its layout."""
    _make_images(options, edits=False)


def edit_images(options: argparse.Namespace) -> None:
    """Edit every image of a benchmark, in its layout."""
    _make_images(options, edits=True)


def answer_questions(options: argparse.Namespace) -> None:
    """Answer every question of a benchmark."""
    config = _model_config(options, "answer")
    output, folder = Path(options.output), _folder(options.images)
    _refuse_outside(options.output)
    from arm.evaluation.production.answers import answer_questions as answer
    from arm.evaluation.production.answers import read_questions
    from arm.evaluation.production.pictures import Pictures
    from arm.evaluation.production.rows import read_rows

    rows = read_rows(options.questions)
    read_questions(rows, options.style)
    output.parent.mkdir(parents=True, exist_ok=True)
    model = _load(config, "answer")
    images = Pictures(open_folder(str(folder))) if folder else None
    counts = answer(model, config.kind, rows, output, style=options.style, images=images, batch_size=config.batch_size)
    _tell(counts, "questions_failed", options.output)


def measure_cost(options: argparse.Namespace) -> None:
    """Take the time of drawing, decoding and detokenization apart."""
    try:
        sizes = [int(word) for word in options.batch_sizes.split(",")]
    except ValueError:
        raise UserError(f"--batch-sizes {options.batch_sizes!r} must be numbers with commas, such as 1,8.") from None
    config = replace(_model_config(options, "generate_images"), batch_size=max(1, *sizes))
    from arm.evaluation.cost import measure_cost as measure
    from arm.evaluation.cost import to_table
    from arm.evaluation.production.layouts import find_layout, lay_out
    from arm.evaluation.production.rows import read_rows

    pictures = lay_out(read_rows(options.prompts), find_layout("plain", edits=False), 1)
    prompts = [picture.requests[0].prompt for picture in pictures]
    cost = measure(_load(config, "generate_images"), prompts, sizes, options.calls, {"kind": config.kind})
    folder, _, name = options.output.rpartition("/")
    open_folder(folder or ".").write(name, (json.dumps(cost, indent=1, sort_keys=True) + "\n").encode())
    print(to_table(cost))
    print(options.output)


def detect_objects(options: argparse.Namespace) -> None:
    """Find the objects that GenEval's rule asks for."""
    config = configs.from_json(DetectorConfig, collect(DetectorConfig, options.config, vars(options)))
    images, output = _folder(options.images), Path(options.output)
    assert images is not None
    _refuse_outside(options.output)
    _prepare()
    from arm.evaluation.detectors.colours import load_namer
    from arm.evaluation.detectors.detect import detect_objects as detect
    from arm.evaluation.detectors.detect import read_geneval
    from arm.evaluation.detectors.detector import load_detector

    read_geneval(images)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output_lock(open_folder(str(output)), "detect-objects"):
        counts = detect(load_detector(config), lambda: load_namer(config), images, output)
    _tell(counts, "images_failed", options.output)


def check_contamination(options: argparse.Namespace) -> None:
    """Hold training shards against evaluation sets."""
    pairs = [word.partition("=") for word in options.sets]
    for name, mark, path in pairs:
        if not (name and mark and path):
            raise UserError(f"--sets {name!r} must be NAME=PATH, such as geneval=evaluation_metadata.jsonl.")
    from arm import manifest as manifests
    from arm.evaluation.contamination import report as reports
    from arm.evaluation.production.rows import read_rows

    training = [manifests.load(url) for url in options.training]
    sets = [
        reports.items_of_shards(name, manifests.load(path))
        if open_folder(path).exists("current.json") or open_folder(path).exists(manifests.NAME)
        else reports.items_of_rows(name, read_rows(path))
        for name, _, path in pairs
    ]
    report = reports.check_contamination(training, sets)
    output = open_folder(options.output)
    output.write("contamination.json", reports.to_json(report))
    output.write("contamination.html", reports.to_page(report))
    for name, found in report["sets"].items():
        print(f"{name:24} {found['contaminated']} of {found['items']} ({found['share']:.2%})")
    print(f"{options.output.rstrip('/')}/contamination.html")
    if report["largest_share"] > options.max_share:
        raise UserError(
            f"Training has seen {report['largest_share']:.2%} of an evaluation set; at most {options.max_share:.2%} may be."
        )


def _make_images(options: argparse.Namespace, *, edits: bool) -> None:
    task = "edit" if edits else "generate_images"
    config = _model_config(options, task)
    folder = _folder(options.images) if edits else None
    from arm.evaluation.production.images import make_images
    from arm.evaluation.production.layouts import find_layout, lay_out
    from arm.evaluation.production.pictures import Pictures
    from arm.evaluation.production.rows import read_rows

    layout = find_layout(options.layout, edits=edits)
    num_seeds = layout.num_seeds if options.seeds is None else options.seeds
    if num_seeds < 1:
        raise UserError(f"--seeds is {num_seeds}; give the number of images a prompt, at least 1.")
    rows = read_rows(options.prompts)
    lay_out(rows, layout, num_seeds)
    output = open_folder(options.output)
    with output_lock(output, "images"):
        counts = make_images(
            _load(config, task), config.kind, rows, (options.layout, layout), output, num_seeds=num_seeds,
            batch_size=config.batch_size, sources=Pictures(open_folder(str(folder))) if folder else None,
        )  # fmt: skip
    _tell(counts, "images_failed", options.output)


def _model_config(options: argparse.Namespace, task: str) -> ModelConfig:
    """The flags as a config, held against the table of kinds before anything heavy is imported."""
    config = configs.from_json(ModelConfig, collect(ModelConfig, options.config, vars(options)))
    find(config, task)
    return config


def _load(config: ModelConfig, task: str) -> "Model":
    _prepare()
    return load(config, task)


def _prepare() -> None:
    """Before anything of Hugging Face is imported: nothing is asked of the network, no bars are drawn."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"


def _refuse_outside(path: str) -> None:
    if Path(path).is_dir() or "://" in path:
        raise UserError(f"--output {path!r} must name a local file; give a name such as rows.jsonl.")


def _folder(path: str | None) -> Path | None:
    if path is not None and not Path(path).is_dir():
        raise UserError(f"There is no folder of images at {path!r}.")
    return Path(path) if path else None


def _tell(counts: dict[str, int], failed: str, output: str) -> None:
    """Print the counts; what failed is a UserError, so that no script takes the output for whole."""
    for name, value in counts.items():
        print(f"{name:24} {value}")
    print(output)
    if counts[failed]:
        raise UserError(f"{counts[failed]} could not be made, each with its reason; the same command tries them again.")


COMMANDS: dict[str, Command] = {
    "generate-images": Command(_add_images, generate_images),
    "edit-images": Command(_add_edits, edit_images),
    "answer-questions": Command(_add_answers, answer_questions),
    "detect-objects": Command(_add_detector, detect_objects),
    "check-contamination": Command(_add_contamination, check_contamination),
    "measure-cost": Command(_add_cost, measure_cost),
}
"""Verb -> command."""
