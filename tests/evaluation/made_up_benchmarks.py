"""An evaluation of other authors' benchmarks, made up: answers and detections are drawn, and the real scorers write the rest."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made_up_store import HOSTILE

from arm import manifest as manifests
from arm.evaluation.benchmarks.gedit import GROUPS
from arm.evaluation.benchmarks.mme import TASKS
from arm.evaluation.benchmarks.pope import SETS
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.imaging import encode_png
from arm.evaluation.models.model import Failed, Question, Unable
from arm.evaluation.official.config import OfficialConfig
from arm.evaluation.official.identity import model_record
from arm.evaluation.official.run import open_bench, run_answers, score
from arm.manifest import Manifest
from arm.storage import open_folder

NAMES = ("geneval", "gedit_en", "pope", "mme")
TAGS = ("color_attr", "colors", "counting", "position", "single_object", "two_object")
PROMPTS_A_TAG, IMAGES, QUESTIONS, EDITS = 6, 2, 20, 2


class Knowing(Unable):
    """Answers yes or no, right as often as its skill says; a question that it got right stays right with more skill."""

    name, independent = "knowing", True

    def __init__(self, skill: float) -> None:
        self.skill = skill

    def protocol(self) -> dict[str, Any]:
        return {"skill": self.skill}

    def answer(self, questions: Sequence[Question]) -> list[str | Failed]:
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> str:
        knows = random.Random(question.text + question.uid).random() < self.skill
        wanted = question.text.rpartition("object ")[2].startswith("y")
        return "Yes, there is." if wanted == knows else f"No. {HOSTILE}"


def make_data(root: Path) -> Path:
    """The data sets, in the layout of their authors; a question about `object y…` has the answer yes."""
    data = root / "data"
    for name in SETS:
        rows = [
            {"question_id": n, "image": "a.png", "text": f"In {name}: is there an object {'yn'[n % 2]}{n}?", "label": ("yes", "no")[n % 2]}
            for n in range(QUESTIONS)
        ]  # fmt: skip
        write_lines(data / "pope" / f"coco_pope_{name}.json", rows)
    for task in (task for tasks in TASKS.values() for task in tasks):
        lines = [
            f"{n // 2}.png\tIn {task}: is there an object {'yn'[n % 2]}{n}?\t{('Yes', 'No')[n % 2]}"
            for n in range(QUESTIONS)
        ]
        (data / "mme").mkdir(parents=True, exist_ok=True)
        (data / "mme" / f"{task}.txt").write_text("\n".join(lines) + "\n")
        for n in range(QUESTIONS // 2):
            (data / "mme" / f"{n}.png").write_bytes(picture(0))
    (data / "pope" / "a.png").write_bytes(picture(0))
    write_lines(data / "geneval" / "evaluation_metadata.jsonl", prompts())
    edits = [
        {"key": f"{group}-{n}", "task_type": group, "instruction": "make it red", "instruction_language": "en", "input_image": "a.png"}
        for group in GROUPS for n in range(EDITS)
    ]  # fmt: skip
    write_lines(data / "gedit_en" / "gedit.jsonl", edits)
    return data


def make_evaluation(
    root: Path,
    data: Path,
    skills: Mapping[str, float],
    *,
    names: Sequence[str] = NAMES,
    weak: str = "",
    lost: int = 0,
    **options: Any,
) -> Manifest:
    """Subjects of some skill on GenEval, GEdit (far from its 606 edits, so refused), POPE and MME; `weak` names a tag of
    GenEval that never comes out right, `lost` answers of POPE are gone, options are those of OfficialConfig."""
    output = open_folder(str(root / "artifact"))
    config = OfficialConfig(data=str(data), **options)
    for subject, skill, name in ((subject, skill, name) for subject, skill in skills.items() for name in names):
        own = replace(config, seeds=IMAGES) if name == "geneval" else config
        bench = open_bench(
            name, subject, open_files(str(data / name)), own, output, batch_size=8, num_bootstraps=200, seed=0
        )
        if name in ("pope", "mme"):
            run_answers(bench, Knowing(skill), "made up")
            _lose(bench.output, lost if name == "pope" else 0)
        elif name == "geneval":
            _draw(bench.output, skill, weak)
        else:
            _edit(bench.output, skill)
        score(bench, model_record("made up", Knowing(skill)))
    return publish(root, "evaluate-model", {"model": {"kind": "huggingface", "model": f"weights/{root.name}"}})


def _lose(output: Any, number: int) -> None:
    """Take the first answers to the random set of POPE away."""
    name = "results/answers_coco_pope_random.jsonl"
    if number:
        output.write(name, b"".join(output.read(name).splitlines(keepends=True)[number:]))


def publish(root: Path, job: str, config: Mapping[str, Any]) -> Manifest:
    """List what lies there, as `jobs.run` does."""
    folder = open_folder(str(root / "artifact"))
    manifest = Manifest(
        kind="evaluation", job=job, version=1, key="0" * 64, config=dict(config), inputs={}, counts={"items_failed": 0}, metrics={},
        files=manifests.entries_of(folder), folder=folder,
    )  # fmt: skip
    folder.write("manifest.json", manifest.to_json())
    open_folder(str(root)).write("current.json", b'{"manifest": "artifact/manifest.json", "digest": ""}')
    return manifest


def prompts() -> list[dict[str, Any]]:
    """GenEval's metadata, no two tags with as many prompts; the first prompt of each is hostile."""
    return [
        {"tag": tag, "include": [{"class": "cow", "count": 1}], "prompt": f"a photo of a cow, {tag} {n}" if n else f"a photo of {HOSTILE}"}
        for place, tag in enumerate(TAGS) for n in range(PROMPTS_A_TAG + place)
    ]  # fmt: skip


def save_weights(folder: Path, content: bytes = b"weights") -> Path:
    """A folder that a digest can be taken of, and nothing else."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(content)
    return folder


def picture(seed: int, side: int = 24) -> bytes:
    """A PNG of noise."""
    return encode_png(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8))


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _draw(output: Any, skill: float, weak: str) -> None:
    rows = []
    for number, row in enumerate(prompts()):
        output.write(f"made/{number:05d}/metadata.jsonl", json.dumps(row).encode())
        for sample in range(IMAGES):
            output.write(f"made/{number:05d}/samples/{sample:04d}.png", picture(number))
            right = row["tag"] != weak and random.Random(f"{number}/{sample}").random() < skill
            boxes = {"cow": [[0, 0, 4, 4, 0.95]]} if right else {"cow": []}
            rows.append({"prompt_index": number, "sample": sample, "metadata": row, "detections": boxes})
    output.write("results/detections.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def _edit(output: Any, skill: float) -> None:
    marks, replies = [], []
    for group in GROUPS:
        for number in range(EDITS):
            uid = f"{group}-{number}"
            output.write(f"made/fullset/{group}/en/{uid}.png", picture(number, 300))
            value = round(10 * skill * random.Random(uid).random())
            text = f'{{"score": [{value}, 9], "reasoning": "{HOSTILE[:8]} is visible"}}'
            quality = "Sorry, I cannot." if uid == "ps_human-1" else "[7, 8]"
            marks.append(
                {
                    "uid": uid,
                    "group": group,
                    "language": "en",
                    "intersection_exist": True,
                    "sc_reply": text,
                    "pq_reply": quality,
                }
            )
            replies.append({"uid": uid, "replies": {"viescore_editing": {"outcome": "ok", "text": text, "reason": ""}}})
    for name, rows in (("results/judged.jsonl", marks), ("replies.jsonl", replies)):
        output.write(name, "".join(json.dumps(row) + "\n" for row in rows).encode())
