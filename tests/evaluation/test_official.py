"""Other authors' benchmarks in evaluate-model: from their data, through a model and a judge, to their own scorer's number."""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from made_up_benchmarks import save_weights
from pope_questions import save_pope

from arm import jobs
from arm.errors import UserError
from arm.evaluation.benchmarks.reading import Files, open_files
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.imaging import encode_png, resize_like
from arm.evaluation.items import Pixels
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.models.model import NO_CLOCK, Clock, Drawing, Failed, Question, Unable
from arm.evaluation.official import judging
from arm.evaluation.official.answering import write_answers
from arm.evaluation.official.config import OfficialConfig, QuestionerConfig
from arm.evaluation.official.readiness import check_machine, open_data
from arm.evaluation.official.run import open_bench, run_answers, run_images, score
from arm.evaluation.official.suites import SUITES
from arm.evaluation.production import questions
from arm.storage import LocalFolder

PROMPTS = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {"tag": "counting", "include": [{"class": "cow", "count": 2}], "exclude": [{"class": "cow", "count": 3}],
     "prompt": "a photo of two cows"},
]  # fmt: skip


class Yes(Unable):
    """Answers yes, draws grey squares; counts how often it was asked, and keeps the words."""

    name, independent = "yes", True

    def __init__(self) -> None:
        self.asked = 0
        self.heard: list[str] = []
        self.seen: list[int] = []

    def protocol(self) -> dict[str, Any]:
        return {}

    def answer(self, questions: Sequence[Question]) -> list[str | Failed]:
        self.asked += len(questions)
        self.heard += [question.text for question in questions]
        self.seen += [image.shape[1] for question in questions for image in question.images]
        return ["Yes, there is." for _ in questions]

    def generate_images(self, drawings: Sequence[Drawing], clock: Clock = NO_CLOCK) -> list[Pixels | Failed]:
        self.asked += len(drawings)
        return [np.full((8, 8, 3), drawing.seed % 256, dtype=np.uint8) for drawing in drawings]


def bench_of(name: str, root: Path, **options: Any) -> Any:
    config = OfficialConfig(data=str(root / "data"), **options)
    output = LocalFolder(root / "out")
    return open_bench(name, "model", open_data(name, config), config, output, batch_size=2, num_bootstraps=100, seed=0)


def test_a_model_that_always_says_yes_has_f1_two_thirds_in_pope(tmp_path: Path) -> None:
    """Of two questions one is right: precision 1/2, recall 1, F1 2/3. All three sets are asked, and nothing twice."""
    save_pope(tmp_path / "data/pope", "a.jpg")
    model, bench = Yes(), bench_of("pope", tmp_path)
    run_answers(bench, model, "made up")
    result = score(bench)
    assert result.scores.published()["mean_f1"].value == pytest.approx(2 / 3)
    run_answers(bench, model, "made up")
    assert model.asked == 6
    rows = [json.loads(line) for line in bench.output.read("items.jsonl").decode().splitlines()]
    assert [row["uid"] for row in rows[:2]] == ["random/0", "random/1"]
    assert json.loads(bench.output.read("scores.json"))["headline"] == "mean_f1"


def test_missing_data_are_named_with_where_to_get_them_and_their_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config's folder goes before that of the environment."""
    monkeypatch.delenv("ARM_BENCHMARK_DATA", raising=False)
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"coco_pope_random.json .*github.com/AoiDragon/POPE.*MIT"):
        EvaluateConfig(benchmarks=("pope",), official=OfficialConfig(data=str(tmp_path / "data"))).outside_paths()
    with pytest.raises(UserError, match=r"give official.data or ARM_BENCHMARK_DATA, a folder that holds geneval/"):
        EvaluateConfig(benchmarks=("geneval",)).outside_paths()
    save_pope(tmp_path / "data/pope", "a.jpg")
    monkeypatch.setenv("ARM_BENCHMARK_DATA", str(tmp_path / "data"))
    assert EvaluateConfig(benchmarks=("pope",)).outside_paths() == (str(tmp_path / "data/pope"),)
    with pytest.raises(UserError, match=f"{tmp_path}/other/pope holds no coco_pope_random.json"):
        EvaluateConfig(benchmarks=("pope",), official=OfficialConfig(data=str(tmp_path / "other"))).outside_paths()


