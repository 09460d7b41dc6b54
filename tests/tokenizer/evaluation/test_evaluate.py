"""evaluate-tokenizer on tiny random models: every metric, also by size; classes, folders, photographs, features."""

import dataclasses
import itertools
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from arm import jobs
from arm.data.config import ImportModelConfig
from arm.data.model_import import import_model
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.storage import LocalFolder
from arm.tokenizer.config import (
    DetokenizerConfig,
    EvaluateTokenizerConfig,
    FrechetConfig,
    LinearProbeConfig,
    LpipsConfig,
    ResolutionConfig,
    ZeroShotTask,
)
from arm.tokenizer.detokenizer.latents import LatentCodec
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.tokenizer.evaluation.evaluate import evaluate_tokenizer, hits
from arm.tokenizer.evaluation.evaluation_set import Example, batches, read_folder, read_photographs
from arm.tokenizer.evaluation.frechet import FeatureBackbone, read_features
from arm.tokenizer.evaluation.lpips import NETWORKS
from arm.tokenizer.evaluation.measuring import Measured, summarise
from arm.tokenizer.evaluation.zero_shot import find_classes, label_of, read_class_names, templates_of
from arm.tokenizer.metrics import frechet_distance
from tests.tokenizer import tiny
from tests.tokenizer.vq_checkpoints import save_alone

