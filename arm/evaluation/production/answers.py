"""Asks a model every question of a data file that has no answer yet.

    {"question_id": 1, "image": "COCO_….jpg", "text": "Is there a snowboard in the image?", "label": "yes"}
->  the same with {"uid": "1", "question": "Is there a …", "prompt": "…", "answer": "Yes.", "prediction": "Yes."}

The model's words are `prediction` and `response`, as benchmarks name them, and `answer` too where the row holds no right
answer under that name. The row's other fields stay (images that the file itself holds are left out), so that a scorer needs
no other file. A question that failed has `"failed": reason` and no words, and is asked again by the next run.

Beside the answers lies `answers.jsonl.protocol.json`: model, settings, digest of the questions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks.prompts import STYLES
from arm.evaluation.models.model import Failed, Model, Question
from arm.evaluation.production.journal import Journal
from arm.evaluation.production.pictures import Pictures, read_picture
from arm.evaluation.production.protocol import batches_to_make, claim
from arm.evaluation.production.questions import options_of
from arm.evaluation.production.rows import Row, digest_of, first_of
from arm.progress import Progress
from arm.storage import open_folder

TEXTS = ("question", "text", "prompt")
UIDS = ("question_id", "questionId", "index", "id", "uid", "key")
PICTURES = re.compile(r"image(_?\d+)?|images")
"""Fields that hold images: image, images, image_1 … image_7 (MMMU)."""
PICTURE_IDS = ("imageId", "image_id", "data_id")
"""Fields that name the image where none holds it: GQA, VQAv2, SEED-Bench."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A row as the model sees it; images are read when it is asked."""

    uid: str
    prompt: str
    images: tuple[Any, ...]
    row: Mapping[str, Any]


def answer_questions(
    model: Model, kind: str, rows: Sequence[Row], output: Path, *, style: str, images: Pictures | None, batch_size: int,
    part: str = "",
) -> dict[str, int]:  # fmt: skip
    """Answer what has no answer yet; returns the counts. `part` tells images of one name apart."""
    asked = read_questions(rows, style)
    folder = open_folder(str(output.parent))
    claim(folder, f"{output.name}.protocol.json", {
        "kind": kind, "model": model.name, "settings": model.protocol(), "style": style,
        "questions": {"count": len(asked), "digest": digest_of([(item.uid, item.prompt) for item in asked])},
    })  # fmt: skip
    journal = Journal(output)
    missing = [item.uid for item in asked if item.uid not in journal.rows]
    wanted = frozenset(missing)
    progress = Progress("answer questions", total=len(asked), done=len(asked) - len(missing))
    for batch in batches_to_make(asked, lambda item: item.uid in wanted, batch_size, independent=model.independent):
        rows = [row for row in _answered(model, batch, images, part) if row["uid"] in wanted]
        journal.append(rows)
        progress.advance(len(rows))
    progress.close()
    journal.finish([item.uid for item in asked])
    failed = sum("failed" in journal.rows[uid] for uid in missing)
    return {
        "questions_expected": len(asked), "questions_there": len(asked) - len(missing),
        "questions_answered": len(missing) - failed, "questions_failed": failed,
    }  # fmt: skip


def read_questions(rows: Sequence[Row], style: str) -> list[Asked]:
    """Rows as questions, in the wording of the style (`prompts.STYLES`)."""
    asked, taken = [], set[str]()
    numbers = count()
    for row in rows:
        number = next(numbers)
        uid = str(number if first_of(row, UIDS) is None else first_of(row, UIDS))
        if uid in taken:
            raise UserError(f"Two questions are called {uid!r}; their names must differ.")
        taken.add(uid)
        asked.append(Asked(uid=uid, prompt=prompt_of(row, uid, style), images=pictures_of(row), row=row))
    return asked


def prompt_of(row: Mapping[str, Any], uid: str, style: str) -> str:
    """The text that the model is asked.

    {"hint": "…", "question": "Which?", "A": "x", "B": "y"}, choice  ->  …⏎Which?⏎A. x⏎B. y⏎Answer with …
    """
    question = first_of(row, TEXTS)
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"Question {uid} has no text; it must be in one of {', '.join(TEXTS)}.")
    hint = row.get("hint")
    given = hint if isinstance(hint, str) and hint.strip() and hint != "nan" else ""
    return STYLES[style](question, options_of(row), given)


def pictures_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The row's images in the order of their names; `images` holds several."""
    found: list[Any] = []
    for name in sorted(name for name in row if PICTURES.fullmatch(name)):
        value = row[name]
        found += value if isinstance(value, list) else [value]
    held = tuple(value for value in found if value not in (None, "", "nan"))
    named = first_of(row, PICTURE_IDS)
    return held or (() if named is None else (named,))


def _answered(model: Model, some: Sequence[Asked], images: Pictures | None, part: str) -> list[Row]:
    questions = [
        Question(
            uid=item.uid, text=item.prompt, images=tuple(read_picture(value, images, part) for value in item.images)
        )
        for item in some
    ]
    return [_row(item, made) for item, made in zip(some, model.answer(questions), strict=True)]


def _row(item: Asked, made: str | Failed) -> Row:
    kept = {name: value for name, value in item.row.items() if _is_small(name, value)}
    text = None if isinstance(made, Failed) else made
    given = {"prediction": text, "response": text, **({} if "answer" in item.row else {"answer": text})}
    reasons = {"failed": made.reason} if isinstance(made, Failed) else {}
    question = first_of(item.row, TEXTS)
    asked = {"uid": item.uid, "question": question, "prompt": item.prompt}
    return {"question_id": item.uid, **kept, **asked, **given, **reasons}


def _is_small(name: str, value: Any) -> bool:
    """Whether a field goes into the answers: no image bytes, in base64 or otherwise, and no nested table.

    A list of plain values is small: MMMU's options, and its right answers where there are several.
    """
    values = value if isinstance(value, list) else [value]
    plain = all(part is None or isinstance(part, str | int | float | bool) for part in values)
    return plain and not (PICTURES.fullmatch(name) and len(str(value)) > 1000)
