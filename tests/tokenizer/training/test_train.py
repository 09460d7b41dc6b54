"""train-tokenizer on tiny random models: what it publishes, exact resume, losses switched off, sizes."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from arm.data.shards import read_samples, write_shard
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.model.lmm import CAPTION_VECTORS
from arm.records import Sample, Text, make_uid
from arm.storage import LocalFolder
from arm.tokenizer import loop
from arm.tokenizer.config import ResolutionConfig, TokenizerConfig
from arm.tokenizer.text import CaptionTokens, TextTower
from arm.tokenizer.training import trainer
from arm.tokenizer.training.train import train_tokenizer
from arm.tokenizer.training.trainer import TokenizerTrainer
from arm.tokenizer.visual import VisualTokenizer
from arm.training.engine import PATIENCE, TIMEOUT
from tests.tokenizer import tiny


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """Random weights and a few hundred images."""
    root = tmp_path_factory.mktemp("inputs")
    return {
        "images": tiny.make_images(root / "images"),
        "encoder": tiny.make_siglip(root / "encoder"),
        "caption_model": tiny.make_language_model(root / "language_model"),
    }


def train(inputs: dict[str, Manifest], folder: Path, **options: object) -> Outcome:
    return train_tokenizer(**inputs, output=LocalFolder(folder), config=tiny.tokenizer_config(**options))


def published(folder: Path) -> dict[str, bytes]:
    home = LocalFolder(folder)
    return {name: home.read(name) for name in home.list()}


class Killed(Exception):
    pass


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the loop at the learning rate of that step."""
    real = loop.learning_rate

    def dying(now: int, *rest: object) -> float:
        if now == step:
            raise Killed
        return real(now, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "learning_rate", dying)


