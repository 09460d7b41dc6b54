"""What each benchmark asks, as rows that `layouts` and `answers` read: its own files, brought into one shape.

MME          COCO_….jpg<TAB>Is there a dog? …<TAB>Yes        ->  {"question_id": "0", "image": "COCO_….jpg", "question": …}
VQAv2        {"questions": [{"question_id": 1, …}]}          ->  {"question_id": 1, …}
GQA          {"2000": {"question": …, "isBalanced": true}}   ->  {"questionId": "2000", "question": …}
"""

import ast
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks import prompts
from arm.evaluation.benchmarks.mmbench import LETTERS, MISSING
from arm.evaluation.benchmarks.reading import Files, need
from arm.evaluation.benchmarks.seed import by_id
from arm.evaluation.production.rows import Row, first_of

Rows = list[Row]


def plain(files: Files, name: str) -> Rows:
    """Rows as they stand."""
    return files.rows(name)


def of_objects(files: Files, name: str) -> Rows:
    """{"12": {"prompt": …}}  ->  {"key": "12", "prompt": …}"""
    found = files.json(name)
    if not isinstance(found, Mapping) or not all(isinstance(row, Mapping) for row in found.values()):
        raise UserError(f"{files.folder.url}/{name} is not an object of objects, id -> what is asked.")
    return [{"key": str(key), **row} for key, row in found.items()]


def of_listed(files: Files, name: str) -> Rows:
    """The list under `questions`. Videos are left out: no model here is shown any.

    SEED-Bench has ids that come twice; the second is `4312#2`.
    """
    found = files.json(name)
    if not isinstance(found, Mapping) or not isinstance(found.get("questions"), list):
        raise UserError(f"{files.folder.url}/{name} has no list `questions`.")
    named = by_id(found["questions"], name)
    return [{**row, "question_id": uid} for uid, row in named.items() if row.get("data_type", "image") == "image"]


def of_gqa(files: Files, name: str) -> Rows:
    """The balanced questions."""
    rows = files.rows(name) if not name.endswith(".json") else of_objects(files, name)
    named = [{"questionId": str(row.get("key", row.get("id"))), **row} for row in rows]
    return [{key: value for key, value in row.items() if key != "key"} for row in named if row.get("isBalanced", True)]


def of_mme(files: Files, name: str) -> Rows:
    """A line is an image, a question and its answer; the two questions of an image stand one below the other."""
    rows = []
    for number, line in enumerate(files.text(name).removesuffix("\n").split("\n")):
        parts = line.split("\t")
        if len(parts) != 3:
            raise UserError(f"Line {number + 1} of {files.folder.url}/{name} has {len(parts)} cells, not 3.")
        rows.append({"question_id": str(number), "image": parts[0], "question": parts[1], "label": parts[2]})
    return rows


def of_mmbench(files: Files, name: str) -> Rows:
    """What pandas, and so both programs that score the table, takes for an empty cell, is no option and no hint."""
    return [
        {key: value for key, value in row.items() if not (key in ("hint", *LETTERS) and str(value) in MISSING)}
        for row in files.rows(name)
    ]


def of_mmmu(files: Files, name: str) -> Rows:
    """The questions of the validation split alone: a file may hold others, too."""
    rows = []
    for row in files.rows(name):
        need(row, ("id", "question", "question_type", "answer"), name)
        if str(row["id"]).startswith("validation_"):
            if row["question_type"] == "multiple-choice" and not choices_of(row):
                raise UserError(
                    f"{row['id']} of {files.folder.url}/{name} has no list of options: {row.get('options')!r}."
                )
            rows.append(row)
    return rows


def choices_of(row: Mapping[str, Any]) -> list[str]:
    """The list `options` of a row, which MMMU's Parquet holds as text: "['x', 'y']"; empty where there is none."""
    options = row.get("options")
    if isinstance(options, str):
        try:
            options = ast.literal_eval(options)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            options = None
    return [str(option) for option in options[: len(prompts.LETTERS)]] if isinstance(options, list) else []


def options_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Letter -> option: from fields named A or choice_a, else from the list `options`."""
    options = {}
    for letter, listed in zip_longest(prompts.LETTERS, choices_of(row)):
        choice = first_of(row, (letter, f"choice_{letter.lower()}")) or listed
        if choice is not None and str(choice) != "nan":
            options[letter] = str(choice)
    return options


def of_dpg(files: Files, name: str) -> Rows:
    """A prompt an item; the CSV repeats it with every question."""
    rows = files.rows(name)
    for row in rows:
        need(row, ("item_id", "text"), name)
    prompts = {str(row["item_id"]): row["text"] for row in rows}
    return [{"item_id": item, "prompt": text} for item, text in prompts.items()]


def of_wise(files: Files, name: str) -> Rows:
    """The prompts of every file of the folder, in the order of their ids."""
    names = sorted(found for found in files.names if found.endswith((".json", ".jsonl")))
    rows = [row for found in names for row in files.rows(found)]
    for row in rows:
        need(row, ("prompt_id", "Prompt"), name)
    return sorted(rows, key=lambda row: int(row["prompt_id"]))


def of_gedit_en(files: Files, name: str) -> Rows:
    """The edits with English instructions."""
    return _of_language(files, name, ("en",))


def of_gedit_cn(files: Files, name: str) -> Rows:
    """The edits with Chinese instructions."""
    return _of_language(files, name, ("cn", "zh"))


def _of_language(files: Files, name: str, languages: tuple[str, ...]) -> Rows:
    """Rows of one language from every file: the data set comes in several."""
    suffix = name[name.rindex(".") :]
    rows = [row for found in sorted(files.names) if found.endswith(suffix) for row in files.rows(found)]
    for row in rows:
        need(row, ("key", "task_type", "instruction", "instruction_language", "input_image"), name)
    return [row for row in rows if row["instruction_language"] in languages]
