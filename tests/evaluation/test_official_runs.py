"""`arm evaluate-model --benchmarks …` from end to end: tiny models with random weights, a judge behind a loopback server."""

import csv
import json
import shutil
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from loopback import JsonHandler, serving
from pope_questions import save_pope
from test_detectors import save_clip, save_mask2former
from test_judge import Server, server
from test_storage import moto_address, new_bucket, use_s3
from tiny_lmm import tiny_lmm
from tiny_rivals import save_llava

from arm import cli
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.evaluate import evaluate_model
from arm.evaluation.inference import read_image
from arm.evaluation.judge import ADDRESS
from arm.evaluation.official.config import OfficialConfig
from arm.evaluation.official.templates import TEMPLATES
from arm.evaluation.subject import Subject, Tools
from arm.evaluation.zero_shot import TokenizerZeroShot
from arm.storage import Folder, LocalFolder, open_folder
from arm.tokenizer.config import DetokenizerConfig
from arm.tokenizer.detokenizer.latents import LatentCodec
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.metrics import class_vectors
from arm.tokenizer.visual import VisualTokenizer
from tests.tokenizer import tiny

__all__ = ["moto_address", "server"]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vision-language model whose answers are as random as its weights."""
    return str(save_llava(tmp_path_factory.mktemp("llava") / "llava"))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ours with tokenizer, detokenizer and encoder, all of random weights: codes of three bits."""
    root = tmp_path_factory.mktemp("release") / "tiny"
    encoder, autoencoder = tiny.make_siglip(root / "encoder"), tiny.make_autoencoder(root / "autoencoder")
    torch.manual_seed(0)
    frozen = FrozenEncoder.from_pretrained(encoder.local_folder("model"))
    visual = VisualTokenizer(frozen, replace(tiny.QUANTIZER, levels=(2, 2, 2))).eval()
    visual.save_pretrained(root / "tokenizer")
    config = DetokenizerConfig(backbone="dit", flow=replace(tiny.FLOW, patch=1), guidance=1.0, sampling_steps=2)
    codec = LatentCodec.from_pretrained(autoencoder.local_folder("model"))
    Detokenizer.create(codec, visual, config).save_pretrained(root / "detokenizer")
    model, words, vocabulary = tiny_lmm()
    for part in (model, words, vocabulary):
        (part.save if part is vocabulary else part.save_pretrained)(root / "model")
    return root