def test_training_publishes_tokenizer_curves_codes_and_samples(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    outcome = train(inputs, tmp_path, num_steps=2)
    files = published(tmp_path)
    assert {"tokenizer/projections.safetensors", "samples/reconstruction.png", "codes.json"} <= set(files)
    lines = [json.loads(line) for line in files["curves.jsonl"].splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {"loss/pixel", "loss/sigmoid", "loss/caption", "loss/feature", "loss/total"} <= set(lines[0])
    assert {"digits/balance/min", "digits/correlation/max", "digits/flip_rate/noise"} <= set(lines[0])
    assert "digits/flip_rate/steps" in lines[1]
    names = {"pixel_dit/psnr", "code_usage", "perplexity", "zero_shot/top1", "digits/flip_rate/noise"}
    assert names | {f"{name}/12x12" for name in names} <= set(outcome.metrics)
    assert outcome.counts == {"steps": 2, "images_seen": 8, "images_left_over": 0, "held_out": 7}
    assert len(json.loads(files["codes.json"])["balance"]) == 4


def test_ranks_wait_for_the_one_that_measures_longer_than_for_a_collective(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = tiny.recorded_barriers(monkeypatch)
    train(inputs, tmp_path, num_steps=1)
    assert waited[-1] == PATIENCE > TIMEOUT


def test_what_the_caption_model_reads_for_each_code_is_published(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    train(inputs, tmp_path, num_steps=2)
    vectors = load_file(tmp_path / CAPTION_VECTORS)["codes"]
    width = AutoConfig.from_pretrained(inputs["caption_model"].local_folder("model")).hidden_size
    assert vectors.shape == (VisualTokenizer.from_pretrained(tmp_path / "tokenizer").num_codes, width)
    assert len(vectors.unique(dim=0)) > 1
    train(inputs, tmp_path / "without", num_steps=1, caption_weight=0.0)
    assert not (tmp_path / "without" / CAPTION_VECTORS).exists()


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": dataclasses.replace(tiny.OPTIMIZER, name="muon"), "micro_batch": 3},
        {"loss_normalisation": "running", "ema_decay": 0.5, "log_every": 3},
    ],
    ids=["muon-accumulating", "running-averaged"],
)
def test_a_killed_training_goes_on_to_the_same_bytes(
    options: dict[str, object], inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(inputs, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        kill_at(3, patch)
        with pytest.raises(Killed):
            train(inputs, tmp_path / "killed", **options)
    train(inputs, tmp_path / "killed", **options)
    assert published(tmp_path / "killed") == published(tmp_path / "whole")


def test_averaged_weights_are_published(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    train(inputs, tmp_path / "last", num_steps=2)
    train(inputs, tmp_path / "average", num_steps=2, ema_decay=0.5)
    last, average = published(tmp_path / "last"), published(tmp_path / "average")
    assert last["curves.jsonl"] != b""
    curves = [
        [json.loads(line)["loss/total"] for line in each["curves.jsonl"].splitlines()] for each in (last, average)
    ]
    assert curves[0] == curves[1]
    assert last["tokenizer/projections.safetensors"] != average["tokenizer/projections.safetensors"]


def test_mixed_sizes_train_and_every_metric_is_reported_by_size(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    sizes = tuple(ResolutionConfig(min_short_side=side, max_long_side=side) for side in (8, 12))
    outcome = train(inputs, tmp_path, num_steps=2, resolutions=sizes, batch_size=8)
    assert {"pixel_dit/psnr", "pixel_dit/psnr/8x8", "pixel_dit/psnr/12x12", "code_usage/8x8"} <= set(outcome.metrics)


class Refused(Exception):
    pass


@pytest.mark.parametrize("loss", ["caption", "pixel", "sigmoid", "feature"])
def test_a_loss_of_weight_zero_is_not_built_and_loads_nothing(
    loss: str, inputs: dict[str, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = {"caption": ("load_language_model", "CaptionTokens"), "sigmoid": ("TextTower",), "pixel": ("PixelDiT",)}

    def refuse(*_: object, **__: object) -> None:
        raise Refused

    folders = [inputs[name].local_folder("model") for name in ("caption_model", "encoder")]
    for name in loads.get(loss, ()):
        monkeypatch.setattr(trainer, name, refuse)
        with pytest.raises(Refused):
            TokenizerTrainer(tiny.visual_tokenizer(), tiny.tokenizer_config(), *folders)
    built = TokenizerTrainer(tiny.visual_tokenizer(), tiny.tokenizer_config(**{f"{loss}_weight": 0.0}), *folders)
    assert getattr(built, loss, None) is None
    assert loss not in built.weighting.weights


def test_the_sigmoid_loss_reads_short_captions_and_the_caption_loss_long_ones(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next(read_samples(inputs["images"])).parts[0]
    samples = [
        Sample(
            uid=make_uid("long", str(index)), task="caption", source="tiny",
            parts=(image, Text(text=f"a red square {index}", role="caption")), meta={"description": f"very long {index}"},
        )
        for index in range(400)
    ]  # fmt: skip
    (tmp_path / "images/shards").mkdir(parents=True)
    write_shard(tmp_path / "images/shards/long-00000.tar", samples)
    read: dict[str, set[str]] = {"tower": set(), "words": set()}
    embed, tokens = TextTower.embed, CaptionTokens.__call__

    def spy_embed(self: TextTower, texts: Sequence[str]) -> Tensor:
        read["tower"].update(texts)
        return embed(self, texts)

    def spy_tokens(self: CaptionTokens, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        read["words"].update(texts)
        return tokens(self, texts)

    monkeypatch.setattr(TextTower, "embed", spy_embed)
    monkeypatch.setattr(CaptionTokens, "__call__", spy_tokens)
    images = tiny.manifest(tmp_path / "images", "curated-shards")
    train({**inputs, "images": images}, tmp_path / "out", num_steps=1, caption_fraction=0.5, zero_shot_classes=())
    assert len(read["tower"]) == 4
    assert len(read["words"]) == 2
    assert all(text.startswith("a red square") for text in read["tower"])
    assert all(text.startswith("very long") for text in read["words"])


def test_one_loss_alone_trains(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    off = {f"{loss}_weight": 0.0 for loss in ("caption", "pixel", "sigmoid")}
    outcome = train(inputs, tmp_path, num_steps=1, **off)
    assert "pixel_dit/psnr" not in outcome.metrics
    assert "zero_shot/top1" in outcome.metrics


def test_an_image_set_without_captions_for_a_batch_is_refused(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size"):
        train(inputs, tmp_path, batch_size=5000)


def test_a_config_that_cannot_train_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="caption_fraction"):
        TokenizerConfig(batch_size=4, caption_fraction=0.1)
    with pytest.raises(UserError, match="resolutions"):
        TokenizerConfig(resolutions=())
    with pytest.raises(UserError, match="ema_decay"):
        TokenizerConfig(ema_decay=1.0)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            {"caption_weight": 0.0, "pixel_weight": 0.0, "sigmoid_weight": 0.0, "feature_weight": 0.0},
            "every weight is 0",
        ),
        ({"feature_weight": -1.0}, "a weight below 0"),
        ({"commitment_weight": -0.1}, "a weight below 0"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TokenizerConfig(**weights)
