"""Detections for GenEval: boxes, scores and colours as its own program has them, made once whatever happens."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import transformers as hf
from tiny_rivals import TEXT, VISION, tokenizer

from arm.errors import UserError
from arm.evaluation.detectors.classes import CLASSES
from arm.evaluation.detectors.colours import crop, load_namer
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.detectors.detect import classes_of, detect_objects
from arm.evaluation.detectors.detector import Found, best, load_detector
from arm.evaluation.detectors.grounding_dino import owners_of
from arm.evaluation.detectors.mask2former import Mask2Former
from arm.evaluation.items import Pixels
from arm.storage import sha256_of

SWIN: dict[str, Any] = {
    "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "image_size": 32, "window_size": 2,
}  # fmt: skip
SIDE = {"height": 128, "width": 128}
"""Five halvings leave 4 × 4."""


def save_mask2former(folder: Path) -> Path:
    torch.manual_seed(0)
    swin = hf.SwinConfig(**SWIN, out_features=["stage1", "stage2", "stage3", "stage4"])
    config = hf.Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_layers=1, decoder_layers=2,
        num_attention_heads=2, encoder_feedforward_dim=32, dim_feedforward=32, num_queries=6, num_labels=80,
    )  # fmt: skip
    hf.Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    hf.Mask2FormerImageProcessorPil(size=SIDE).save_pretrained(folder)
    return folder


def bert_tokenizer() -> Any:
    """The marks have the ids that Grounding DINO looks for."""
    words = {f"w{index}": index for index in range(1100)}
    fixed = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    fixed |= {"bench": 1, "cow": 2, "stop": 3, "sign": 4}
    kept = {word: index for word, index in words.items() if index not in fixed.values()}
    return hf.BertTokenizer(vocab={**kept, **fixed})


def save_grounding_dino(folder: Path) -> Path:
    torch.manual_seed(0)
    config = hf.GroundingDinoConfig(
        backbone_config=hf.SwinConfig(**SWIN, out_features=["stage2", "stage3", "stage4"]),
        text_config=hf.BertConfig(vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                  intermediate_size=16),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=6,
    )  # fmt: skip
    hf.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = hf.GroundingDinoImageProcessorPil(size=SIDE)
    hf.GroundingDinoProcessor(images, bert_tokenizer()).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    words = tokenizer()
    text = {name: TEXT[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    config = hf.CLIPConfig(
        text_config={"vocab_size": len(words), "num_attention_heads": 2, "max_position_embeddings": 77,
                     "eos_token_id": words.eos_token_id, **text},
        vision_config=VISION, projection_dim=8,
    )  # fmt: skip
    hf.CLIPModel(config).save_pretrained(folder)
    side = {"height": 16, "width": 16}
    hf.CLIPProcessor(hf.CLIPImageProcessorPil(size=side, crop_size=side), words).save_pretrained(folder)
    return folder


PICTURE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


class Finder:
    """Finds one object of every class, its score the image's first pixel over 256."""

    def __init__(self, dies_at: int = 10**9) -> None:
        self.calls, self.dies_at = 0, dies_at

    def protocol(self) -> dict[str, Any]:
        return {"detector": "finder"}

    def detect(self, image: Pixels, classes: Sequence[str]) -> dict[str, list[Found]]:
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        return {name: [Found((0.0, 0.0, 2.0, 2.0), float(image[0, 0, 0]) / 256)] for name in classes}


class Red:
    def protocol(self) -> dict[str, Any]:
        return {"clip": "red"}

    def name(self, image: Pixels, name: str, found: Sequence[Found]) -> list[str]:
        return ["red"] * len(found)


