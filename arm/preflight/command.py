"""The verb `plan`: what a recipe will take, printed, and as a page and JSON beside each other."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from arm import recipes
from arm.errors import UserError
from arm.preflight import hardware
from arm.preflight.outline import Setting
from arm.preflight.page import render_page, text_table
from arm.preflight.plan import Plan, make_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("--recipe", required=True, help=f"{', '.join(recipes.RECIPES)}, or yours as module:CONSTANT")
    parser.add_argument("--world", type=_count, help="GPUs there are: a step takes as many of them as divide its rows")
    parser.add_argument("--gpu", help=f"one of {', '.join(hardware.GPUS)} (default: the recipe's)")
    parser.add_argument(
        "--price-per-gpu-hour",
        type=_positive,
        default=hardware.PRICE_PER_GPU_HOUR,
        help="dollars (default: %(default)s)",
    )
    parser.add_argument("--mfu", type=_share, help="share of the peak that training reaches (default: by size)")
    parser.add_argument(
        "--cost-per-judgement",
        type=_positive,
        default=hardware.COST_PER_JUDGEMENT,
        help="dollars (default: %(default)s)",
    )
    parser.add_argument(
        "--judge-seconds", type=_positive, default=hardware.JUDGE_SECONDS, help="median answer (default: %(default)s)"
    )
    parser.add_argument("--output", metavar="DIR", help="where the page goes (default: plan-RECIPE)")


def run(options: argparse.Namespace) -> None:
    """Plan, print, write; what cannot run is a UserError, after everything is written."""
    recipe = recipes.find(options.recipe)
    if not any(compute.gpus for compute in recipe.compute.values()):
        for name in ("world", "gpu", "mfu"):
            if getattr(options, name) is not None:
                raise UserError(
                    f"--{name} has no effect on the recipe {recipe.name}, which computes on CPUs; leave it out."
                )
    setting = Setting(
        recipe=recipe,
        gpu=hardware.find_gpu(options.gpu or recipe.gpu),
        world=options.world,
        mfu=options.mfu,
        price_per_gpu_hour=options.price_per_gpu_hour,
        cost_per_judgement=options.cost_per_judgement,
        judge_seconds=options.judge_seconds,
    )
    plan = make_plan(setting)
    print(text_table(plan))
    print(f"\nEstimates; the assumptions stand on {write_plan(plan, options.output or f'plan-{recipe.name}')}")
    if refusals := plan.refusals:
        first = f"{refusals[0]}"
        raise UserError(f"{first} ({len(refusals)} in all, see the page.)" if len(refusals) > 1 else first)


def write_plan(plan: Plan, folder: str) -> Path:
    """Write `index.html` and `plan.json` into a folder and return the page's path."""
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "plan.json").write_text(json.dumps(plan.to_dict(), indent=1) + "\n")
        (place / "index.html").write_text(render_page(plan))
    except OSError as error:
        raise UserError(f"--output {folder!r} cannot be written ({error.strerror}); give another folder.") from None
    return place / "index.html"


def _checked(convert: Callable[[str], float], fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    def read(word: str) -> float:
        try:
            value = convert(word)
        except ValueError:
            value = float("nan")
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{word!r} is not {what}")
        return value

    return read


_count = _checked(int, lambda value: value >= 1, "a number of GPUs of at least 1")
_positive = _checked(float, lambda value: 0 <= value < float("inf"), "a number of at least 0")
_share = _checked(float, lambda value: 0 < value <= 1, "a share above 0 and at most 1")
