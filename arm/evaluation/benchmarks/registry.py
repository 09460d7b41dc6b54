"""The benchmarks that can be scored, by name. To add one: a module with `score`, and a line here."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from arm.config import suggest
from arm.errors import UserError
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.benchmarks.result import Result

Scorer = Callable[[Files, Files, ScoreConfig], Result]
SCORERS: dict[str, str] = {
    "geneval": "geneval:score",
    "dpg": "dpg:score",
    "wise": "wise:score",
    "wise_verified": "wise:score_verified",
    "gedit_en": "gedit:score",
    "gedit_cn": "gedit:score_cn",
    "viescore": "viescore:score",
    "imgedit": "imgedit:score",
    "pope": "pope:score",
    "mmbench": "mmbench:score",
    "mme": "mme:score",
    "mmmu": "mmmu:score",
    "gqa": "gqa:score",
    "seed": "seed:score",
    "vqav2": "vqav2:score",
    "imagenet": "imagenet:score",
    "tokenizer": "tokenizer:score",
}
"""Name -> function in this package. Generation, editing, understanding, tokenizer."""
CORRECTED = ("dpg", "imgedit", "mmmu", "seed", "vqav2")
"""The benchmarks whose official program is faulty, and which therefore have a second mode."""
FAULTS = (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError, RecursionError)
"""What files made by anybody may cause."""


def find(name: str) -> Scorer:
    """The scorer of that name; an unknown name is a UserError that lists the known ones."""
    if name not in SCORERS:
        raise UserError(f"There is no benchmark {name!r}; {suggest(name, sorted(SCORERS))}")
    module, _, attribute = SCORERS[name].partition(":")
    return cast(Scorer, getattr(importlib.import_module(f"arm.evaluation.benchmarks.{module}"), attribute))


def score(name: str, results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score results and say which files were read; `corrected` where there is nothing to correct is a UserError."""
    scorer = find(name)
    if config.mode == "corrected" and name not in CORRECTED:
        raise UserError(
            f"{name} has no corrected mode: its official program has no fault; only {', '.join(CORRECTED)} do."
        )
    try:
        result = scorer(results, data, config)
    except FAULTS as error:
        raise UserError(
            f"{results.folder.url} is not in the layout of {name} ({type(error).__name__}: {error}); "
            f"see arm/evaluation/benchmarks/{SCORERS[name].partition(':')[0]}.py."
        ) from error
    unread = [f"nothing was read of the data at {data.folder.url}"] if data.is_given and not data.digests else []
    protocol = replace(
        result.protocol, data_files=data.versions, results=results.versions, notes=(*result.protocol.notes, *unread)
    )
    return replace(result, protocol=protocol)