def test_every_benchmark_names_a_layout_a_rubric_and_a_file_that_exist() -> None:
    from arm.evaluation.benchmarks import registry
    from arm.evaluation.production.layouts import find_layout
    from arm.evaluation.rubric import load_rubric

    for suite in SUITES.values():
        assert registry.find(suite.name)
        draws = suite.task in ("generate_images", "edit")
        assert draws == bool(suite.layout)
        assert not draws or find_layout(suite.layout, edits=suite.task == "edit").num_seeds >= 1
        assert [load_rubric(name).name for name in suite.rubrics] == list(suite.rubrics)
        assert bool(suite.rubrics) == (suite.judged == "marks")


def test_geneval_draws_detects_and_scores_each_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that sees one bench everywhere: the bench is right, the two cows are not; counting and one tag of two."""
    folder = tmp_path / "data" / "geneval"
    folder.mkdir(parents=True)
    (folder / "evaluation_metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))

    def detect(made: Path, config: OfficialConfig, scratch: Path) -> bytes:
        rows = []
        for path in sorted(made.glob("*/samples/*.png")):
            number, sample = int(path.parents[1].name), int(path.stem)
            boxes = {"bench": [[0, 0, 4, 4, 0.95]]}
            rows.append({"prompt_index": number, "sample": sample, "metadata": PROMPTS[number], "detections": boxes})
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    monkeypatch.setattr(judging, "detect", detect)
    detector = DetectorConfig(model=str(save_weights(tmp_path / "weights" / "mask2former")), threshold=0.2)
    model, bench = Yes(), bench_of("geneval", tmp_path, seeds=2, detector=detector)
    run_images(bench, model, "made up")
    result = score(bench)
    numbers = result.scores.estimates
    assert (numbers["single_object"].value, numbers["counting"].value) == (1.0, 0.0)
    assert "2 images a prompt; the published protocol has 4" in result.protocol.notes
    assert result.protocol.judge == "mask2former"
    assert (result.protocol.judge_settings["kind"], result.protocol.judge_settings["threshold"]) == ("mask2former", 0.2)
    rows = [json.loads(line) for line in bench.output.read("items.jsonl").decode().splitlines()]
    assert rows[0]["image"] == "benchmarks/model/geneval/made/00000/samples/0000.png"
    assert (tmp_path / "out" / rows[3]["image"]).is_file()
    run_images(bench, model, "made up")
    assert model.asked == 4


def test_four_crops_of_a_grid_and_the_first_word_of_an_answer() -> None:
    grid = np.arange(4, dtype=np.uint8).reshape(2, 2)[:, :, None].repeat(3, axis=2)
    assert [int(crop[0, 0, 0]) for crop in judging.crops_of(grid, 4)] == [0, 1, 2, 3]
    assert [crop.shape for crop in judging.crops_of(grid, 1)] == [(2, 2, 3)]
    assert judging._first_word("Yes, it is.") == "yes"


def test_mme_lines_have_four_cells_whatever_the_model_writes(tmp_path: Path) -> None:
    (tmp_path / "count.txt").write_text("a.jpg\tOne dog?\tYes\na.jpg\tTwo dogs?\tNo\n")
    rows = questions.of_mme(open_files(str(tmp_path)), "count.txt")
    answered = [{**row, "prediction": "Yes,\tthere\nis"} for row in rows]
    assert write_answers("mme", answered).decode() == (
        "a.jpg\tOne dog?\tYes\tYes, there is\na.jpg\tTwo dogs?\tNo\tYes, there is\n"
    )
    failed = write_answers("mme", [{**answered[0], "failed": "refused", "prediction": None}]).decode()
    assert failed.count("\t") == 2


def mmmu_rows(split: str, subject: str) -> list[dict[str, Any]]:
    """A choice and an open question, with one image each."""
    image = {"bytes": encode_png(np.zeros((4, 4, 3), dtype=np.uint8)), "path": None}
    return [
        {"id": f"{split}_{subject}_1", "question": "Which is <image 1>?", "question_type": "multiple-choice",
         "options": "['yes', 'no']", "answer": "A", "image_1": image},
        {"id": f"{split}_{subject}_2", "question": "What is <image 1>?", "question_type": "open", "options": "[]",
         "answer": "yes", "image_1": image},
    ]  # fmt: skip


def test_the_validation_split_of_all_thirty_subjects_of_mmmu_is_asked_and_no_other(tmp_path: Path) -> None:
    """huggingface.co/datasets/MMMU/MMMU: a folder a subject, in each of which the files have the same names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from arm.evaluation.benchmarks.mmmu import DOMAINS

    subjects = sorted(subject for listed in DOMAINS.values() for subject in listed)
    for subject in subjects:
        folder = tmp_path / "data" / "mmmu" / subject
        folder.mkdir(parents=True)
        for split in ("dev", "validation", "test"):
            rows = pa.Table.from_pylist(mmmu_rows(split, subject))
            pq.write_table(rows, folder / f"{split}-00000-of-00001.parquet")
    model, bench = Yes(), bench_of("mmmu", tmp_path)
    run_answers(bench, model, "made up")
    result = score(bench)
    assert model.asked == 60
    assert {item.uid for item in result.items} == {f"validation_{name}_{n}" for name in subjects for n in (1, 2)}
    assert bench.output.exists("results/Art_Theory/output.json")
    assert result.scores.num_expected == 60
    assert result.protocol.notes == ("60 items; the published set has 900",)
    assert model.heard[:2] == [
        "Which is <image 1>?\nA. yes\nB. no\n\nAnswer with the option's letter from the given choices directly.",
        "What is <image 1>?\n\nAnswer the question using a single word or phrase.",
    ]


