"""What each benchmark asks, as rows that `layouts` and `answers` read: its own files, brought into one shape.

MME          COCO_….jpg<TAB>Is there a dog? …<TAB>Yes        ->  {"question_id": "0", "image": "COCO_….jpg", "question": …}
VQAv2        {"questions": [{"question_id": 1, …}]}          ->  {"question_id": 1, …}
GQA          {"2000": {"question": …, "isBalanced": true}}   ->  {"questionId": "2000", "question": …}

Every field that is needed later, the right answers of the scorer too, is looked for here: a UserError names the file, the
row and the field while nothing has been asked yet.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks import dpg, gedit, mmmu, pope, prompts
from arm.evaluation.benchmarks.mmbench import LETTERS, MISSING
from arm.evaluation.benchmarks.reading import Files, check_filled, need, row_of, whole_number
from arm.evaluation.benchmarks.seed import by_id
from arm.evaluation.production.rows import Row, first_of

Rows = list[Row]
SUBJECT = re.compile(r"[\w-]+")
"""Of MMMU: Art_Theory."""
REFERENCE_LENGTH = 64
"""A shorter `image` of MMBench is no image, but the index of the row that holds it (VLMEvalKit, image_base.py)."""


def _filled(files: Files, name: str, columns: Sequence[str]) -> Rows:
    """The rows of a table, none without something in each column."""
    rows = files.rows(name)
    check_filled(rows, columns, files.place(name))
    return rows


def of_geneval(files: Files, name: str) -> Rows:
    """Prompts with their metadata, whose clauses the detector and the rule read."""
    rows = _filled(files, name, ("tag", "prompt", "include"))
    for number, row in enumerate(rows):
        for clause in [*row["include"], *(row.get("exclude") or [])]:
            if not (isinstance(clause, Mapping) and "class" in clause and isinstance(clause.get("count"), int)):
                raise UserError(
                    f"{row_of(number, files.place(name))} has the clause {clause!r}, which needs a class and a count."
                )
    return rows


def of_pope(files: Files, name: str) -> Rows:
    """Questions with the label that Hugging Face's files call `answer`."""
    return pope.read_questions(files, name)


def of_imgedit(files: Files, name: str) -> Rows:
    """{"12": {"prompt": …}}  ->  {"key": "12", "prompt": …}"""
    rows = _of_objects(files, name)
    check_filled(rows, ("prompt", "edit_type"), files.place(name))
    return rows


def of_seed(files: Files, name: str) -> Rows:
    """The questions about images: no model here is shown videos.

    SEED-Bench has ids that come twice; the second is `4312#2`.
    """
    rows = _listed(files, name)
    check_filled(rows, ("question_id", "question", "answer", "choice_a"), files.place(name))
    named = by_id(rows, name)
    return [{**row, "question_id": uid} for uid, row in named.items() if row.get("data_type", "image") == "image"]


def of_vqav2(files: Files, name: str) -> Rows:
    """The list under `questions`; the right answers are another file's."""
    rows = _listed(files, name)
    check_filled(rows, ("question_id", "question"), files.place(name))
    return rows


def of_gqa(files: Files, name: str) -> Rows:
    """The balanced questions."""
    rows = files.rows(name) if not name.endswith(".json") else _of_objects(files, name)
    check_filled(rows, ("question", "answer"), files.place(name))
    named = [{"questionId": str(row.get("key", row.get("id"))), **row} for row in rows]
    return [{key: value for key, value in row.items() if key != "key"} for row in named if row.get("isBalanced", True)]


def of_mme(files: Files, name: str) -> Rows:
    """A line is an image, a question and its answer; the two questions of an image stand one below the other."""
    rows = []
    for number, line in enumerate(files.text(name).removesuffix("\n").split("\n")):
        parts = line.split("\t")
        if len(parts) != 3:
            raise UserError(f"Line {number + 1} of {files.place(name)} has {len(parts)} cells, not 3.")
        if parts[2].lower() not in ("yes", "no"):
            raise UserError(f"Line {number + 1} of {files.place(name)} has the answer {parts[2]!r}, not Yes or No.")
        rows.append({"question_id": str(number), "image": parts[0], "question": parts[1], "label": parts[2]})
    if len(rows) % 2:
        raise UserError(f"{files.place(name)} has {len(rows)} lines; MME has two questions an image.")
    return rows


def of_mmbench(files: Files, name: str) -> Rows:
    """What pandas, and so both programs that score the table, takes for an empty cell, is no option and no hint.

    A row may name the row that holds its image: {"index": "1000000", "image": "0"}  ->  that of the index 0.
    """
    rows = _filled(files, name, ("index", "question", "answer"))
    images = {str(row["index"]): row.get("image") for row in rows}
    found = []
    for number, row in enumerate(rows):
        where = row_of(number, files.place(name))
        whole_number(row, "index", where)
        need(row, ("A", "B"), where)
        kept = {key: value for key, value in row.items() if not (key in ("hint", *LETTERS) and str(value) in MISSING)}
        image = row.get("image")
        if isinstance(image, str) and len(image) <= REFERENCE_LENGTH and image in images:
            kept["image"] = images[image]
        found.append(kept)
    return found