METAS = [
    {"tag": "colors", "include": [{"class": "bench", "count": 1, "color": "red"}], "prompt": "a red bench"},
    {"tag": "counting", "include": [{"class": "cow", "count": 2}], "exclude": [{"class": "cow", "count": 3}]},
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for index, meta in enumerate(METAS):
        folder = tmp_path / f"images/{index:05d}/samples"
        folder.mkdir(parents=True)
        (folder.parent / "metadata.jsonl").write_text(json.dumps(meta))
        for sample in range(20):
            PIL.Image.new("RGB", (8, 4), (64 * index + sample,) * 3).save(folder / f"{sample:04d}.png")
        (folder / ".tmp-killed.png").write_bytes(b"half")
    return tmp_path / "images"


def test_rows_hold_what_the_official_vectors_hold(images: Path, tmp_path: Path) -> None:
    counts = detect_objects(Finder(), Red, images, tmp_path / "d.jsonl")  # type: ignore[arg-type]
    assert counts == {"images_expected": 40, "images_there": 0, "images_detected": 40, "images_failed": 0}
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert rows[3] == {
        "uid": "00000/samples/0003.png", "prompt_index": 0, "sample": 3, "metadata": METAS[0], "size": [8, 4],
        "detections": {"bench": [[0.0, 0.0, 2.0, 2.0, 3 / 256]]},
        "colors": {"[0.0, 0.0, 2.0, 2.0, 0.01171875]": "red"},
        "sha256": sha256_of(images / "00000/samples/0003.png"),
    }  # fmt: skip
    assert rows[39]["colors"] == {}


@pytest.mark.parametrize("dies_at", [0, 17, 39])
def test_killed_detection_goes_on(images: Path, tmp_path: Path, dies_at: int) -> None:
    detect_objects(Finder(), Red, images, tmp_path / "whole.jsonl")  # type: ignore[arg-type]
    output = tmp_path / "killed.jsonl"
    with pytest.raises(KeyboardInterrupt):
        detect_objects(Finder(dies_at), Red, images, output)  # type: ignore[arg-type]
    again = Finder()
    detect_objects(again, Red, images, output)  # type: ignore[arg-type]
    assert again.calls == 40 - dies_at // 16 * 16
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_image_that_is_another_one_now_is_looked_at_anew(images: Path, tmp_path: Path) -> None:
    detect_objects(Finder(), Red, images, tmp_path / "d.jsonl")  # type: ignore[arg-type]
    PIL.Image.new("RGB", (8, 4), (9, 9, 9)).save(images / "00001/samples/0004.png")
    again = Finder()
    assert detect_objects(again, Red, images, tmp_path / "d.jsonl")["images_detected"] == again.calls == 1  # type: ignore[arg-type]


def test_a_broken_image_is_a_failed_row(images: Path, tmp_path: Path) -> None:
    (images / "00001/samples/0000.png").write_text("<html>")
    assert detect_objects(Finder(), Red, images, tmp_path / "d.jsonl")["images_failed"] == 1  # type: ignore[arg-type]
    (images / "00001/metadata.jsonl").write_text("[]")
    with pytest.raises(UserError, match=r"metadata\.jsonl is no row of GenEval"):
        detect_objects(Finder(), Red, images, tmp_path / "e.jsonl")  # type: ignore[arg-type]


def test_the_best_boxes_of_a_class_come_first_and_the_threshold_is_left_out() -> None:
    found = [("cow", Found((0, 0, 1, 1), score)) for score in (0.3, 0.5, 0.9, 0.4)]
    kept = best(found, DetectorConfig(model="x", max_boxes=2))
    assert [item.score for item in kept["cow"]] == [0.9, 0.5]


def test_a_masks_box_and_score_are_worked_out_by_hand() -> None:
    """Class probability .8, logits 0+ln 3 -> sigmoid .75 inside the mask: score .6; columns 1-2, row 1."""
    model: Any = object.__new__(Mask2Former)
    model.names, model.config = ["bench", "cow"], DetectorConfig(model="x")
    masks = torch.full((1, 3, 4), -1.0)
    masks[0, 1, 1:3] = float(np.log(3))
    ((name, found),) = model._pairs(torch.tensor([[0.1, 0.8]]), masks, frozenset({"bench", "cow"}))
    assert (name, found.box) == ("cow", (1.0, 1.0, 3.0, 2.0))
    assert found.score == pytest.approx(0.6)
    assert found.mask.tolist()[1] == [False, True, True, False]


def test_the_crop_is_grey_outside_of_the_mask() -> None:
    image = np.full((4, 4, 3), 7, np.uint8)
    mask = np.zeros((4, 4), np.bool_)
    mask[1, 1] = True
    cropped = np.asarray(crop(image, Found((1.0, 1.0, 3.0, 3.0), 1.0, mask)))
    assert cropped[:, :, 0].tolist() == [[7, 0x99], [0x99, 0x99]]
    assert crop(image, Found((1.0, 1.0, 1.2, 1.2), 1.0)).size == (1, 1)


def test_tokens_belong_to_the_class_they_spell() -> None:
    """[CLS] bench . stop sign . [SEP]"""
    assert owners_of(bert_tokenizer(), "bench. stop sign.", ["bench", "stop sign"]) == [-1, 0, -1, 1, 1, -1, -1]


@pytest.mark.parametrize(("kind", "save"), [("mask2former", save_mask2former), ("grounding_dino", save_grounding_dino)])
def test_a_tiny_detector_loads_and_finds_boxes_inside_the_image(kind: str, save: Any, tmp_path: Path) -> None:
    config = DetectorConfig(kind=kind, model=str(save(tmp_path / kind)), threshold=0.0, max_boxes=3)
    detector = load_detector(config)
    found = detector.detect(PICTURE, list(CLASSES) if kind == "mask2former" else ["bench", "cow"])
    assert found
    assert all(1 <= len(items) <= 3 for items in found.values())
    for item in (item for items in found.values() for item in items):
        assert 0 < item.score < 1
        assert item.box[0] <= item.box[2] <= 60
        assert item.mask is None or item.mask.shape == (24, 40)
    assert detector.detect(PICTURE, ["bench"]).keys() <= {"bench"}
    assert str(tmp_path) not in str(detector.protocol())


def test_clip_names_a_colour_for_every_box(tmp_path: Path) -> None:
    namer = load_namer(DetectorConfig(model="x", clip=str(save_clip(tmp_path / "clip"))))
    found = [Found((0.0, 0.0, 9.0, 9.0), 0.5), Found((5.0, 5.0, 30.0, 20.0), 0.4)]
    colours = namer.name(PICTURE, "bench", found)
    assert len(colours) == 2
    assert colours == [namer.name(PICTURE, "bench", [item])[0] for item in found]
    assert namer.name(PICTURE, "bench", []) == []


def test_wrong_detectors_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no detector 'mask2forme'; did you mean 'mask2former'"):
        load_detector(DetectorConfig(kind="mask2forme", model="x"))
    with pytest.raises(UserError, match="nothing is downloaded here"):
        load_detector(DetectorConfig(model="facebook/mask2former"))
    with pytest.raises(UserError, match=r"Some prompts name a colour; give DetectorConfig\.clip"):
        load_namer(DetectorConfig(model="x"))
    assert classes_of(METAS[1]) == ["cow"]