@pytest.mark.parametrize("uid", ["validation_../../x_1", "validation_1"])
def test_a_subject_of_mmmu_that_names_no_file_is_one_sentence(tmp_path: Path, uid: str) -> None:
    (row, _) = mmmu_rows("validation", "Art")
    (tmp_path / "art.jsonl").write_text(json.dumps({**row, "image_1": "", "id": uid}) + "\n")
    with pytest.raises(UserError, match="it must be validation_<subject>_<number>"):
        questions.of_mmmu(open_files(str(tmp_path)), "art.jsonl")


def test_choices_of_mmmu_without_options_are_one_sentence(tmp_path: Path) -> None:
    (row, _) = mmmu_rows("validation", "Art")
    (tmp_path / "art.jsonl").write_text(json.dumps({**row, "image_1": "", "options": "yes, no"}) + "\n")
    with pytest.raises(UserError, match=r"validation_Art_1 of .*art.jsonl has no list of options: 'yes, no'"):
        questions.of_mmmu(open_files(str(tmp_path)), "art.jsonl")


def test_answers_to_mmmu_keep_the_letters_of_the_options() -> None:
    choice, opened = mmmu_rows("validation", "Art")
    written = json.loads(write_answers("mmmu", [{**row, "prediction": "B"} for row in (choice, opened)]))
    assert written[0]["index2ans"] == {"A": "yes", "B": "no"}
    assert "all_choices" not in written[1]


def test_pope_is_asked_for_a_word_and_mmbench_as_lmms_eval_does(tmp_path: Path) -> None:
    """What pandas takes for an empty cell is no option, whether it says nan or None."""
    save_pope(tmp_path / "data/pope", "a.jpg")
    asked, bench = Yes(), bench_of("pope", tmp_path)
    run_answers(bench, asked, "made up")
    assert asked.heard[0] == "Is there a dog in the image?\nAnswer the question using a single word or phrase."
    assert score(bench).protocol.prompt_style == "short"
    folder = tmp_path / "data" / "mmbench"
    folder.mkdir()
    image = base64.b64encode(encode_png(np.zeros((4, 4, 3), dtype=np.uint8))).decode()
    header, row = "index\thint\tquestion\tA\tB\tC\tD\tanswer\timage", f"0\tNone\tWhich?\tx\ty\t\tnan\tA\t{image}"
    (folder / "MMBench_DEV_EN.tsv").write_text(f"{header}\n{row}\n")
    asked, bench = Yes(), bench_of("mmbench", tmp_path)
    run_answers(bench, asked, "made up")
    assert asked.heard == [
        "Which? There are several options:\nA. x\nB. y\n\n"
        "Answer with the option's letter from the given choices directly."
    ]
    score(bench)
    assert json.loads(bench.output.read("scores.json"))["protocol"]["prompt_style"] == "mmbench"


