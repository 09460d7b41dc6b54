"""The table of benchmarks: what is asked of a model, in which layout or style, who judges, what the scorer then reads.

To add one: a scorer in `arm/evaluation/benchmarks`, and an entry here.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Literal

from arm.errors import UserError
from arm.evaluation.benchmarks import dpg, geneval, gqa, imgedit, mmbench, mme, mmmu, pope, seed, vqav2
from arm.evaluation.benchmarks.reading import Files, Source
from arm.evaluation.benchmarks.registry import SCORERS
from arm.evaluation.official.config import OFFICIAL
from arm.evaluation.production import questions
from arm.evaluation.production.rows import Row

Task = Literal["generate_images", "edit", "answer", "classify"]
Judged = Literal["", "objects", "questions", "marks"]
Rows = Callable[[Files, str], list[Row]]
"""(files, name of one) -> what is asked."""


def by_file(name: str, row: Row) -> str:
    """`artwork` of `MME/artwork.txt`: a file is a part."""
    return name.rpartition("/")[2].partition(".")[0]


def by_set(name: str, row: Row) -> str:
    """`coco_pope_random` of POPE's own file and of Hugging Face's `random-00000-of-00001.parquet`."""
    return f"coco_pope_{next(one for one in pope.SETS if one in name.rpartition('/')[2].lower())}"


def by_subject(name: str, row: Row) -> str:
    """`Art_Theory` of the row `validation_Art_Theory_3`: the files of all subjects of MMMU have one name."""
    return mmmu.subject_of(str(row["id"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One benchmark, from data to what its scorer reads."""

    name: str
    task: Task
    """Method of `Model`, or `classify`: asked of the tokenizer alone."""
    sources: tuple[Source, ...]
    """Files that hold what is asked; each is asked apart. The whole data folder goes to the scorer as well."""
    rows: Rows
    truths: Callable[[Files], Container[str]] | None = None
    """The ids of the questions that have a right answer, where those are another file's."""
    layout: str = ""
    """Of the images, where it makes some."""
    style: str = "none"
    """Wording of the questions, where it asks some: a name in `prompts.STYLES`."""
    part_of: Callable[[str, Row], str] = by_file
    """(name of the file, row) -> part of the benchmark; each is asked apart."""
    judged: Judged = ""
    rubrics: tuple[str, ...] = ()
    """What the judge is asked of each image, by name in `arm/evaluation/rubrics`."""
    result: str = "answers.jsonl"
    """File that the scorer reads; `{part}` stands for the part that was asked."""
    also: tuple[Source, ...] = ()
    """Files that the scorer reads beside what is asked."""

    def names(self, files: Files) -> list[str]:
        """The files that hold what is asked; UserError names the first that is not there, where to get it, its licence."""
        for source in self.also:
            files.find(source)
        if not self.is_many:
            return [files.find(source) for source in self.sources]
        (source,) = self.sources
        return files.matching(source.names) or [files.find(source)]

    def asked(self, files: Files) -> dict[str, list[Row]]:
        """Part -> what is asked of it, in the files' order."""
        found: dict[str, list[Row]] = {}
        for name in self.names(files):
            for row in self.rows(files, name):
                found.setdefault(self.part_of(name, row), []).append(row)
        if not found:
            raise UserError(
                f"{files.folder.url} holds nothing to ask for {self.name}; {self.sources[0].what} are empty."
            )
        return found

    @property
    def is_many(self) -> bool:
        """Whether every file that fits is asked: a task or a subject each."""
        return "{part}" in self.result and len(self.sources) == 1


def _source(what: str, names: tuple[str, ...], where: str, licence: str, *, is_many: bool = False) -> Source:
    return Source(what=what, names=names, where=where, licence=licence, is_many=is_many)