COLORS = ZeroShotTask(name="colors", classes=tiny.TEXTS, templates=("{}", "a photo of {}"))
SCENES = ZeroShotTask(name="scenes", templates=("{}",), pattern="a .*", num_classes=3)
CONFIG = EvaluateTokenizerConfig(
    resolutions=(tiny.SQUARE,), zero_shot=(COLORS, SCENES), linear_probe=LinearProbeConfig(task="colors", num_images=60),
    photograph_resolution=ResolutionConfig(min_short_side=24, max_long_side=48), batch_size=16, threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """A random tokenizer with its encoder and detokenizer, and captioned images."""
    root = tmp_path_factory.mktemp("inputs")
    encoder, autoencoder = tiny.make_siglip(root / "encoder"), tiny.make_autoencoder(root / "autoencoder")
    visual = _tokenizer(encoder)
    visual.save_pretrained(root / "tokenizer/tokenizer")
    flow = dataclasses.replace(tiny.FLOW, patch=1)
    config = DetokenizerConfig(backbone="dit", flow=flow, guidance=1.0, sampling_steps=2)
    detokenizer = Detokenizer.create(LatentCodec.from_pretrained(root / "autoencoder/model"), visual, config)
    detokenizer.save_pretrained(root / "detokenizer/detokenizer")
    return {
        "images": tiny.make_images(root / "images"),
        "encoder": encoder,
        "tokenizer": tiny.manifest(root / "tokenizer", "tokenizer"),
        "detokenizer": tiny.manifest(root / "detokenizer", "detokenizer"),
        "autoencoder": autoencoder,
    }


def _tokenizer(encoder: Manifest) -> Any:
    from arm.tokenizer.encoder import FrozenEncoder
    from arm.tokenizer.visual import VisualTokenizer

    torch.manual_seed(0)
    return VisualTokenizer(FrozenEncoder.from_pretrained(encoder.local_folder("model")), tiny.QUANTIZER).eval()


def evaluate(inputs: dict[str, Manifest], folder: Path, /, *names: str, **changes: Any) -> Outcome:
    """Run the job on the tokenizer and the named inputs."""
    chosen = {name: inputs[name] for name in ("tokenizer", *names)}
    return evaluate_tokenizer(**chosen, output=LocalFolder(folder), config=dataclasses.replace(CONFIG, **changes))


@pytest.fixture(scope="module")
def whole(inputs: dict[str, Manifest], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The job with everything that needs no file of the user's."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, evaluate(inputs, folder, "images", "encoder", "detokenizer")


def save_image(path: Path, *, height: int = 12, width: int = 12, color: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((height, width, 3), color, np.uint8)).save(path, "jpeg")


def test_every_metric_stands_in_the_scores_and_by_size(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    names = {
        "zero_shot/colors/top1", "zero_shot/colors/encoder_top1", "zero_shot/scenes/top1", "linear_probe/pooled",
        "linear_probe/mean", "reconstruction/psnr_per_image", "reconstruction/ssim", "autoencoder/psnr_per_image",
        "autoencoder/ssim", "code_usage", "perplexity", "perplexity_per_codebook", "bits_per_dimension",
        "digits/balance/min", "digits/correlation/max",
    }  # fmt: skip
    assert names <= set(outcome.metrics)
    assert all(outcome.metrics[f"{name}/12x12"] == outcome.metrics[name] for name in names)  # they have one size
    assert json.loads((folder / "scores.json").read_text()) == outcome.metrics
    assert outcome.counts["zero_shot/colors/classes"] == outcome.counts["zero_shot/scenes/classes"] == 3
    sheet = PIL.Image.open(folder / "samples/reconstruction.png")
    shown = min(outcome.counts["images"], 24)
    assert sheet.width == min(shown, 8) * (12 * 12 + 4)
    lines = math.ceil(shown / 8)
    assert sheet.height == 3 * lines * (12 * 12 + 4) + (lines - 1) * 20


def test_a_probe_on_the_mean_of_random_codes_beats_chance(whole: tuple[Path, Outcome]) -> None:
    assert whole[1].metrics["linear_probe/mean"] >= 1 / 3


def test_the_same_config_gives_the_same_bytes(
    whole: tuple[Path, Outcome], inputs: dict[str, Manifest], tmp_path: Path
) -> None:
    evaluate(inputs, tmp_path, "images", "encoder", "detokenizer")
    for name in ("scores.json", "samples/reconstruction.png"):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


def test_an_evaluation_set_is_taken_whole_and_needs_no_encoder_without_zero_shot(
    inputs: dict[str, Manifest], tmp_path: Path
) -> None:
    given = {**inputs, "evaluation": inputs["images"]}
    outcome = evaluate(given, tmp_path, "evaluation", zero_shot=(), linear_probe=None)
    assert outcome.counts == {"images": 600}  # all captioned images, held out or not; the edit has two
    assert "reconstruction/psnr_per_image" not in outcome.metrics
    assert not (tmp_path / "samples").exists()


def test_a_folder_in_imagenets_layout_with_names_and_templates(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    for number in range(3):
        save_image(tmp_path / f"val/n00000001/{number}.JPEG", height=16, width=12, color=20 * number)
        save_image(tmp_path / f"val/n00000002/{number}.JPEG", color=30 * number)
    (tmp_path / "val/n00000001/broken.JPEG").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (tmp_path / "classes.txt").write_text("n00000001 red square, crimson box\nn00000002 blue square\n")
    (tmp_path / "templates.txt").write_text("a {}\na photo of a {}\n")
    task = ZeroShotTask(
        name="imagenet", label="folder", classes_file=str(tmp_path / "classes.txt"),
        templates_file=str(tmp_path / "templates.txt"),
    )  # fmt: skip
    outcome = evaluate(
        inputs, tmp_path / "out", "encoder", folder=str(tmp_path / "val"), zero_shot=(task,),
        linear_probe=LinearProbeConfig(task="imagenet", folder=str(tmp_path / "val")),
        resolutions=(ResolutionConfig(min_short_side=12, max_long_side=16),),
    )  # fmt: skip
    assert outcome.counts["images"] == 6
    assert sum(count for name, count in outcome.counts.items() if name.startswith("dropped/")) == 2  # set and probe
    parts = [outcome.metrics[f"zero_shot/imagenet/top1/{size}"] for size in ("12x12", "16x12")]
    assert outcome.metrics["zero_shot/imagenet/top1"] == pytest.approx(sum(parts) / 2, abs=1e-6)


def test_real_photographs_of_any_aspect_go_through_the_codes_and_back(
    inputs: dict[str, Manifest], tmp_path: Path
) -> None:
    data = pytest.importorskip("skimage.data")
    outcome = evaluate(
        inputs, tmp_path, "images", "detokenizer", photographs=str(Path(data.__file__).parent), zero_shot=(),
        linear_probe=None, max_photographs=12,
    )  # fmt: skip
    skipped = sum(count for name, count in outcome.counts.items() if name.startswith("skipped/"))
    assert outcome.counts["photographs"] == outcome.counts["photographs_read"] - skipped == 12
    assert outcome.metrics["photographs/reconstruction/psnr_per_image"] > 3
    sizes = {name.rpartition("/")[2] for name in outcome.metrics if name.startswith("photographs/perplexity/")}
    assert len(sizes) >= 4
    for height, width in (map(int, size.split("x")) for size in sizes):
        assert height % tiny.PATCH == width % tiny.PATCH == 0
        assert max(height, width) <= 48
    width, height = PIL.Image.open(tmp_path / "samples/photographs.png").size
    assert width == 8 * (48 * 3 + 4)
    assert height <= 6 * (48 * 3 + 4) + 20


def test_the_images_of_a_crawl_are_photographs_too(shared: Path) -> None:
    counts: Counter[str] = Counter()
    found = list(read_photographs(str(shared / "crawl/skimage-gallery.warc.gz"), counts))
    assert {example.image.format for example in found} == {"png"}
    assert counts["photographs_read"] == len(found) + counts["dropped/duplicate"] <= 148  # its other responses
    assert len(found) > 100


def test_photographs_that_come_twice_or_are_damaged_are_counted_and_the_limit_is_kept(tmp_path: Path) -> None:
    for number in range(3):
        save_image(tmp_path / f"{number}.jpg", color=50 * number)
    shutil.copy(tmp_path / "0.jpg", tmp_path / "1-copy.jpg")
    (tmp_path / "2-broken.png").write_bytes(b"broken")
    counts: Counter[str] = Counter()
    assert len(list(read_photographs(str(tmp_path), counts))) == 3
    assert counts == {"photographs_read": 5, "dropped/duplicate": 1, "dropped/not_an_image": 1}
    counts.clear()
    assert len(list(itertools.islice(read_photographs(str(tmp_path), counts), 2))) == 2
    assert counts == {"photographs_read": 3, "dropped/duplicate": 1}


@pytest.mark.parametrize(
    ("changes", "names", "problem"),
    [
        ({}, ("encoder",), "needs images"),
        ({}, ("images",), "needs the input `encoder`"),
        ({"photographs": "somewhere"}, ("images", "encoder"), "give the input `detokenizer`"),
        ({"steps": 3}, ("images", "encoder"), "give the input `detokenizer`"),
        ({"zero_shot": (COLORS, dataclasses.replace(SCENES, num_classes=9))}, ("images", "encoder"), "have 3 labels"),
        ({"zero_shot": (COLORS, ZeroShotTask(name="dogs", classes=("dog", "cat")))}, ("images", "encoder"), "'dogs'"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(
    changes: dict[str, Any], names: tuple[str, ...], problem: str, inputs: dict[str, Manifest], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=problem):
        evaluate(inputs, tmp_path, *names, **changes)


def test_an_adapter_without_pooling_head_has_codes_and_probe_but_no_zero_shot(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Patches:
        """The mean colour of a patch in 8 codes, embedded as its digits: a codebook without levels."""

        num_codes, levels, stride, width, fingerprint, device = 8, (), 4, 3, "patches", torch.device("cpu")

        def to(self, device: torch.device) -> "Patches":
            return self

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            bits = torch.nn.functional.avg_pool2d(images, 4) > 0.8
            return (bits * torch.tensor([1, 2, 4]).view(1, 3, 1, 1)).sum(1)

        def embed(self, codes: torch.Tensor) -> torch.Tensor:
            return (codes.flatten(1)[..., None] >> torch.arange(3) & 1).float()

    monkeypatch.setattr("arm.tokenizer.evaluation.evaluate.load_tokenizer", lambda folder: Patches())
    with pytest.raises(UserError, match="no pooling head"):
        evaluate(inputs, tmp_path, "images", "encoder")
    outcome = evaluate(inputs, tmp_path, "images", zero_shot=(), linear_probe=None)
    assert 0 < outcome.metrics["code_usage"] <= 1
    assert not [name for name in outcome.metrics if name.startswith("digits/")]


def test_an_imported_tokenizer_renders_by_its_own_decoder_and_has_no_autoencoder(
    inputs: dict[str, Manifest], tmp_path: Path
) -> None:
    save_alone("janus", tmp_path / "janus")
    config = ImportModelConfig(path=str(tmp_path / "janus"), role="image_tokenizer", licence="MIT")
    import_model(output=LocalFolder(tmp_path / "imported"), config=config)
    imported = tiny.manifest(tmp_path / "imported", "weights")
    given = {**inputs, "tokenizer": imported, "detokenizer": imported}
    outcome = evaluate(given, tmp_path / "out", "images", "detokenizer", zero_shot=(), linear_probe=None)
    assert 0 < outcome.metrics["reconstruction/psnr_per_image"] < 40
    assert "autoencoder/psnr_per_image" not in outcome.metrics
    rows = math.ceil(min(outcome.counts["images"], 24) / 8)
    sheet = PIL.Image.open(tmp_path / "out/samples/reconstruction.png")
    assert sheet.height == 2 * rows * (12 * 12 + 4) + (rows - 1) * 20  # originals and reconstructions
    with pytest.raises(UserError, match="no steps"):
        evaluate(given, tmp_path / "out", "images", "detokenizer", zero_shot=(), linear_probe=None, steps=2)


def test_means_leave_out_what_does_not_apply_and_count_what_is_perfect() -> None:
    found = Measured(sizes=[(4, 4), (4, 4), (4, 8)])
    found.histograms = {(4, 4): torch.tensor([2, 0]), (4, 8): torch.tensor([0, 2])}
    columns = {"psnr": torch.tensor([20.0, math.inf, 30.0]), "top1": torch.tensor([1.0, 0.0, math.nan])}
    metrics = summarise(found, columns, (2,))
    assert (metrics["psnr"], metrics["psnr_infinite"]) == (25, 1)
    assert (metrics["psnr/4x4"], metrics["psnr_infinite/4x4"], metrics["psnr/4x8"]) == (20, 1, 30)
    assert (metrics["top1"], metrics["top1/4x4"]) == (0.5, 0.5)
    assert "top1/4x8" not in metrics
    # one histogram over the set: two codes; a code each by size
    assert (metrics["perplexity"], metrics["perplexity/4x4"], metrics["perplexity/4x8"]) == (2, 1, 1)


def test_hits_by_hand() -> None:
    found = hits(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.4]]), torch.tensor([0, 0, -1]))
    assert found[:2].tolist() == [1, 0]
    assert math.isnan(found[2])


def test_batches_are_of_one_size_and_every_image_is_in_one_at_each_resolution(tmp_path: Path) -> None:
    for number in range(5):
        save_image(tmp_path / f"{number}.jpg", height=16, width=12 + 4 * (number % 2))
    resolutions = (ResolutionConfig(min_short_side=8, max_long_side=8), tiny.SQUARE)
    counts: Counter[str] = Counter()
    found = list(batches(read_folder(str(tmp_path), counts), resolutions, patch=4, batch_size=2, counts=counts))
    assert all(batch.images_BCHW.shape[2:] == batch.size and len(batch.numbers) <= 2 for batch in found)
    assert sorted(number for batch in found for number in batch.numbers) == sorted([*range(5), *range(5)])


def test_what_tells_the_class_of_an_image() -> None:
    image: Any = None
    example = Example(
        image=image, caption="a red circle", folder="n01", meta={"label": "tench", "a": {"b": 3}, "c": []}
    )
    wanted = {
        "caption": "a red circle",
        "folder": "n01",
        "label": "tench",
        "a.b": "3",
        "a": None,
        "c": None,
        "x.y": None,
    }
    assert {name: label_of(example, ZeroShotTask(label=name)) for name in wanted} == wanted
    assert label_of(example, ZeroShotTask(pattern="a red")) is None  # the whole label must match


def test_labels_are_classes_filled_up_from_training_images() -> None:
    task = ZeroShotTask(num_classes=4)
    found = find_classes(task, ["b", None, "a", "b"], iter(["a", "c", None, "d", "e"]))
    assert found.names == ("b", "a", "c", "d")
    assert [found.of(label) for label in ("A", "e", None)] == [1, None, None]
    assert find_classes(dataclasses.replace(task, num_classes=0), ["b", "a"], iter(["c"])).names == ("b", "a")
    named = ZeroShotTask(classes=("red circle", "cross"), match="names_one")
    assert find_classes(named, [], iter(())).of("a photo of a cross") == 1


def test_labels_that_differ_in_case_are_one_class() -> None:
    found = find_classes(ZeroShotTask(num_classes=3), ["A cat", "a cat", "a dog"], iter(["A Dog", "a bird"]))
    assert found.names == ("A cat", "a dog", "a bird")
    assert [found.of(label) for label in ("A cat", "a cat", "A DOG", "a bird")] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("data", "problem"), [(b"{", "is not JSON"), (b"3", "neither a list"), (b"\xff\xfe", "no text in UTF-8")]
)
def test_a_damaged_list_of_classes_is_named(data: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_bytes(data)
    with pytest.raises(UserError, match=problem):
        read_class_names(str(tmp_path / "classes.json"))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.txt",
            "n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
            {"n01440764": "tench", "n01443537": "goldfish"},
        ),
        ("b.txt", "great white shark\ntench\n", {"great white shark": "great white shark", "tench": "tench"}),
        ("c.json", '["tench", "goldfish"]', {"tench": "tench", "goldfish": "goldfish"}),
        ("d.json", '{"n01440764": "tench"}', {"n01440764": "tench"}),
        ("e.json", '{"0": ["n01440764", "great_white"]}', {"n01440764": "great white"}),
    ],
)
def test_class_names_are_read_in_the_forms_that_are_about(
    name: str, text: str, expected: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_names(str(tmp_path / name)) == expected


def test_templates_come_from_the_file_and_need_a_place_for_the_class(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("a {}\n\nthe {}.\n")
    assert templates_of(ZeroShotTask(templates_file=str(path))) == ("a {}", "the {}.")
    path.write_text("a cat\n")
    with pytest.raises(UserError, match="a cat"):
        templates_of(ZeroShotTask(templates_file=str(path)))


def test_frechet_distance_of_files_of_features(inputs: dict[str, Manifest], tmp_path: Path, shared: Path) -> None:
    from safetensors.numpy import save_file

    made = np.load(shared / "evaldata/tokenizer/made_features.npz")
    np.save(tmp_path / "a.npy", made["a"])
    save_file({"features": made["b"]}, tmp_path / "b.safetensors")
    files = (str(tmp_path / "a.npy"), str(tmp_path / "b.safetensors"))
    outcome = evaluate(
        inputs, tmp_path / "out", "images", zero_shot=(), linear_probe=None, frechet=FrechetConfig(features=files)
    )
    assert outcome.metrics["frechet"] == pytest.approx(2.811726628196922, abs=1e-4)
    np.save(tmp_path / "a.npy", np.array([{"evil": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read as features"):
        read_features(files[0])
    np.save(tmp_path / "a.npy", np.array([["a", "b"], ["c", "d"]]))
    with pytest.raises(UserError, match="finite numbers"):
        read_features(files[0])


def test_a_backbone_of_the_users_reads_originals_and_reconstructions(
    inputs: dict[str, Manifest], tmp_path: Path
) -> None:
    model = tiny.vision_model()
    model.save_pretrained(tmp_path / "backbone")
    settings = {"size": {"height": 12, "width": 12}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "backbone/preprocessor_config.json").write_text(json.dumps(settings))
    backbone = FeatureBackbone(str(tmp_path / "backbone"), torch.device("cpu"))
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(pixel_values=images * 2 - 1).pooler_output
    assert torch.allclose(backbone(images).float(), expected, atol=1e-5)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "backbone")
    stored = FeatureBackbone(str(tmp_path / "backbone"), torch.device("cpu"))
    assert {value.dtype for value in stored.model.parameters()} == {torch.float32}
    outcome = evaluate(
        inputs, tmp_path / "out", "images", "detokenizer", zero_shot=(), linear_probe=None,
        frechet=FrechetConfig(backbone=str(tmp_path / "backbone")),
    )  # fmt: skip
    assert outcome.metrics["frechet"] == outcome.metrics["frechet/12x12"] > 0
    assert frechet_distance(np.eye(3), np.eye(3)) == pytest.approx(0, abs=1e-12)


def test_lpips_stands_beside_psnr_by_size_and_images_too_small_for_it_are_counted(
    inputs: dict[str, Manifest], tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = NETWORKS["alex"].shapes
    weights = {name: torch.randn(shape, generator=generator) / math.prod(shape[1:]) for name, shape in shapes.items()}
    torch.save(weights, tmp_path / "alexnet.pth")
    for side in (24, 40):
        save_image(tmp_path / f"photographs/{side}.jpeg", height=side, width=side)
    large = ResolutionConfig(min_short_side=36, max_long_side=36)
    lpips = {"lpips": LpipsConfig(weights=str(tmp_path / "alexnet.pth"))}
    outcome = evaluate(
        inputs, tmp_path / "out", "images", "detokenizer", zero_shot=(), linear_probe=None, max_images=3,
        resolutions=(tiny.SQUARE, large), photographs=str(tmp_path / "photographs"), **lpips,
    )  # fmt: skip
    for name in ("reconstruction/lpips", "autoencoder/lpips"):
        assert outcome.metrics[name] == outcome.metrics[f"{name}/36x36"] > 0
        assert f"{name}/12x12" not in outcome.metrics
    assert outcome.metrics["photographs/reconstruction/lpips"] > 0
    assert outcome.counts == {
        "images": 6, "images_too_small_for_lpips": 3, "photographs_read": 2, "photographs": 2,
        "photographs_too_small_for_lpips": 1,
    }  # fmt: skip
    with pytest.raises(UserError, match="give the input `detokenizer`"):
        evaluate(inputs, tmp_path / "out", "images", zero_shot=(), linear_probe=None, **lpips)


def test_a_changed_file_beside_the_inputs_is_another_run(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("a red square\na blue square\n")
    config = EvaluateTokenizerConfig(zero_shot=(ZeroShotTask(classes_file=str(tmp_path / "classes.txt")),))
    given = {}
    for name in ("tokenizer", "images"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "manifest.json").write_bytes(inputs[name].to_json())
        given[name] = str(folder)
    first = jobs.plan("evaluate-tokenizer", output=str(tmp_path / "out"), config=config, inputs=given)
    (tmp_path / "classes.txt").write_text("a red square\na green square\n")
    second = jobs.plan("evaluate-tokenizer", output=str(tmp_path / "out"), config=config, inputs=given)
    assert first.key != second.key


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: ZeroShotTask(name="Two Objects"), "lower-case"),
        (lambda: ZeroShotTask(classes=("a",), classes_file="b"), "give one"),
        (lambda: ZeroShotTask(match="names_one"), "give classes"),
        (lambda: ZeroShotTask(classes=("a", "b"), num_classes=2), "leave it out"),
        (lambda: ZeroShotTask(templates=("a cat",)), "needs templates"),
        (lambda: ZeroShotTask(pattern="("), "no regular expression"),
        (lambda: LinearProbeConfig(penalty=0.0), "penalty > 0"),
        (lambda: FrechetConfig(), "backbone folder, or two files"),
        (lambda: FrechetConfig(features=("a",)), "two files"),
        (lambda: EvaluateTokenizerConfig(zero_shot=(COLORS, COLORS)), "twice"),
        (lambda: EvaluateTokenizerConfig(linear_probe=LinearProbeConfig(task="x")), "zero_shot has none"),
        (lambda: EvaluateTokenizerConfig(batch_size=0), "at least 1"),
    ],
)
def test_a_config_that_says_nothing_sensible_is_refused(make: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        make()