@pytest.fixture(autouse=True)
def beside_any_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the environment counts, and what a run writes lies in the test's folder."""
    for name in ("ARM_BENCHMARK_DATA", "ARM_JUDGE_URL", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Folder:
    """The folder that the command prints last, behind what it says of each benchmark."""
    cli.main(["evaluate-model", *arguments, "--num-bootstraps", "100", "--resources", '{"threads": 1}'])
    *told, url = capsys.readouterr().out.splitlines()
    assert any(line.endswith(" missing") for line in told)
    return open_folder(url)


def rows_of(folder: Folder, name: str) -> list[Any]:
    return [json.loads(line) for line in folder.read(name).decode().splitlines()]


def save_image(path: Path, grey: int = 100, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (grey,) * 3).save(path)


def save_dpg(folder: Path) -> None:
    """Two prompts with two questions each; the official program drops the first row."""
    folder.mkdir(parents=True)
    with (folder / "dpg_bench.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(
            ("item_id", "text", "proposition_id", "dependency", "category_broad", "tuple", "question_natural_language")
        )
        for item in ("a", "b"):
            table.writerow((item, f"a dog {item}", 1, 0, "entity", "entity - whole (dog)", "Is there a dog?"))
            table.writerow((item, f"a dog {item}", 2, 1, "attribute", "attribute - colour (dog)", "Is the dog red?"))


def test_pope_needs_no_more_than_names_a_model_and_where_the_data_are(
    llava: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pope(tmp_path / "bench/pope")
    monkeypatch.setenv("ARM_BENCHMARK_DATA", str(tmp_path / "bench"))
    made = run(capsys, "--benchmarks", "pope", "--model", llava, "--model.kind", "huggingface")
    assert made.url.startswith(f"{tmp_path}/evaluation/evaluate-model/")
    scores = json.loads(made.read("benchmarks/model/pope/scores.json"))
    assert (scores["refused"], scores["protocol"]["num_scored"]) == (None, 6)
    assert json.loads(made.read("scores.json"))["model"]["pope/mean_f1"] == round(
        scores["estimates"]["mean_f1"]["value"], 6
    )
    asked = rows_of(made, "benchmarks/model/pope/made/answers_coco_pope_random.jsonl")
    assert asked[0]["prompt"] == "Is there a dog in the image?\nAnswer the question using a single word or phrase."


class Moody(JsonHandler):
    """Refuses as often as `server.refusals` says, then answers Yes; counts the calls."""

    def do_POST(self) -> None:
        server: Any = self.server
        self.read()
        server.calls += 1
        server.refusals -= 1
        if server.refusals >= 0:
            self.reply({"error": {"message": "content policy"}}, 400)
        else:
            self.reply({"choices": [{"message": {"content": "Yes."}}]})


def test_what_failed_is_not_published_and_asked_again_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of six answers fail, then one of those two, then none; the flag publishes without what failed."""
    save_pope(tmp_path / "bench/pope")
    arguments = ("--benchmarks", "pope", "--model", "m", "--model.kind", "openai", "--official.data", "bench")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Moody)) as found:
        server: Any = found
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        for refusals, calls in ((2, 6), (1, 2)):
            server.refusals, server.calls = refusals, 0
            with pytest.raises(SystemExit):
                run(capsys, *arguments)
            told = capsys.readouterr().err
            assert told.startswith(
                f"{refusals} items failed: {refusals} of model/pope ({refusals} × HTTP 400: content policy);"
            )
            assert "--official.publish-failed true" in told
            assert server.calls == calls
            assert not list((tmp_path / "evaluation/evaluate-model").glob("*/manifest.json"))
        server.refusals, server.calls = 0, 0
        made = run(capsys, *arguments)
        assert server.calls == 1
        assert json.loads(made.read("benchmarks/model/pope/scores.json"))["refused"] is None

        server.refusals = 2
        some = run(capsys, *arguments, "--output", "other", "--official.publish-failed", "true")
        scores = json.loads(some.read("benchmarks/model/pope/scores.json"))
        assert (scores["protocol"]["num_scored"], bool(scores["refused"])) == (4, True)
        assert some.url.rpartition("/")[2] == made.url.rpartition("/")[2]  # the flag is no part of the content key


def save_geneval(folder: Path) -> None:
    """Two prompts, of which one asks for a colour."""
    folder.mkdir(parents=True)
    rows = [
        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
        {"tag": "colors", "include": [{"class": "cow", "count": 1, "color": "red"}], "prompt": "a photo of a red cow"},
    ]
    (folder / "evaluation_metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_model_of_ours_draws_for_geneval_and_dpg_and_answers_for_pope(
    llava: str, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt's four images differ, since each has its own seed."""
    save_geneval(tmp_path / "bench/geneval")
    save_pope(tmp_path / "bench/pope")
    save_dpg(tmp_path / "bench/dpg")
    made = run(
        capsys, "--benchmarks", "geneval,dpg,pope", "--model", str(release), "--model.image-size", "16",
        "--official.data", "bench", "--official.questioner.model", llava, "--official.questioner.max-tokens", "2",
        "--official.detector.model", str(save_mask2former(tmp_path / "mask2former")),
        "--official.detector.clip", str(save_clip(tmp_path / "clip")),
    )  # fmt: skip
    scores = json.loads(made.read("scores.json"))["model"]
    assert 0 <= scores["dpg/score"] <= 100
    assert 0 <= scores["pope/mean_f1"] <= 1
    assert {"geneval/single_object", "geneval/colors"} <= scores.keys()
    looked = rows_of(made, "benchmarks/model/geneval/items.jsonl")
    assert len({made.read(item["image"]) for item in looked}) == len(looked) == 8
    protocol = json.loads(made.read("benchmarks/model/dpg/made/protocol.json"))
    assert (protocol["kind"], protocol["seeds"], protocol["model"]) == ("ours", 4, "tiny")


def test_imagenet_takes_the_class_that_is_nearest_to_what_the_codes_keep(release: Path, tmp_path: Path) -> None:
    """The same as image by image through the towers; a class is its folder, of two of one name the first is taken."""
    rng = np.random.default_rng(0)
    classes = {"n01": "red square", "n02": "blue square", "n03": "red square"}
    shown = {}
    for number in range(6):
        path = tmp_path / f"bench/imagenet/val/n0{number % 3 + 1}/{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(path, "jpeg", quality=95)
        shown[path.relative_to(tmp_path / "bench/imagenet").as_posix()] = path
    (tmp_path / "bench/imagenet/classes.json").write_text(json.dumps(classes))
    inputs = {}
    for name, folder in (("tokenizer", "tokenizer"), ("detokenizer", "detokenizer"), ("encoder", "encoder/model")):
        place = tmp_path / name / ("model" if name == "encoder" else name)
        shutil.copytree(release / folder, place)
        inputs[name] = tiny.manifest(tmp_path / name, name)
    config = EvaluateConfig(
        benchmarks=("imagenet",),
        official=OfficialConfig(data="bench"),
        image_size=12,
        num_bootstraps=100,
        num_threads=1,
    )
    evaluate_model(**inputs, output=LocalFolder(tmp_path / "out"), config=config)
    items = rows_of(open_folder("out"), "benchmarks/reference/imagenet/items.jsonl")
    assert [item["uid"] for item in items] == sorted(shown)

    tools = Tools(
        tokenizer=tmp_path / "tokenizer/tokenizer",
        detokenizer=Path("-"),
        encoder=tmp_path / "encoder/model",
        config=config,
    )
    subject, benchmark = Subject(name="reference", tools=tools), TokenizerZeroShot()
    texts_KD = class_vectors(benchmark.encoder(subject).embed_texts, list(classes.values()), TEMPLATES)
    nearest = [
        list(classes)[
            int((benchmark.embed([tools.fit(read_image(path), config.reading)], subject) @ texts_KD.T).argmax())
        ]
        for _, path in sorted(shown.items())
    ]
    assert [item["answer"] for item in items] == nearest
    right = [item["group"] == name for item, name in zip(items, nearest, strict=True)]
    scores = json.loads((tmp_path / "out/benchmarks/reference/imagenet/scores.json").read_text())
    assert scores["estimates"]["mean_of_classes"]["value"] == pytest.approx(sum(right) / 6)  # two of each class
    assert scores["protocol"]["data_files"].keys() == {"classes.json", "images (6)"}
    assert scores["protocol"]["model"]["files"].keys() == {"tokenizer", "encoder"}
    assert scores["refused"] == "49994 of 50000 items have no score (0 failed)"


@pytest.mark.parametrize(("seeds", "crops"), [((), 4), (("--official.seeds", "1"), 1)])
def test_each_image_of_dpg_is_asked_about_by_the_questioner(
    llava: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: tuple[str, ...], crops: int
) -> None:
    """Images made elsewhere; the tiny model says no `yes`, so that every answer is 0. One image is no grid of quarters."""
    save_dpg(tmp_path / "bench/dpg")
    for item in ("a", "b"):
        for number in range(4):
            save_image(tmp_path / f"drawn/{item}_{number}.png", 50 * number, size=(16, 16))
    made = run(
        capsys, "--benchmarks", "dpg", "--model", "drawn", "--model.kind", "folder", "--official.data", "bench",
        "--official.questioner.model", llava, "--official.questioner.max-tokens", "2", *seeds,
    )  # fmt: skip
    answers = json.loads(made.read("benchmarks/model/dpg/results/answers.json"))
    assert {item: {text: len(said) for text, said in found.items()} for item, found in answers.items()} == {
        item: {"Is there a dog?": crops, "Is the dog red?": crops} for item in ("a", "b")
    }
    scores = json.loads(made.read("benchmarks/model/dpg/scores.json"))
    assert scores["protocol"]["judge"] == "llava"
    judge = scores["protocol"]["judge_settings"]
    assert (judge["kind"], judge["max_tokens"], len(judge["files"])) == ("huggingface", 2, 32)
    model = scores["protocol"]["model"]
    assert (model["kind"], model["name"], model["images_a_prompt"]) == ("folder", "drawn", crops)
    assert ("1 images a prompt; the published protocol has 4" in scores["protocol"]["notes"]) == (crops == 1)
    (item,) = (row for row in rows_of(made, "benchmarks/model/dpg/items.jsonl") if row["outcome"] == "ok")
    assert len(item["numbers"]) == crops
    with PIL.Image.open(made.fetch(item["image"])) as image:
        assert image.size == ((16, 16) if crops == 1 else (32, 32))


def save_edits(root: Path) -> None:
    """One edit of each group of GEdit in English, a Chinese one, and two of ImgEdit; sources of 12 × 8."""
    from arm.evaluation.benchmarks.gedit import GROUPS

    rows = [
        {"key": f"{language}{number}", "task_type": group, "instruction": "make it red", "input_image": "s.png",
         "instruction_language": language, "Intersection_exist": True}
        for number, group in enumerate(GROUPS) for language in ("en", "cn")[: 2 if number == 0 else 1]
    ]  # fmt: skip
    save_image(root / "bench/gedit_en/images/s.png", size=(12, 8))
    (root / "bench/gedit_en/gedit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_image(root / "bench/imgedit/animal/7.jpg", size=(12, 8))
    edits = {
        number: {"id": "animal/7.jpg", "prompt": "make it red", "edit_type": kind}
        for number, kind in (("1", "add"), ("2", "style"))
    }
    (root / "bench/imgedit/basic_edit.json").write_text(json.dumps(edits))
    for number, uid in enumerate((*(row["key"] for row in rows), *edits)):
        save_image(root / f"edited/{uid}.png", grey=200 + number)


def test_edits_are_judged_once_and_scored_again_from_the_ledger(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GEdit: SC = min(8, 4) and PQ = min(9, 9) give √(4 · 9) = 6. ImgEdit: (5 + 4 + 3) / 3 = 4.

    SC is shown the source and the edit at its size, PQ the edit alone: 11 × 2 questions, and 2 of ImgEdit.
    """
    save_edits(tmp_path)
    arguments = (
        "--benchmarks", "gedit_en,imgedit", "--model", "edited", "--model.kind", "folder", "--official.data", "bench",
        "--official.judge.model", "judge-1", "--official.judge.num-workers", "1", "--official.ledger", "judge.sqlite",
    )  # fmt: skip
    with pytest.raises(SystemExit):
        run(capsys, *arguments)
    assert capsys.readouterr().err.startswith("ARM_JUDGE_URL is not set")
    monkeypatch.setenv(ADDRESS, f"http://127.0.0.1:{server.server_address[1]}/v1")
    half = "\ud83d"  # of an emoji, which a judge's text may end in
    sc, pq = f'{{"score": [8, 4], "reasoning": "{half}"}}', '{"score": [9, 9], "reasoning": "-"}'
    marks = f"Brief reasoning: {half}\nPrompt Compliance: 5\nVisual Naturalness: 4\nPhysical and Detail Integrity: 3"
    server.script = [*([sc, pq] * 11), marks]
    made = run(capsys, *arguments)
    assert [len(call["messages"][0]["content"]) - 1 for call in server.calls] == [*([2, 1] * 11), 2, 2]
    scores = {name: json.loads(made.read(f"benchmarks/model/{name}/scores.json")) for name in ("gedit_en", "imgedit")}
    found = {
        name: {metric: value["value"] for metric, value in row["estimates"].items()} for name, row in scores.items()
    }
    assert (found["gedit_en"]["semantics"], found["gedit_en"]["quality"]) == (4.0, 9.0)
    assert found["imgedit"]["type/add"] == found["imgedit"]["type/style"] == found["imgedit"]["overall"] == 4.0
    assert scores["gedit_en"]["refused"] == "595 of 606 items have no score (0 failed)"
    assert not [note for note in scores["gedit_en"]["protocol"]["notes"] if "ours" in note]
    items = rows_of(made, "benchmarks/model/gedit_en/items.jsonl")
    assert {item["numbers"]["O"] for item in items} == {6.0}
    assert all(made.exists(item["image"]) for item in items)
    assert {item["prompt"] for item in items} == {"make it red"}

    monkeypatch.delenv(ADDRESS)
    again = run(capsys, *arguments, "--official.judge.mode", "replay", "--output", "other/evaluate-model")
    assert again.url != made.url
    assert again.read("scores.json") == made.read("scores.json")
    assert len(server.calls) == 24


def test_data_and_results_may_lie_in_object_storage(
    llava: str, moto_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes as on disk: POPE's images are fetched one by one, DPG's grids go to the bucket and back."""
    use_s3(moto_address, "key", "secret", tmp_path / "cache", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    bucket = new_bucket("benchmarks")
    save_pope(tmp_path / "bench/pope")
    save_dpg(tmp_path / "bench/dpg")
    for path in (tmp_path / "bench").rglob("*.*"):
        open_folder(f"{bucket}/bench").write(path.relative_to(tmp_path / "bench").as_posix(), path.read_bytes())
    for item in ("a", "b"):
        for number in range(4):
            save_image(tmp_path / f"drawn/{item}_{number}.png", 50 * number, size=(16, 16))
    asked = ("--benchmarks", "pope", "--model", llava, "--model.kind", "huggingface")
    drawn = (
        "--benchmarks", "dpg", "--model", "drawn", "--model.kind", "folder",
        "--official.questioner.model", llava, "--official.questioner.max-tokens", "2",
    )  # fmt: skip
    for arguments in (asked, drawn):
        here = run(capsys, *arguments, "--official.data", "bench")
        there = run(capsys, *arguments, "--official.data", f"{bucket}/bench", "--output", f"{bucket}/evaluate-model")
        assert there.url.startswith("s3://")
        names = here.list("benchmarks/")
        assert names == there.list("benchmarks/")
        assert [here.read(name) for name in names] == [there.read(name) for name in names]
