"""What a protocol says of data, judge and model, and that numbers with different protocols are not compared."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from made_up_benchmarks import publish, save_weights

from arm.evaluation.baseline import compare_with
from arm.evaluation.benchmarks.reading import open_files
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.endpoint import load
from arm.evaluation.official.config import OfficialConfig, QuestionerConfig
from arm.evaluation.official.identity import judge_record, model_record
from arm.evaluation.official.run import open_bench, score
from arm.evaluation.official.suites import SUITES
from arm.evaluation.page.store import Step, read_store
from arm.evaluation.protocols import OFFICIAL, apart
from arm.storage import open_folder


def lines(*rows: Mapping[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


COW = {"tag": "single_object", "include": [{"class": "cow", "count": 1}], "prompt": "a photo of a Zebra"}
DPG = "item_id,text,proposition_id,dependency,tuple,question_natural_language\n" + "".join(
    f"{item},a Zebra,1,0,entity - whole (zebra),Is it?\n" for item in "ab"
)
WISE = {"a.json": json.dumps([{"prompt_id": 1, "Prompt": "Zebra", "Explanation": "-"}]), "b.json": json.dumps([{"prompt_id": 2, "Prompt": "Zebra", "Explanation": "-"}])}  # fmt: skip
POPE = {
    f"coco_pope_{name}.json": lines({"question_id": 1, "image": "a.png", "text": "Zebra?", "label": "yes"})
    for name in ("random", "popular", "adversarial")
}
MMMU = {"id": "validation_Art_1", "question": "Zebra?", "question_type": "open", "answer": "yes"}
GQA = {"2000": {"question": "Zebra?", "answer": "yes", "imageId": "n1"}}
SEED = {"question_id": 1, "question": "Zebra?", "answer": "A", "choice_a": "x", "data_type": "image"}
ANSWERS = [{"answer": "yes", "answer_confidence": "yes", "answer_id": number} for number in range(10)]
VQA = {
    "v2_OpenEnded_mscoco_val2014_questions.json": json.dumps({"questions": [{"question_id": 1, "question": "Zebra?"}]}),
    "v2_mscoco_val2014_annotations.json": json.dumps({"annotations": [{"question_id": 1, "answers": ANSWERS, "image": "Zebra"}]}),
}  # fmt: skip


def edit(language: str) -> dict[str, str]:
    row = {"key": "1", "task_type": "ps_human", "instruction": "Zebra", "input_image": "a.png"}
    return {"gedit.jsonl": lines({**row, "instruction_language": language})}


def marks(language: str) -> dict[str, str]:
    row = {"uid": "1", "group": "ps_human", "sc_reply": '{"score": [8, 8]}', "pq_reply": '{"score": [8, 8]}'}
    return {"judged.jsonl": lines({**row, "language": language})}


MADE: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "geneval": ({"evaluation_metadata.jsonl": lines(COW)},
                {"detections.jsonl": lines({"prompt_index": 0, "sample": 0, "metadata": COW, "detections": {"cow": []}})}),
    "dpg": ({"dpg_bench.csv": DPG}, {"answers.json": json.dumps({"b": {"Is it?": ["yes"] * 4}})}),
    "wise": (WISE, {"scores.jsonl": lines({"prompt_id": 1, "evaluation": "Consistency: 2\nRealism: 2\nAesthetic Quality: 2"})}),
    "wise_verified": (WISE, {"scores.jsonl": lines({"prompt_id": 1, "evaluation": "Score: 1"})}),
    "gedit_en": (edit("en"), marks("en")),
    "gedit_cn": (edit("cn"), marks("cn")),
    "imgedit": ({"basic_edit.json": json.dumps({"1": {"id": "a.png", "prompt": "Zebra", "edit_type": "add"}})},
                {"result.json": json.dumps({"1": "Prompt Compliance: 5"})}),
    "pope": (POPE, {f"answers_{name}l": lines({"question_id": 1, "answer": "Yes"}) for name in POPE}),
    "mmbench": ({"MMBench_DEV_EN.tsv": "index\tquestion\tA\tB\tanswer\n1\tZebra?\tx\ty\tA\n"},
                {"prediction.jsonl": lines({"index": 1, "prediction": "A"})}),
    "mme": ({"count.txt": "a.png\tOne Zebra?\tYes\na.png\tTwo?\tNo\n"},
            {"count.txt": "a.png\tOne Zebra?\tYes\tYes\na.png\tTwo?\tNo\tNo\n"}),
    "mmmu": ({"art.jsonl": lines(MMMU)}, {"Art/output.json": json.dumps([{**MMMU, "response": "yes"}])}),
    "gqa": ({"testdev_balanced_questions.json": json.dumps(GQA)},
            {"testdev_balanced_predictions.json": json.dumps([{"questionId": "2000", "prediction": "yes"}])}),
    "seed": ({"SEED-Bench.json": json.dumps({"questions": [SEED]})}, {"predictions.jsonl": lines({"question_id": 1, "prediction": "A"})}),
    "vqav2": (VQA, {"arm_results.json": json.dumps([{"question_id": 1, "answer": "yes"}])}),
    "imagenet": ({"classes.json": json.dumps({"n01": "Zebra", "n02": "tench"})},
                 {"predictions.jsonl": lines({"image": "a", "label": "n01", "prediction": "n01"})}),
}  # fmt: skip
"""Benchmark -> its data files, each of which says `Zebra`, and what was made of them."""


def evaluation_of(root: Path, name: str, data: Mapping[str, str]) -> Step:
    """A published evaluation whose results are there: the data are read for the protocol and by the scorer alone."""
    folder = open_folder(str(root / "data"))
    for path, text in data.items():
        folder.write(path, text.encode())
    bench = open_bench(
        name, "model", open_files(folder.url), OfficialConfig(judge=JudgeConfig(model="j")),
        open_folder(str(root / "artifact")), batch_size=1, num_bootstraps=100, seed=0,
    )  # fmt: skip
    for path, text in MADE[name][1].items():
        bench.output.write(f"results/{path}", text.encode())
    score(bench)
    publish(root, "evaluate-model", {})
    return read_store(str(root))[0]


@pytest.mark.parametrize("name", SUITES)
def test_a_byte_of_a_data_file_makes_another_number(tmp_path: Path, name: str) -> None:
    data = MADE[name][0]
    before = evaluation_of(tmp_path / "before", name, data)
    protocol = before.read_json(f"benchmarks/model/{name}/scores.json")["protocol"]
    assert protocol["data_files"].keys() == data.keys()
    assert protocol["results"].keys() == MADE[name][1].keys()
    (same,) = compare_with(evaluation_of(tmp_path / "same", name, data), before)
    assert same.apart == ()
    for path, text in data.items():
        after = evaluation_of(tmp_path / path, name, {**data, path: text.replace("Zebra", "Cebra")})
        (found,) = compare_with(after, before)
        assert found.apart[0].startswith(f"data files: {path} ")
        assert found.differences == ()


IMAGES = {
    "pope": "val2014/a.png", "mme": "count/a.png", "gqa": "images/n1.jpg", "gedit_en": "a.png", "imgedit": "a.png",
    "imagenet": "val/n01/a.JPEG",
}  # fmt: skip
"""Benchmark -> an image that it asks about, in a file of its own."""


@pytest.mark.parametrize(("name", "image"), IMAGES.items())
def test_a_byte_of_an_image_makes_another_number_and_an_image_that_is_not_asked_about_none(
    tmp_path: Path, name: str, image: str
) -> None:
    data = {**MADE[name][0], image: "bytes"}
    before = evaluation_of(tmp_path / "before", name, data)
    listed = before.read_json(f"benchmarks/model/{name}/scores.json")["protocol"]["data_files"]
    assert listed.keys() == {*MADE[name][0], "images (1)"}
    beside = {} if name == "imagenet" else {"other/b.png": "bytes"}
    (same,) = compare_with(evaluation_of(tmp_path / "same", name, {**data, **beside}), before)
    assert same.apart == ()
    (found,) = compare_with(evaluation_of(tmp_path / "after", name, {**data, image: "Bytes"}), before)
    assert found.apart[0].startswith("data files: images (1) ")
    assert found.differences == ()


def test_two_detectors_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By their weights, by the CLIP model that names colours, and by what counts as a box."""
    clip = str(save_weights(tmp_path / "clip"))
    first = DetectorConfig(model=str(save_weights(tmp_path / "a" / "mask2former")), clip=clip)
    config = OfficialConfig(detector=first)
    name, settings = judge_record(SUITES["geneval"], config)
    assert (name, settings["kind"], settings["clip"]) == ("mask2former", "mask2former", "clip")
    others = {
        "files": {"model": str(save_weights(tmp_path / "b" / "mask2former", b"Weights"))},
        "clip_files": {"clip": str(save_weights(tmp_path / "b" / "clip", b"Weights"))},
        "threshold": {"threshold": 0.5},
        "max_boxes": {"max_boxes": 8},
        "kind": {"kind": "grounding_dino"},
    }
    for field, change in others.items():
        detector = DetectorConfig(**{"model": first.model, "clip": clip, **change})  # type: ignore[arg-type]
        same, other = judge_record(SUITES["geneval"], OfficialConfig(detector=detector))
        assert same == name
        (said,) = apart({"judge_settings": other, "data_files": {"a": "b"}},
                        {"judge_settings": settings, "data_files": {"a": "b"}}, OFFICIAL, "there")  # fmt: skip
        assert said.startswith(f"judge settings: {field} ")
        assert ";" not in said


