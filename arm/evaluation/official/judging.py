"""What looks at drawn images: a detector, a model that answers questions, a judge that gives marks.

Each writes the file that the benchmark's scorer reads. A judge that nobody reached is an error: its replies so far are kept,
and the same command asks for the rest.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks import dpg
from arm.evaluation.benchmarks.reading import Files
from arm.evaluation.imaging import encode_png, resize_like
from arm.evaluation.inference import read_image
from arm.evaluation.items import Pixels
from arm.evaluation.jsonl import to_json, to_lines
from arm.evaluation.judge import Judge, Question, endpoint_from_environment
from arm.evaluation.judge_ledger import JudgeLedger, JudgeReply
from arm.evaluation.models import model as models
from arm.evaluation.models.kinds import load
from arm.evaluation.official.config import OfficialConfig
from arm.evaluation.official.suites import Suite
from arm.evaluation.production.journal import Journal
from arm.evaluation.production.layouts import Picture, Request
from arm.evaluation.production.pictures import Pictures, read_picture
from arm.evaluation.production.rows import Row
from arm.evaluation.rubric import Rubric, load_rubric
from arm.progress import Progress
from arm.storage import Folder, sha256_of

YES_OR_NO = " Answer yes or no."
"""What follows DPG's questions; its authors' mPLUG is asked without."""


def detect(made: Path, config: OfficialConfig, scratch: Path) -> bytes:
    """The detections of every image of the layout geneval."""
    from arm.evaluation.detectors.colours import load_namer
    from arm.evaluation.detectors.detect import detect_objects
    from arm.evaluation.detectors.detector import load_detector

    output = scratch / "detections.jsonl"
    detect_objects(load_detector(config.detector), lambda: load_namer(config.detector), made, output)
    return output.read_bytes()


def ask_questions(
    made: Path, data: Files, config: OfficialConfig, scratch: Path, *, num_images: int
) -> tuple[bytes, list[Row]]:
    """Item -> question -> the answer to each of its images, by the questioner: the first word in lower case.

    Beside it the items that the questioner failed on, {"uid", "sha256", "failed": why}: missing, and asked by the next run.
    """
    name = data.find(dpg.DATA)
    asked = dpg.read_questions(data.rows(name), "corrected", data.place(name))
    model = load(config.questioner, "answer")
    journal = Journal(scratch / "answers.jsonl")
    there = {item: made / f"{item}.png" for item in asked if (made / f"{item}.png").exists()}
    digests = {item: sha256_of(path) for item, path in there.items()}
    missing = [item for item in there if journal.rows.get(item, {}).get("sha256") != digests[item]]
    progress = Progress("ask about images", total=len(there), done=len(there) - len(missing))
    for item in missing:
        crops = crops_of(read_image(there[item]), num_images)
        texts = list(dict.fromkeys(asked[item].text.values()))
        questions = [
            models.Question(uid=f"{item}/{number}/{place}", text=text + YES_OR_NO, images=(crop,))
            for number, text in enumerate(texts)
            for place, crop in enumerate(crops)
        ]
        answers, seen = model.answer(questions), {"uid": item, "sha256": digests[item]}
        progress.advance()
        if failed := next((answer for answer in answers if isinstance(answer, models.Failed)), None):
            journal.append([{**seen, "failed": failed.reason}])
            continue
        words = [_first_word(str(answer)) for answer in answers]
        size = len(crops)
        rows = {text: words[size * number : size * (number + 1)] for number, text in enumerate(texts)}
        journal.append([{**seen, "answers": rows}])
    progress.close()
    journal.finish(list(there))
    of_each = [journal.rows[item] for item in there]
    found = {row["uid"]: row["answers"] for row in of_each if "failed" not in row}
    return to_json(found), [row for row in of_each if "failed" in row]


def crops_of(image: Pixels, num_images: int) -> list[Pixels]:
    """The images that a file holds: one as it is, four out of a grid of two by two, as compute_dpg_bench.py cuts them."""
    if num_images == 1:
        return [image]
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return [image[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]


def _first_word(answer: str) -> str:
    return "".join(mark if mark.isalnum() else " " for mark in answer.strip().lower()).split(" ")[0]


def open_judge(config: OfficialConfig, scratch: Path) -> Judge:
    """The judge behind the endpoint, with its ledger."""
    endpoint = None if config.judge.mode == "replay" else endpoint_from_environment()
    return Judge(config.judge, JudgeLedger(config.ledger or scratch / "judge.sqlite"), endpoint)


def give_marks(
    suite: Suite,
    pictures: Sequence[Picture],
    rows: Mapping[str, Row],
    made: Folder,
    images: Pictures | None,
    judge: Judge,
) -> list[Row]:
    """One row an image that was made: uid, and the reply to each rubric; UserError when somebody was not reached."""
    rubrics = [load_rubric(name) for name in suite.rubrics]
    there = set(made.list())
    found, unreached = [], list[JudgeReply]()
    progress = Progress("judge images", total=len(pictures))
    for start in range(0, len(pictures), judge.config.num_workers):
        some = [picture for picture in pictures[start : start + judge.config.num_workers] if picture.path in there]
        asked = [question_of(rubric, picture, rows, made, images) for picture in some for rubric in rubrics]
        replies = iter(judge.ask_all(asked))
        for picture in some:
            own = {rubric.name: next(replies) for rubric in rubrics}
            unreached += [reply for reply in own.values() if reply.outcome == "failed"]
            found.append(
                {"uid": picture.requests[0].uid, "replies": {name: _row(reply) for name, reply in own.items()}}
            )
        progress.advance(len(some))
    progress.close()
    if unreached:
        raise UserError(
            f"{len(unreached)} judgements could not be had ({unreached[0].reason}); the same command asks for them again."
        )
    return found


def question_of(
    rubric: Rubric, picture: Picture, rows: Mapping[str, Row], made: Folder, images: Pictures | None
) -> Question:
    """A rubric about one image: of two, the first is the source, to whose size the edited one is brought (GEdit)."""
    request = picture.requests[0]
    drawn = read_image(made.fetch(picture.path))
    shown: tuple[Pixels, ...] = (drawn,)
    if rubric.images == 2:
        source = read_picture(request.source, images)
        shown = (source, resize_like(drawn, source))
    return Question(rubric, _fields(rubric, request, rows[request.uid]), tuple(encode_png(image) for image in shown))


def _fields(rubric: Rubric, request: Request, row: Row) -> dict[str, str]:
    every = {
        "prompt": request.prompt, "instruction": request.prompt, "explanation": str(row.get("Explanation", "")),
        "edit_type": str(row.get("edit_type", "")),
    }  # fmt: skip
    return {name: every[name] for name in rubric.fields() if name in every}


def write_marks(suite: Suite, marks: Sequence[Row], rows: Mapping[str, Row]) -> bytes:
    """Replies as the scorer of WISE, GEdit or ImgEdit reads them."""
    if suite.name == "imgedit":
        return to_json({row["uid"]: _text(row, "imgedit") for row in marks})
    lines: list[Row] = []
    for mark in marks:
        row = rows[mark["uid"]]
        written: dict[str, Any] = {"prompt_id": mark["uid"], "evaluation": _text(mark, suite.rubrics[0])}
        if suite.task == "edit":
            written = {
                "uid": mark["uid"], "group": row["task_type"], "language": row["instruction_language"],
                "intersection_exist": row.get("Intersection_exist", row.get("intersection_exist")),
                "sc_reply": _text(mark, suite.rubrics[0]), "pq_reply": _text(mark, suite.rubrics[1]),
            }  # fmt: skip
        lines.append(written)
    return to_lines(lines)


def _text(mark: Row, rubric: str) -> str:
    """What the judge wrote; nothing where it refused, which the scorer counts as failed."""
    return str(mark["replies"][rubric]["text"])


def _row(reply: JudgeReply) -> Row:
    return {"outcome": reply.outcome, "text": reply.value.get("text", ""), "reason": reply.reason}
