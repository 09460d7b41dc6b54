"""The whole job on made-up models: a tokenizer of grey levels, a generator that draws what its seed says."""

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from made_up_models import CALLS, Drawer, GreyDetokenizer, GreyTokenizer

from arm import manifest as manifests
from arm.data.images import encode_image
from arm.data.shards import write_shard
from arm.errors import IntegrityError
from arm.evaluation import evaluate, subject
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.protocols import OWN
from arm.manifest import Manifest
from arm.records import Image, Sample, Text, make_uid
from arm.storage import Folder, open_folder

CONFIG = EvaluateConfig(
    benchmarks=("real_images", "reconstruction", "copy_source", "constant_answer", "text_to_image", "editing", "understanding"),
    checker=__name__, prompts_per_category=3, max_questions=4, max_edits=4, max_images=4, image_size=8, items_per_file=2,
    batch_size=3, num_bootstraps=100, num_grid_images=3,
)  # fmt: skip


def check_prompt(image: np.ndarray, meta: dict[str, Any]) -> SimpleNamespace:
    """Right when the image's grey level is the one asked for."""
    CALLS.append("judge")
    strict = bool(abs(int(image[0, 0, 0]) - meta["grey"]) <= meta.get("slack", 10))
    return SimpleNamespace(strict=strict, score=float(strict), reasons=())


