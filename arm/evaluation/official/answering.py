"""Answers of a model in the files that each benchmark's scorer reads.

A question without an answer is left out, and missing; of MME, whose lines are pairs, its line ends before the answer.
"""

from collections.abc import Callable, Sequence
from typing import Any

from arm.evaluation.benchmarks.prompts import LETTERS
from arm.evaluation.jsonl import to_json, to_lines
from arm.evaluation.production.questions import choices_of
from arm.evaluation.production.rows import Row


def write_answers(name: str, rows: Sequence[Row]) -> bytes:
    """The file of one benchmark, from the rows of `answer_questions`."""
    writer = WRITERS.get(name)
    written = [row for row in rows if name in PAIRED or "failed" not in row]
    return writer(written) if writer else to_lines(written)


def _gqa(rows: Sequence[Row]) -> bytes:
    return to_json([{"questionId": row["questionId"], "prediction": row["prediction"]} for row in rows], indent=1)


def _vqav2(rows: Sequence[Row]) -> bytes:
    return to_json([{"question_id": row["question_id"], "answer": row["prediction"]} for row in rows], indent=1)


def _mme(rows: Sequence[Row]) -> bytes:
    """image<TAB>question<TAB>Yes<TAB>answer; blanks in place of tabs and line ends in the answer; nothing where it failed."""
    lines = [
        "\t".join((row["image"], row["question"], row["label"]))
        + ("" if "failed" in row else "\t" + " ".join(row["prediction"].split()))
        for row in rows
    ]
    return ("\n".join(lines) + "\n").encode()


def _mmmu(rows: Sequence[Row]) -> bytes:
    """Letters stand for the options in their order."""
    found = []
    for row in rows:
        options = dict(zip(LETTERS, choices_of(row), strict=False))
        names: dict[str, Any] = {"all_choices": list(options), "index2ans": options} if options else {}
        found.append(
            {name: row[name] for name in ("id", "question_type", "answer")} | names | {"response": row["prediction"]}
        )
    return to_json(found, indent=1)


WRITERS: dict[str, Callable[[Sequence[Row]], bytes]] = {"gqa": _gqa, "vqav2": _vqav2, "mme": _mme, "mmmu": _mmmu}
"""Benchmark -> how its answers are written, where rows as they stand are not what its program reads."""
PAIRED = ("mme",)
"""Benchmarks that find a question by the place of its line."""
