"""MME: two questions an image, answered yes or no; for each task 100 times accuracy plus accuracy+, then the sum.

results/<task>.txt      image<TAB>question<TAB>Yes<TAB>the model's answer, the two questions of an image one below the other

An answer counts where it equals yes or no in lower case, or has `yes`, else `no`, among its first four characters: "I do
not know" is no answer, "none" is no, "Y" is none. Accuracy+ is the share of images with both questions right.
Source: MME's calculation.py (github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from arm.errors import UserError
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals, scaled
from arm.evaluation.benchmarks.reading import Files, Source
from arm.evaluation.benchmarks.result import CHECKED, Failure, Published, Result, Scored, failed, make_result
from arm.evaluation.losses import NO_ANSWER
from arm.evaluation.statistics import Estimate

TASKS: Mapping[str, tuple[str, ...]] = {
    "Perception": (
        "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
    ),
    "Cognition": ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
}  # fmt: skip
QUESTIONS: Mapping[str, int] = {
    "existence": 60, "count": 60, "position": 60, "color": 60, "posters": 294, "celebrity": 340, "scene": 400,
    "landmark": 400, "artwork": 400, "OCR": 40,
    "commonsense_reasoning": 140, "numerical_calculation": 40, "text_translation": 40, "code_reasoning": 40,
}  # fmt: skip
"""Two an image: 2,114 of perception, of which alone the headline is, and 260 of cognition. Source: arXiv 2306.13394, section 2."""
PUBLISHED = Published(
    name="mme", headline="perception", aggregation="sum over the ten tasks of 100 (accuracy + accuracy+)",
    published_items=sum(QUESTIONS.values()), checked={"all": CHECKED},
)  # fmt: skip


def parse(reply: str) -> str:
    """yes, no or other."""
    text = reply.lower()
    if text in ("yes", "no"):
        return text
    return next((word for word in ("yes", "no") if word in text[:4]), "other")


def judge(uid: str, task: str, label: str, reply: str) -> Scored:
    """One question; what is neither yes nor no is wrong, and flagged."""
    wanted, answer = label.lower(), parse(reply)
    right = answer == wanted
    return Scored(
        uid=uid, group=task, outcome="ok", strict=right, score=float(right), answer=answer, wanted=wanted,
        reasons=() if right else (f"answered {answer}, expected {wanted}",),
        flags=("neither yes nor no",) if answer == "other" else (),
    )  # fmt: skip


def read_line(line: str, task: str, number: int) -> tuple[str, str] | Failure:
    """Label and answer of one line; the official program stops at a line of another shape."""
    parts = line.split("\t")
    if len(parts) == 3:
        return Failure(NO_ANSWER)
    if len(parts) != 4:
        return Failure(f"line {number + 1} of {task}.txt has {len(parts)} cells, not 4")
    if parts[2].lower() not in ("yes", "no"):
        return Failure(f"line {number + 1} of {task}.txt has the label {parts[2]!r}")
    return parts[2], parts[3]


def aggregate(items: Sequence[Scored], intervals: Intervals) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """Each task's score and the two sums. An image is worth 50, 100 for both, and 100 more for both together; one with a
    failed line is not right in both, as in the official program."""
    images: dict[str, dict[str, list[bool]]] = {}
    for item in items:
        answers = images.setdefault(item.group, {}).setdefault(item.uid.rpartition("/")[0], [])
        answers += [item.strict] if item.outcome == "ok" else []
    images = {task: found for task, found in images.items() if any(found.values())}
    worth = {
        task: [100 * (sum(both) / max(1, len(both)) + _is_plus(both)) for both in found.values()]
        for task, found in images.items()
    }
    exact = {task: _task_score(list(found.values())) for task, found in images.items()}
    estimates = {task: intervals.mean(worth[task], value=exact[task]) for task in worth}
    for name, tasks in TASKS.items():
        there = [task for task in tasks if task in worth]
        if there:
            mean = intervals.groups({task: worth[task] for task in there}, "macro")
            total = sum(exact[task] for task in there)
            estimates[name.lower()] = scaled(mean, len(there), value=total)
    return estimates, {"printed": printed(exact)}


def printed(exact: Mapping[str, float]) -> str:
    """The lines that the official program prints."""
    lines: list[str] = []
    for name, tasks in TASKS.items():
        there = [task for task in tasks if task in exact]
        total = sum(exact[task] for task in there)
        lines += [f"=========== {name} ===========", f"total score: {total} ", ""]
        lines += [f"\t {task}  score: {exact[task]}" for task in there]
        lines += ["", ""]
    return "\n".join(lines) + "\n"


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Score the tasks that have a file. The headline needs the ten of perception; cognition may be left out whole."""
    items: list[Scored] = []
    missing: list[str] = []
    expected: dict[str, int] = {}
    for task in (task for tasks in TASKS.values() for task in tasks):
        source = _source(task)
        own, asked = results.look(source), data.look(source)
        found = _judge_task(results.text(own), task, results.place(own)) if own else []
        items += found
        missing += [] if own else [task]
        if asked and not (own and results.place(own) == data.place(asked)):
            expected[task] = max(len(found), len(_lines(data.text(asked))))
        else:
            expected[task] = len(found) or QUESTIONS[task]
    if not items:
        results.find(_source("existence"))
    published = PUBLISHED
    left_out = set(missing) & set(TASKS["Cognition"])  # takes nothing from the headline
    if left_out == set(TASKS["Cognition"]):
        published = dataclasses.replace(PUBLISHED, published_items=sum(QUESTIONS[task] for task in TASKS["Perception"]))
        missing = [task for task in missing if task not in left_out]
    estimates, details = aggregate(items, Intervals(config))
    return make_result(
        published, config, items=items, estimates=estimates, details=details,
        num_expected=sum(number for task, number in expected.items() if task not in left_out),
        notes=[f"no answers for {task}" for task in missing],
    )  # fmt: skip


def _source(task: str) -> Source:
    """The file of one task, with the questions alone or with answers."""
    return Source(
        what="a file of answers a task", names=(f"{task}.txt",), licence="academic use only", is_part=True,
        where="the model's answers, in the layout of MME's eval_tool/Your_Results",
    )  # fmt: skip


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _judge_task(text: str, task: str, place: str) -> list[Scored]:
    lines = _lines(text)
    if len(lines) % 2:
        raise UserError(f"{place} has {len(lines)} lines; MME has two questions an image, one below the other.")
    found = []
    for number, line in enumerate(lines):
        uid = f"{task}/{number // 2:04d}/{number % 2}"
        read = read_line(line, task, number)
        if isinstance(read, Failure):
            found.append(failed(uid, task, read.reason, "".join(line.split("\t")[2:3]).lower()))
        else:
            found.append(judge(uid, task, *read))
    return found


def _task_score(images: Sequence[Sequence[bool]]) -> float:
    answers = [right for both in images for right in both]
    accuracy, plus = sum(answers) / len(answers), sum(map(_is_plus, images)) / len(images)
    return accuracy * 100 + plus * 100


def _is_plus(both: Sequence[bool]) -> bool:
    return len(both) == 2 and all(both)