GEDIT = _source(
    "the edits with their source images", ("*gedit*.parquet", "*.parquet", "*.jsonl"),
    "huggingface.co/datasets/stepfun-ai/GEdit-Bench", "Apache-2.0", is_many=True,
)  # fmt: skip
WISE = _source(
    "the prompts with what they imply", ("*.json", "*.jsonl"), "github.com/PKU-YuanGroup/WISE, data/", "none stated",
    is_many=True,
)  # fmt: skip
MME_TASKS = tuple(task for tasks in mme.TASKS.values() for task in tasks)
MME = _source(
    "a file of questions a task, image<TAB>question<TAB>answer", tuple(f"{task}.txt" for task in MME_TASKS),
    "github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation (on request)", "academic use only",
)  # fmt: skip
VQA = _source(
    "the questions", ("v2_OpenEnded_mscoco_val2014_questions.json", "*questions*.json"), "visualqa.org/download.html",
    "CC BY 4.0",
)  # fmt: skip
IMAGENET = _source(
    "names of the classes by folder, {\"n01440764\": \"tench\"}, beside val/n01440764/*.JPEG", ("classes.json",),
    "image-net.org and the class names of github.com/openai/CLIP", "ImageNet: research only",
)  # fmt: skip
MARKS = "judged.jsonl"
GEDIT_RUBRICS = ("viescore_editing", "viescore_quality")
SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(name="geneval", task="generate_images", sources=(geneval.DATA,), rows=questions.of_geneval, layout="geneval",
              judged="objects", result="detections.jsonl"),
        Suite(name="dpg", task="generate_images", sources=(dpg.DATA,), rows=questions.of_dpg, layout="dpg",
              judged="questions", result="answers.json"),
        Suite(name="wise", task="generate_images", sources=(WISE,), rows=questions.of_wise, layout="wise", judged="marks",
              rubrics=("wise",), result="scores.jsonl"),
        Suite(name="wise_verified", task="generate_images", sources=(WISE,), rows=questions.of_wise, layout="wise",
              judged="marks", rubrics=("wise_verified",), result="scores.jsonl"),
        Suite(name="gedit_en", task="edit", sources=(GEDIT,), rows=questions.of_gedit_en, layout="gedit", judged="marks",
              rubrics=GEDIT_RUBRICS, result=MARKS),
        Suite(name="gedit_cn", task="edit", sources=(GEDIT,), rows=questions.of_gedit_cn, layout="gedit", judged="marks",
              rubrics=GEDIT_RUBRICS, result=MARKS),
        Suite(name="imgedit", task="edit", sources=(imgedit.DATA,), rows=questions.of_imgedit, layout="imgedit",
              judged="marks", rubrics=("imgedit",), result="result.json"),
        Suite(name="pope", task="answer", sources=pope.QUESTIONS, rows=questions.of_pope, part_of=by_set,
              style="short", result="answers_{part}.jsonl"),
        Suite(name="mmbench", task="answer", sources=(mmbench.DATA,), rows=questions.of_mmbench, style="mmbench",
              result="prediction.jsonl"),
        Suite(name="mme", task="answer", sources=(MME,), rows=questions.of_mme, style="mme", result="{part}.txt"),
        Suite(name="mmmu", task="answer", sources=(mmmu.QUESTIONS,), rows=questions.of_mmmu, style="mmmu", part_of=by_subject,
              result="{part}/output.json"),
        Suite(name="gqa", task="answer", sources=(gqa.DATA,), rows=questions.of_gqa, style="short",
              result="testdev_balanced_predictions.json"),
        Suite(name="seed", task="answer", sources=(seed.DATA,), rows=questions.of_seed, style="choice",
              result="predictions.jsonl"),
        Suite(name="vqav2", task="answer", sources=(VQA,), rows=questions.of_vqav2, style="short",
              result="arm_results.json", also=(vqav2.DATA,), truths=vqav2.annotated),
        Suite(name="imagenet", task="classify", sources=(IMAGENET,), rows=questions.of_classes, result="predictions.jsonl"),
    )
}  # fmt: skip
"""Name -> benchmark; each name is a scorer's."""
assert SUITES.keys() == set(OFFICIAL) <= SCORERS.keys()
