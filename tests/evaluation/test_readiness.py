"""What a benchmark's data lack is said when a run is planned: not after the model has answered for hours."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arm.errors import UserError
from arm.evaluation.benchmarks.pope import SETS
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.evaluate import evaluate_model
from arm.evaluation.imaging import encode_png
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.model import Failed, Question, Unable
from arm.evaluation.official.config import OfficialConfig, QuestionerConfig
from arm.evaluation.official.readiness import check_machine, open_data
from arm.evaluation.official.run import Bench, open_bench, run_answers, score
from arm.evaluation.production import questions
from arm.storage import LocalFolder

PICTURE = encode_png(np.zeros((4, 4, 3), dtype=np.uint8))
JUDGED = {
    "detector": DetectorConfig(model="w"), "questioner": QuestionerConfig(model="w"), "judge": JudgeConfig(model="j"),
}  # fmt: skip


class Says(Unable):
    """Answers every question alike."""

    name, independent = "says", True

    def __init__(self, text: str) -> None:
        self.text = text

    def protocol(self) -> dict[str, Any]:
        return {}

    def answer(self, questions: Any, max_tokens: int | None = None) -> list[str | Failed]:
        assert all(isinstance(question, Question) and question.images for question in questions)
        return [self.text for _ in questions]


def bench_of(name: str, root: Path) -> Bench:
    config = OfficialConfig(data=str(root))
    output = LocalFolder(root / "out")
    return open_bench(name, "model", open_data(name, config), config, output, batch_size=2, num_bootstraps=100, seed=0)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


GENEVAL = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}
POPE = {"question_id": 1, "image": "a.png", "text": "Is there a dog?", "label": "yes"}
EDIT = {
    "key": "1", "task_type": "ps_human", "instruction": "smile", "instruction_language": "en", "input_image": "a.png",
}  # fmt: skip
SEED = {"question_id": 1, "question": "?", "answer": "A", "choice_a": "x", "data_id": "a.png"}
VQA = {"question_id": 1, "question": "?", "image_id": 1}
DPG_HEAD = "item_id,text,proposition_id,dependency,tuple,question_natural_language\n"
WRONG: list[tuple[str, str, str, str]] = [
    ("geneval", "evaluation_metadata.jsonl", lines(GENEVAL, {**GENEVAL, "include": [{"class": "cow"}]}),
     r"Row 2 of .*evaluation_metadata.jsonl has the clause \{'class': 'cow'\}, which needs a class and a count"),
    ("dpg", "dpg_bench.csv", "item_id,text\n1,a\n", r"Row 1 of .*dpg_bench.csv has no 'proposition_id'"),
    ("dpg", "dpg_bench.csv", DPG_HEAD + "1,a,one,0,entity,Is it?\n",
     r"Row 1 of .*dpg_bench.csv has 'one' in 'proposition_id', where a whole number must be"),
    ("dpg", "dpg_bench.csv", DPG_HEAD + "1,a,1,none,entity,Is it?\n", r"Row 1 of .* has 'none' in 'dependency'"),
    ("wise", "cultural.json", json.dumps([{"prompt_id": "1a", "Prompt": "x", "Explanation": "y"}]),
     r"Row 1 of .*cultural.json has '1a' in 'prompt_id', where a whole number must be"),
    ("wise", "cultural.json", json.dumps([{"prompt_id": 1, "Prompt": "x"}]), r"cultural.json has no 'Explanation'"),
    ("gedit_en", "gedit.jsonl", lines({**EDIT, "task_type": "magic"}), r"Row 1 .* the task_type 'magic'; the scorer knows"),
    ("imgedit", "basic_edit.json", json.dumps({"1": {"id": "a.png", "prompt": "x"}}), r"basic_edit.json has no 'edit_type'"),
    ("pope", "coco_pope_{}.json", lines(POPE, {**POPE, "label": None}),
     r"Row 2 of .*coco_pope_random.json has nothing in 'label': None"),
    ("pope", "coco_pope_{}.json", lines({**POPE, "image": ""}), r"Question 1 of .*pope names no image; its fields are 'question_id'"),
    ("mmbench", "mmbench_dev_en.tsv", "index\tquestion\tA\tB\timage\n0\t?\tx\ty\ta\n", r"Row 1 of .*.tsv has no 'answer'"),
    ("mme", "count.txt", "a.png\t?\tYes\na.png\t?\tMaybe\n", r"Line 2 of .*count.txt has the answer 'Maybe', not Yes or No"),
    ("mme", "count.txt", "a.png\t?\tYes\n", r"count.txt has 1 lines; MME has two questions an image"),
    ("gqa", "testdev_balanced_questions.json", json.dumps({"1": {"question": "?", "imageId": "a"}}), r"json has no 'answer'"),
    ("seed", "SEED-Bench.json", json.dumps({"questions": [{**SEED, "answer": ""}]}), r"SEED-Bench.json has nothing in 'answer': ''"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "text", "sentence"), WRONG)
def test_a_field_that_only_the_scorer_reads_is_missed_when_the_run_is_planned(
    tmp_path: Path, name: str, file: str, text: str, sentence: str
) -> None:
    (tmp_path / name).mkdir()
    for part in SETS:
        (tmp_path / name / file.format(part)).write_text(text)
    config = EvaluateConfig(benchmarks=(name,), official=OfficialConfig(data=str(tmp_path), **JUDGED))
    with pytest.raises(UserError, match=sentence):
        config.outside_paths()


def test_questions_without_annotations_are_refused_when_the_run_is_planned(tmp_path: Path) -> None:
    (tmp_path / "vqav2").mkdir()
    asked = {"questions": [VQA, {**VQA, "question_id": 2}]}
    (tmp_path / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps(asked))
    annotations = tmp_path / "vqav2/v2_mscoco_val2014_annotations.json"
    config = EvaluateConfig(benchmarks=("vqav2",), official=OfficialConfig(data=str(tmp_path)))
    for content, sentence in (
        (
            {"annotations": [{"question_id": 1, "answers": [{"answer": "no"}]}]},
            "1 of the 2 questions .* the first is 2",
        ),
        ({"annotations": [{"question_id": 1}]}, "question 1 of .*annotations.json has no 'answers'"),
        ([], "annotations.json has no list `annotations`"),
    ):
        annotations.write_text(json.dumps(content))
        with pytest.raises(UserError, match=sentence):
            config.outside_paths()


@pytest.mark.parametrize(
    ("name", "file", "text", "seeds", "sentence"),
    [
        ("gedit_en", "gedit.jsonl", lines(EDIT), 2, r"one image a row, not 2; leave --seeds out \(of evaluate-model: --official.seeds\)"),
        ("dpg", "dpg_bench.csv", DPG_HEAD + "1,a,1,0,entity,Is it?\n", 3, r"\(or takes 1\), not 3; leave --seeds out"),
    ],
)  # fmt: skip
def test_a_number_of_images_that_a_layout_has_no_place_for_is_refused_when_the_run_is_planned(
    tmp_path: Path, name: str, file: str, text: str, seeds: int, sentence: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / file).write_text(text)
    config = EvaluateConfig(benchmarks=(name,), official=OfficialConfig(data=str(tmp_path), seeds=seeds, **JUDGED))
    with pytest.raises(UserError, match=sentence):
        config.outside_paths()


@pytest.mark.parametrize(
    ("name", "save", "sentence"),
    [("pope", lambda folder: pope_parquet(folder), "nobody to ask pope: give --model"),
     ("imagenet", lambda folder: imagenet(folder), "imagenet is asked of a visual tokenizer")],
)  # fmt: skip
def test_a_benchmark_that_nobody_would_be_asked_is_refused(
    tmp_path: Path, name: str, save: Callable[[Path], None], sentence: str
) -> None:
    """A model that is asked another benchmark does not let a benchmark of the tokenizer pass in silence."""
    save(tmp_path / name)
    model = ModelConfig(model="absent") if name == "imagenet" else ModelConfig()
    config = EvaluateConfig(benchmarks=(name,), official=OfficialConfig(data=str(tmp_path)), model=model)
    with pytest.raises(UserError, match=sentence):
        evaluate_model(output=LocalFolder(tmp_path / "out"), config=config)


def test_an_empty_folder_of_weights_is_said_to_be_empty(tmp_path: Path) -> None:
    pope_parquet(tmp_path / "pope")
    (tmp_path / "weights").mkdir()
    config = EvaluateConfig(
        benchmarks=("pope",), official=OfficialConfig(data=str(tmp_path)), model=ModelConfig(model=str(tmp_path / "weights"))
    )  # fmt: skip
    with pytest.raises(UserError, match=r"--model '.*weights' is an empty folder, .*config.json .*hf download NAME"):
        config.outside_paths()


def imagenet(folder: Path) -> None:
    (folder / "val/n01").mkdir(parents=True)
    (folder / "val/n01/1.JPEG").write_bytes(PICTURE)
    (folder / "classes.json").write_text('{"n01": "tench"}')


def pope_parquet(folder: Path) -> None:
    """As huggingface.co/datasets/lmms-lab/POPE: two questions a set, the first is yes."""
    folder.mkdir(parents=True)
    image = {"bytes": PICTURE, "path": None}
    rows = [
        {"question_id": str(number), "question": "Is there a dog?", "answer": label, "image": image}
        for number, label in enumerate(("yes", "no"))
    ]
    for name in SETS:
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}-00000-of-00001.parquet")


def test_popes_parquet_calls_the_label_answer_and_the_models_words_are_scored(tmp_path: Path) -> None:
    """Always yes: precision 1/2, recall 1, F1 2/3; the right answers scored as the model's would be 1."""
    pope_parquet(tmp_path / "pope")
    bench = bench_of("pope", tmp_path)
    check_machine(bench.suite, bench.data, bench.config)
    run_answers(bench, Says("Yes."), "made up")
    assert score(bench).scores.published()["mean_f1"].value == pytest.approx(2 / 3)