def check_edit(image: np.ndarray, source_image: np.ndarray, meta: dict[str, Any]) -> SimpleNamespace:
    """Right when the image has become lighter."""
    strict = bool(image.mean() > source_image.mean())
    return SimpleNamespace(strict=strict, score=float(strict), reasons=())


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the job with the stages of the given names into a folder of that name."""
    CALLS.clear()
    monkeypatch.setattr(subject.Tools, "tokenizer", GreyTokenizer())
    monkeypatch.setattr(subject.Tools, "detokenizer", GreyDetokenizer())
    generator = "arm.model.generation.Generator.from_pretrained"
    monkeypatch.setattr(generator, lambda folder, dtype: Drawer(int((folder / "shift").read_text())))
    inputs = {name: _artifact(tmp_path / name, name) for name in ("tokenizer", "detokenizer", "model")}
    samples = _samples(tmp_path / "samples")

    def run(name: str, shifts: dict[str, int], config: EvaluateConfig = CONFIG) -> Folder:
        output = open_folder(str(tmp_path / name))
        models = {
            stage: _artifact(tmp_path / f"model-{stage}-{shift}", "model", shift) for stage, shift in shifts.items()
        }
        outcome = evaluate.evaluate_model(
            samples=samples, tokenizer=inputs["tokenizer"], detokenizer=inputs["detokenizer"], encoder=inputs["model"],
            **models, output=output, config=config,
        )  # fmt: skip
        output.write("outcome.json", json.dumps([outcome.counts, outcome.metrics]).encode())
        return output

    return run


def test_scores_of_every_stage_and_of_the_reference(job: Any) -> None:
    output = job("out", {"finetuned": 0, "t2i_policy": 0})
    scores = json.loads(output.read("scores.json"))
    assert set(scores) == {"reference", "finetuned", "t2i_policy"}
    assert scores["reference"]["real_images/strict"] == 1.0
    assert scores["reference"]["copy_source/strict"] == 0.0
    assert scores["reference"]["constant_answer/accuracy"] == 0.75
    assert scores["finetuned"]["editing/strict"] == 1.0
    assert scores["finetuned"]["understanding/accuracy"] == 0.5
    assert scores["finetuned"] == scores["t2i_policy"]
    counts, metrics = json.loads(output.read("outcome.json"))
    assert counts == {
        "prompts": 6,
        "questions": 4,
        "edits": 4,
        "images": 4,
        "stages": 2,
        "items_failed": 0,
        "items_missing": 0,
    }
    assert metrics["t2i_policy/text_to_image/mean"] == scores["t2i_policy"]["text_to_image/mean"]
    protocol = json.loads(output.read("protocols.json"))["finetuned"]["editing"]
    assert protocol["images"].keys() == {"image_size", "render_steps", "render_guidance"}
    assert set(OWN) <= protocol.keys()


def test_reconstruction_psnr_is_that_of_the_quantised_grey(job: Any) -> None:
    """Grey 100 becomes 96, an error of 4: PSNR 10 log10(255² / 16) = 36.09 dB; 64 comes back as it was and is left out."""
    output = job("out", {})
    protocol = json.loads(output.read("protocols.json"))["reference"]["reconstruction"]
    assert protocol["estimates"]["psnr"]["value"] == pytest.approx(36.0896, abs=1e-3)
    assert protocol["estimates"]["psnr"]["num_items"] == 2
    assert protocol["estimates"]["strict"]["value"] == 1.0


def test_the_same_prompts_and_seeds_at_every_stage(job: Any) -> None:
    """The better stage draws one shade more for each item: the same item by item, plus one."""
    output = job("out", {"pretrained": 0, "finetuned": 1})
    before, after = (_drawn_greys(output, stage) for stage in ("pretrained", "finetuned"))
    assert len(before) == 6
    assert after == {uid: grey + 16 for uid, grey in before.items()}


def test_stages_are_compared_in_pairs(job: Any) -> None:
    compared = json.loads(job("out", {"pretrained": 0, "continued": 20, "finetuned": 0}).read("comparisons.json"))
    found = {(item["benchmark"], item["before"], item["after"]): item for item in compared}
    assert len(found) == 9
    assert found["editing", "pretrained", "finetuned"]["not_lower"]
    worse = found["text_to_image", "pretrained", "continued"]
    assert worse["difference"] < 0
    assert not worse["not_lower"]


def test_a_resumed_run_ends_in_the_same_bytes_and_draws_nothing_twice(job: Any) -> None:
    whole = job("whole", {"finetuned": 0})
    killed = job("killed", {"finetuned": 0})
    for name in ("scores.json", "items/finetuned/text_to_image/00001.verdicts.jsonl",
                 "items/finetuned/text_to_image/00002.replies.jsonl", "items/finetuned/text_to_image/00002.verdicts.jsonl",
                 "items/finetuned/editing/00001.outputs.jsonl", "items/finetuned/editing/00001.replies.jsonl",
                 "items/finetuned/editing/00001.verdicts.jsonl"):  # fmt: skip
        killed.delete(name)
    CALLS.clear()
    job("killed", {"finetuned": 0})
    assert CALLS.count("draw") == 1
    assert CALLS.count("judge") == 2
    assert {n: whole.read(n) for n in whole.list()} == {n: killed.read(n) for n in killed.list()}


def test_a_file_with_another_number_of_rows_is_refused(job: Any) -> None:
    output = job("out", {"finetuned": 0})
    output.write("items/finetuned/editing/00000.verdicts.jsonl", b"")
    with pytest.raises(IntegrityError, match=r"00000\.verdicts\.jsonl does not hold the rows of its 2 items"):
        job("out", {"finetuned": 0})


def test_batches_change_no_byte(job: Any) -> None:
    from dataclasses import replace

    first, second = job("a", {"finetuned": 0}), job("b", {"finetuned": 0}, replace(CONFIG, batch_size=1))
    assert {n: first.read(n) for n in first.list()} == {n: second.read(n) for n in second.list()}


def test_what_rewarded_a_stage_is_told_by_stage(job: Any, tmp_path: Path) -> None:
    told = b'{"editing": ["made-up/1 in t2i"]}'
    open_folder(str(tmp_path / "model-t2i_policy-0")).write("rewarded.json", told)
    output = job("out", {"finetuned": 0, "t2i_policy": 0})
    assert json.loads(output.read("rewarded.json")) == {"t2i_policy": json.loads(told)}
    assert not job("other", {"finetuned": 0}).exists("rewarded.json")


def test_pictures_have_a_column_for_each_item_and_captions(job: Any) -> None:
    output = job("out", {"finetuned": 0})
    captions = json.loads(output.read("images/captions.json"))
    assert sorted(captions) == ["finetuned.editing.png", "finetuned.text_to_image.png", "reconstruction.png"]
    with PIL.Image.open(io.BytesIO(output.read("images/finetuned.editing.png"))) as picture:
        assert picture.size == (3 * 22 + 6, 2 * 22 + 6)
    entry = captions["finetuned.editing.png"]["entries"][0]
    assert entry["prompt"] == "make it lighter"
    assert entry["strict"] is True


def _artifact(folder: Path, name: str, shift: int = 0) -> Manifest:
    output = open_folder(str(folder))
    output.write(f"{name}/shift", str(shift).encode())
    return _manifest(output)


def _manifest(folder: Folder) -> Manifest:
    return Manifest(
        kind="made-up", job="made-up", version=1, key="", config={}, inputs={}, counts={}, metrics={},
        files=manifests.entries_of(folder), folder=folder,
    )  # fmt: skip


def _samples(folder: Path) -> Manifest:
    """Six prompts of two categories, four images of grey 100 or 64, two question samples and four edits."""
    output = open_folder(str(folder))
    prompts = [
        _sample("text_to_image", str(i), {"category": "ab"[i % 2], "grey": 0, "slack": 200}, Text(text=f"grey {i}", role="caption"))
        for i in range(6)
    ]  # fmt: skip
    images = [
        _sample("caption", str(i), {"category": "full", "grey": grey}, _grey(grey), Text(text="grey"))
        for i, grey in enumerate((100, 64, 100, 64))
    ]
    asked = [("how many?", "two"), ("is it?", "yes")]
    texts = [
        Text(text=text, role=role) for pair in asked for text, role in zip(pair, ("question", "answer"), strict=True)
    ]
    other = [*texts[:3], Text(text="no", role="answer")]
    kinds = {"kinds": ["counting", "existence"]}
    questions = [_sample("question", "1", kinds, _grey(32), *texts), _sample("question", "2", kinds, _grey(48), *other)]
    edits = [
        _sample(
            "edit", str(i), {"operation": "lighten"}, _grey(16 * i), Text(text="make it lighter", role="instruction")
        )
        for i in range(1, 5)
    ]
    with output.publish("shards/evaluation-00000.tar") as path:
        write_shard(path, [*prompts, *images, *questions, *edits])
    return _manifest(output)


def _sample(task: str, name: str, meta: dict[str, Any], *parts: Any) -> Sample:
    return Sample(uid=make_uid(task, name), task=task, parts=parts, source="made-up", meta=meta)


def _grey(level: int) -> Image:
    return encode_image(np.full((8, 8, 3), level, dtype=np.uint8))


def _drawn_greys(output: Folder, stage: str) -> dict[str, int]:
    greys: dict[str, int] = {}
    for name in output.list(f"items/{stage}/text_to_image/"):
        if name.endswith(".tar"):
            with tarfile.open(output.fetch(name)) as tar:
                for member in tar:
                    if member.name.endswith(".png"):
                        data = tar.extractfile(member)
                        assert data is not None
                        greys[member.name] = int(np.asarray(PIL.Image.open(data))[0, 0, 0])
    return greys