def test_a_questioner_is_known_by_its_weights_or_by_its_name_at_the_endpoint(tmp_path: Path) -> None:
    here, there = (save_weights(tmp_path / place / "mplug", place.encode()) for place in ("a", "b"))
    asked = [
        judge_record(SUITES["dpg"], OfficialConfig(questioner=QuestionerConfig(model=str(folder), batch_size=size)))
        for folder, size in ((here, 1), (here, 8), (there, 1))
    ]
    assert asked[0] == asked[1]  # how many are asked at once is nothing to compare
    assert asked[0][0] == asked[2][0] == "mplug"
    assert asked[0][1] != asked[2][1]
    endpoint = QuestionerConfig(kind="openai", model="org/vlm-2")
    name, settings = judge_record(SUITES["dpg"], OfficialConfig(questioner=endpoint))
    assert (name, settings) == (
        "vlm-2", {"kind": "openai", "endpoint_model": "org/vlm-2", "image_size": 0, "max_tokens": 64}
    )  # fmt: skip


def test_a_model_at_an_endpoint_is_named_without_address_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:word@inner.test/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    found = model_record("openai", load(ModelConfig(kind="openai", model="gpt-image-1")))
    assert (found["kind"], found["name"]) == ("openai", "gpt-image-1")
    assert not any(word in str(found) for word in ("inner", "word", "secret", "http"))


def test_many_parts_that_differ_are_counted_and_what_neither_states_is_not_alike() -> None:
    """MMMU has thirty files. Evaluations from before they were listed cannot be shown to have asked the same."""
    here, there = ({"data_files": {f"{n}.parquet": side for n in range(30)}} for side in "ab")
    (said,) = apart(here, there, OFFICIAL, "there")
    assert said == (
        "data files: 0.parquet a here, b there; 1.parquet a here, b there; 2.parquet a here, b there; 27 more"
    )
    assert list(apart({"mode": "official"}, {"mode": "official"}, OFFICIAL, "there")) == [
        "data files: not stated here, not stated there"
    ]