def test_videos_of_seed_are_not_asked_and_a_second_id_is_told_apart(tmp_path: Path) -> None:
    row = {"question": "?", "answer": "A", "choice_a": "x"}
    listed = [
        {**row, "question_id": number, "data_type": kind} for number, kind in ((7, "image"), (7, "image"), (8, "video"))
    ]
    (tmp_path / "SEED-Bench.json").write_text(json.dumps({"questions": listed}))
    files = Files(LocalFolder(tmp_path), ["SEED-Bench.json"])
    assert [row["question_id"] for row in questions.of_seed(files, "SEED-Bench.json")] == ["7", "7#2"]


def test_the_judge_of_wise_is_asked_once_an_image_and_its_text_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2, 2, 2 is a WiScore of 1. The second run finds the replies; the protocol says that the rubric is ours."""
    from arm.evaluation import judge as judges

    folder = tmp_path / "data" / "wise"
    folder.mkdir(parents=True)
    rows = [{"prompt_id": number, "Prompt": "Newton's fruit", "Explanation": "an apple"} for number in (1, 2)]
    (folder / "cultural.json").write_text(json.dumps(rows))
    texts: list[str] = []

    def call(self: judges.Judge, body: Any) -> Any:
        texts.append(body["messages"][0]["content"][0]["text"])
        reply = "Consistency: 2\nRealism: 2\nAesthetic Quality: 2"
        return {"choices": [{"message": {"content": reply}, "finish_reason": "stop"}]}, 1, ""

    monkeypatch.setattr(judges.Judge, "_call", call)
    monkeypatch.setenv(judges.ADDRESS, "http://127.0.0.1:9/v1")
    bench = bench_of("wise", tmp_path, judge=JudgeConfig(model="judge-1"))
    run_images(bench, Yes(), "made up")
    result = score(bench)
    assert result.scores.estimates["culture"].value == pytest.approx(1.0)
    assert len(texts) == 2
    assert re.search("an apple", texts[0])
    assert "rubric wise 1 is ours" in result.protocol.notes[-1]
    assert result.protocol.judge == "judge-1"
    assert result.protocol.judge_settings == {
        "kind": "endpoint", "temperature": 0.0, "max_tokens": 1024, "rubrics": "wise 1"
    }  # fmt: skip


LACKING: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("geneval", "evaluation_metadata.jsonl", json.dumps(PROMPTS[0]), {}, "geneval needs a detector: give official.detector.model"),
    ("geneval", "evaluation_metadata.jsonl", json.dumps(PROMPTS[0]), {"detector": DetectorConfig(kind="yolo", model="w")},
     "There is no detector 'yolo'"),
    ("geneval", "evaluation_metadata.jsonl",
     json.dumps({**PROMPTS[0], "include": [{"class": "bench", "count": 1, "color": "red"}]}),
     {"detector": DetectorConfig(model="w")}, "geneval asks for colours: give official.detector.clip"),
    ("dpg", "dpg_bench.csv", "item_id,text\n1,a\n", {}, "dpg needs somebody to ask .*: give official.questioner.model"),
    ("dpg", "dpg_bench.csv", "item_id,text\n1,a\n", {"questioner": QuestionerConfig(kind="diffusers", model="w")},
     "answers no questions"),
    ("wise", "cultural.json", "[]", {}, "wise needs a judge: give official.judge.model"),
    ("gedit_en", "gedit.jsonl", "{}", {}, "gedit_en needs a judge"),
    ("imgedit", "basic_edit.json", "{}", {}, "imgedit needs a judge"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "text", "options", "sentence"), LACKING)
def test_who_looks_at_the_images_is_asked_for_when_the_run_is_planned(
    tmp_path: Path, name: str, file: str, text: str, options: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / name / file).write_text(text)
    config = EvaluateConfig(benchmarks=(name,), official=OfficialConfig(data=str(tmp_path / "data"), **options))
    with pytest.raises(UserError, match=sentence):
        jobs.plan("evaluate-model", output=str(tmp_path / "out"), config=config, inputs={})


def test_weights_addresses_and_ledgers_are_looked_for_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARM_JUDGE_URL", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    files = Files(LocalFolder(tmp_path), [])
    judged, replayed = JudgeConfig(model="j"), JudgeConfig(model="j", mode="replay")
    for name, config, sentence in (
        ("geneval", OfficialConfig(detector=DetectorConfig(model="absent")), "There is no folder 'absent'"),
        (
            "dpg",
            OfficialConfig(questioner=QuestionerConfig(model="absent")),
            "There is no folder 'absent'",
        ),
        ("dpg", OfficialConfig(questioner=QuestionerConfig(kind="openai", model="vlm")), "OPENAI_BASE_URL is not set"),
        ("wise", OfficialConfig(judge=judged), "ARM_JUDGE_URL is not set"),
        ("wise", OfficialConfig(judge=replayed, ledger="absent.sqlite"), "There is no ledger 'absent.sqlite'"),
    ):
        with pytest.raises(UserError, match=sentence):
            check_machine(SUITES[name], files, config)
    row = {"prompt_id": 1, "Prompt": "Newton's fruit", "Explanation": "an apple"}
    (tmp_path / "cultural.json").write_text(json.dumps([row]))
    check_machine(SUITES["wise"], Files(LocalFolder(tmp_path), ["cultural.json"]), OfficialConfig(judge=replayed))


def test_images_in_the_folders_of_their_archives_are_asked_about_and_one_that_lacks_is_named(tmp_path: Path) -> None:
    """POPE's lie in val2014/ as COCO publishes them; MME has a file 1.jpg in two tasks, and means its own: 8 and 9 wide."""
    save_pope(tmp_path / "data/pope", "val2014/a.jpg")
    asked, bench = Yes(), bench_of("pope", tmp_path)
    check_machine(bench.suite, bench.data, bench.config)
    run_answers(bench, asked, "made up")
    assert asked.asked == 6
    for task, width in (("artwork", 8), ("posters", 9)):
        (tmp_path / f"data/mme/{task}/images").mkdir(parents=True)
        PIL.Image.new("RGB", (width, 8)).save(tmp_path / f"data/mme/{task}/images/1.jpg")
        (tmp_path / f"data/mme/{task}/images/1.txt").write_text("a caption of the archive, no question")
        (tmp_path / f"data/mme/{task}.txt").write_text("1.jpg\tOne? Please answer yes or no.\tYes\n1.jpg\tTwo?\tNo\n")
    asked, bench = Yes(), bench_of("mme", tmp_path)
    check_machine(bench.suite, bench.data, bench.config)
    run_answers(bench, asked, "made up")
    assert asked.seen == [9, 9, 8, 8]  # in the order of the scorer's table of tasks
    assert asked.heard[0] == "One?\nAnswer the question using a single word or phrase."
    assert b"1.jpg\tOne? Please answer yes or no.\tYes\tYes, there is." in bench.output.read("results/artwork.txt")
    (tmp_path / "data/pope/val2014/a.jpg").unlink()
    bench = bench_of("pope", tmp_path)
    with pytest.raises(UserError, match=r"lacks 6 of the 6 images that pope asks about, the first is 'a.jpg'"):
        check_machine(bench.suite, bench.data, bench.config)


def test_an_edited_image_is_brought_to_the_size_of_its_source() -> None:
    small = np.zeros((4, 4, 3), dtype=np.uint8)
    assert resize_like(small, np.zeros((8, 6, 3), dtype=np.uint8)).shape == (8, 6, 3)
    assert resize_like(small, small) is small