def test_options_and_right_answers_of_mmmu_may_be_lists(tmp_path: Path) -> None:
    """B is said to both: right for the choice, neither of the two right answers of the open question."""
    image = base64.b64encode(PICTURE).decode()
    rows = [
        {"id": "validation_Art_1", "question": "Which?", "question_type": "multiple-choice", "options": ["yes", "no way"],
         "answer": "B", "image_1": image},
        {"id": "validation_Art_2", "question": "What?", "question_type": "open", "options": [], "answer": ["one", "two"],
         "image_1": image},
    ]  # fmt: skip
    (tmp_path / "mmmu").mkdir()
    (tmp_path / "mmmu/validation-art.jsonl").write_text(lines(*rows))
    bench = bench_of("mmmu", tmp_path)
    run_answers(bench, Says("B"), "made up")
    written = json.loads(bench.output.read("results/Art/output.json"))
    assert written[0]["index2ans"] == {"A": "yes", "B": "no way"}
    assert written[1]["answer"] == ["one", "two"]
    assert [item.strict for item in score(bench).items] == [True, False]


def test_a_row_of_mmbench_may_name_the_row_that_holds_its_image(tmp_path: Path) -> None:
    """VLMEvalKit's table holds an image once for all rotations of a question."""
    image = base64.b64encode(PICTURE).decode()
    header = "index\tquestion\tA\tB\tanswer\timage"
    (tmp_path / "d.tsv").write_text(f"{header}\n0\t?\tx\ty\tA\t{image}\n1000000\t?\ty\tx\tB\t0\n")
    found = questions.of_mmbench(open_files(str(tmp_path)), "d.tsv")
    assert [row["image"] for row in found] == [image, image]


def test_the_file_that_lacks_a_field_is_named_and_not_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(EDIT))
    (tmp_path / "b.jsonl").write_text(lines(EDIT, {**EDIT, "instruction": ""}))
    with pytest.raises(UserError, match=r"Row 2 of .*/b.jsonl has nothing in 'instruction': ''"):
        questions.of_gedit_en(open_files(str(tmp_path)), "a.jsonl")