def of_mmmu(files: Files, name: str) -> Rows:
    """The questions of the validation split alone: a file may hold others, too."""
    place = files.place(name)
    rows = [row for row in _filled(files, name, ("id",)) if str(row["id"]).startswith("validation_")]
    check_filled(rows, ("question", "question_type", "answer"), place)
    for row in rows:
        if not SUBJECT.fullmatch(mmmu.subject_of(str(row["id"]))):  # which names files
            raise UserError(f"{place} has the id {row['id']!r}; it must be validation_<subject>_<number>.")
        if row["question_type"] == "multiple-choice" and not choices_of(row):
            raise UserError(f"{row['id']} of {place} has no list of options: {row.get('options')!r}.")
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


def of_classes(files: Files, name: str) -> Rows:
    """{"n01440764": "tench"}  ->  {"folder": "n01440764", "class": "tench"}"""
    found = files.json(name)
    if not isinstance(found, Mapping) or not all(isinstance(title, str) for title in found.values()):
        raise UserError(f"{files.place(name)} is not an object, folder -> name of the class.")
    return [{"folder": folder, "class": title} for folder, title in found.items()]


def options_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Letter -> option: from fields named A or choice_a, else from the list `options`."""
    options = {}
    for letter, listed in zip_longest(prompts.LETTERS, choices_of(row)):
        choice = first_of(row, (letter, f"choice_{letter.lower()}"))
        choice = listed if choice is None else choice  # 0 is an option
        if choice is not None and str(choice) != "nan":
            options[letter] = str(choice)
    return options


def of_dpg(files: Files, name: str) -> Rows:
    """A prompt an item; the CSV repeats it with every question."""
    rows = _filled(files, name, ("item_id", "text"))
    dpg.read_questions(rows, "corrected", files.place(name))
    prompts = {str(row["item_id"]): row["text"] for row in rows}
    return [{"item_id": item, "prompt": text} for item, text in prompts.items()]


def of_wise(files: Files, name: str) -> Rows:
    """The prompts of every file of the folder, in the order of their ids; the judge is told each prompt's explanation."""
    numbered = []
    for found in sorted(found for found in files.names if found.endswith((".json", ".jsonl"))):
        place = files.place(found)
        for number, row in enumerate(_filled(files, found, ("prompt_id", "Prompt"))):
            need(row, ("Explanation",), row_of(number, place))
            numbered.append((whole_number(row, "prompt_id", row_of(number, place)), row))
    return [row for _, row in sorted(numbered, key=lambda pair: pair[0])]


def of_gedit_en(files: Files, name: str) -> Rows:
    """The edits with English instructions."""
    return _of_language(files, name, gedit.LANGUAGES["en"])


def of_gedit_cn(files: Files, name: str) -> Rows:
    """The edits with Chinese instructions."""
    return _of_language(files, name, gedit.LANGUAGES["cn"])


def _of_language(files: Files, name: str, languages: Sequence[str]) -> Rows:
    """Rows of one language from every file: the data set comes in several."""
    suffix = name[name.rindex(".") :]
    rows = []
    for found in sorted(found for found in files.names if found.endswith(suffix)):
        columns = ("key", "task_type", "instruction", "instruction_language", "input_image")
        for number, row in enumerate(_filled(files, found, columns)):
            if row["task_type"] not in gedit.GROUPS:
                raise UserError(
                    f"{row_of(number, files.place(found))} has the task_type {row['task_type']!r}; the scorer knows "
                    f"{', '.join(gedit.GROUPS)}."
                )
            rows.append(row)
    return [row for row in rows if row["instruction_language"] in languages]


def _listed(files: Files, name: str) -> Rows:
    """{"questions": [{…}]}  ->  {…}"""
    found = files.json(name)
    listed = found.get("questions") if isinstance(found, Mapping) else None
    if not isinstance(listed, list) or not all(isinstance(row, Mapping) for row in listed):
        raise UserError(f"{files.place(name)} has no list `questions` of objects.")
    return listed


def _of_objects(files: Files, name: str) -> Rows:
    """{"12": {"prompt": …}}  ->  {"key": "12", "prompt": …}"""
    found = files.json(name)
    if not isinstance(found, Mapping) or not all(isinstance(row, Mapping) for row in found.values()):
        raise UserError(f"{files.place(name)} is not an object of objects, id -> what is asked.")
    return [{"key": str(key), **row} for key, row in found.items()]
