"""What a benchmark needs beside a model, looked for before a model is loaded: its data, who looks at drawn images.

`open_data` reads files and config alone, when a run is planned. `check_machine` looks for what the machine that runs it must
have (weights, addresses in the environment) when the run starts: it may have been planned elsewhere.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.detectors.detect import coloured
from arm.evaluation.detectors.detector import find_detector
from arm.evaluation.judge import endpoint_from_environment
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.files import model_folder
from arm.evaluation.models.kinds import find, load
from arm.evaluation.official.config import OfficialConfig
from arm.evaluation.official.suites import SUITES, Suite
from arm.evaluation.production.answers import pictures_of
from arm.evaluation.production.layouts import source_of
from arm.evaluation.production.pictures import Pictures
from arm.storage import open_folder

DATA = "ARM_BENCHMARK_DATA"
"""The folder or s3:// prefix of the data, where the config names none."""


def open_data(name: str, config: OfficialConfig) -> Files:
    """The data folder of a benchmark, with every file that it needs; UserError where one lacks, or who judges."""
    suite = SUITES[name]
    place = config.data or os.environ.get(DATA, "")
    if not place:
        source = suite.sources[0]
        raise UserError(
            f"The benchmark {name} needs its data: give official.data or {DATA}, a folder that holds {name}/ with "
            f"{source.names[0]} ({source.what}; {source.where}, {source.licence})."
        )
    folder = open_folder(place).child(name)
    files = Files(folder, folder.list())
    suite.names(files)
    _check_settings(suite, files, config)
    return files


def _check_settings(suite: Suite, files: Files, config: OfficialConfig) -> None:
    if suite.judged == "objects":
        _check_detector(suite, files, config.detector)
    elif suite.judged == "questions":
        if not config.questioner.model:
            raise UserError(
                f"The benchmark {suite.name} needs somebody to ask about the drawn images: give official.questioner.model, "
                "the folder of a vision-language model (its authors: mPLUG)."
            )
        find(config.questioner, "answer")
    elif suite.judged == "marks" and not config.judge.model:
        raise UserError(
            f"The benchmark {suite.name} needs a judge: give official.judge.model, such as gpt-4.1-2025-04-14, and "
            "ARM_JUDGE_URL in the environment."
        )


def _check_detector(suite: Suite, files: Files, config: DetectorConfig) -> None:
    find_detector(config)
    if not config.model:
        raise UserError(
            f"The benchmark {suite.name} needs a detector: give official.detector.model, the folder of its weights, such as "
            "facebook/mask2former-swin-small-coco-instance."
        )
    if not config.clip and any(coloured(row) for rows in suite.asked(files).values() for row in rows):
        raise UserError(
            f"The benchmark {suite.name} asks for colours: give official.detector.clip, the folder of a CLIP model, such as "
            "openai/clip-vit-large-patch14."
        )


def check_machine(suite: Suite, files: Files, config: OfficialConfig) -> None:
    """UserError where weights, an address, or images that the data name are not there."""
    if suite.judged == "objects":
        for path in filter(None, (config.detector.model, config.detector.clip)):
            model_folder(path, "config.json")
    elif suite.judged == "questions":
        _check_questioner(config.questioner)
    elif suite.judged == "marks":
        _check_judge(config.judge, config.ledger)
    if suite.task in ("answer", "edit"):
        _check_pictures(suite, files)


def _check_questioner(config: ModelConfig) -> None:
    if config.kind == "openai":
        load(config, "answer")  # looks for the address and loads nothing
    elif config.kind in ("huggingface", "autoregressive"):
        model_folder(config.model, "config.json")


def _check_judge(config: JudgeConfig, ledger: str) -> None:
    if config.mode == "record":
        endpoint_from_environment()
    elif ledger and not Path(ledger).is_file():
        raise UserError(f"There is no ledger {ledger!r} to replay; give official.ledger of the run that recorded.")


def _check_pictures(suite: Suite, files: Files) -> None:
    """Every image that a row names or holds is there: the first that is not is named."""
    pictures = Pictures(files.folder, files.names)
    listed = list(_pictures(suite, files))
    absent = [value for value, part in listed if not pictures.holds(value, part)]
    if absent:
        raise UserError(
            f"{files.folder.url} lacks {len(absent):,} of the {len(listed):,} images that {suite.name} asks about, the "
            f"first is {str(absent[0])[:80]!r}; put them there, in folders as their archives have them."
        )


def _pictures(suite: Suite, files: Files) -> Iterator[tuple[Any, str]]:
    """(image as the row names or holds it, part) of every row."""
    for part, rows in suite.asked(files).items():
        for row in rows:
            for value in (source_of(row),) if suite.task == "edit" else pictures_of(row):
                yield value, part
