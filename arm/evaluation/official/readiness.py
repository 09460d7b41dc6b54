"""What a benchmark needs beside a model, looked for before a model is loaded: its data, who looks at drawn images.

`open_data` looks for files and judges, `read_rows` reads every row as the run and its scorer will: both when a run is planned.
`check_machine` looks for what the machine that runs it must have (weights, addresses in the environment, images) when the run
starts: it may have been planned elsewhere.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from arm.evaluation.official.asked_images import asked_images
from arm.evaluation.official.classifying import images_by_class
from arm.evaluation.official.config import OfficialConfig
from arm.evaluation.official.suites import SUITES, Suite
from arm.evaluation.production.answers import Asked, read_questions
from arm.evaluation.production.layouts import find_layout, lay_out
from arm.evaluation.production.pictures import Pictures
from arm.evaluation.production.rows import Row
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


def read_rows(suite: Suite, files: Files, config: OfficialConfig) -> dict[str, list[Row]]:
    """What is asked, by part; UserError where a row cannot be drawn, asked or scored: a model's hours would be lost."""
    asked = suite.asked(files)
    rows = [row for part in asked.values() for row in part]
    if suite.task == "classify":
        images_by_class(files.names, {row["folder"]: row["class"] for row in rows})
    elif suite.layout:
        layout = find_layout(suite.layout, edits=suite.task == "edit")
        lay_out(rows, layout, config.seeds or layout.num_seeds)
    else:
        _check_questions(
            suite, files, [question for part in asked.values() for question in read_questions(part, suite.style)]
        )
    return asked


def _check_questions(suite: Suite, files: Files, asked: Sequence[Asked]) -> None:
    if blind := next((item for item in asked if not item.images), None):
        fields = ", ".join(map(repr, blind.row))
        raise UserError(f"Question {blind.uid} of {files.folder.url} names no image; its fields are {fields}.")
    truths = suite.truths(files) if suite.truths else None
    unknown = [item.uid for item in asked if truths is not None and item.uid not in truths]
    if unknown:
        raise UserError(
            f"{len(unknown):,} of the {len(asked):,} questions in {files.folder.url} have no right answer there, the first "
            f"is {unknown[0]}; give both files of one split."
        )


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
    _check_pictures(suite, files, read_rows(suite, files, config))


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


def _check_pictures(suite: Suite, files: Files, asked: Mapping[str, list[Row]]) -> None:
    """Every image that a row names or holds is there: the first that is not is named."""
    pictures = Pictures(files.folder, files.names)
    listed = list(asked_images(suite, asked))
    absent = [value for value, part in listed if not pictures.holds(value, part)]
    if absent:
        raise UserError(
            f"{files.folder.url} lacks {len(absent):,} of the {len(listed):,} images that {suite.name} asks about, the "
            f"first is {str(absent[0])[:80]!r}; put them there, in folders as their archives have them."
        )
