"""train-detokenizer on tiny random models, and rendering: resume, sizes, sources, seeds, guidance."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from arm.data.images import encode_image
from arm.data.shards import write_shard
from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.records import Image, Sample, Text, make_uid
from arm.storage import LocalFolder
from arm.tokenizer import loop
from arm.tokenizer.config import DetokenizerConfig, ResolutionConfig
from arm.tokenizer.detokenizer.evaluate import masked_psnr
from arm.tokenizer.detokenizer.latents import LatentCodec
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.tokenizer.detokenizer.prepared import batches_of_one_size, draw_resolution, prepare, read_examples
from arm.tokenizer.detokenizer.train import train_detokenizer
from arm.training.engine import PATIENCE, TIMEOUT
from tests.tokenizer import tiny

SMALL = ResolutionConfig(min_short_side=8, max_long_side=12)
LARGE = ResolutionConfig(min_short_side=16, max_long_side=24)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """A random tokenizer and VAE; wide and tall images and edits, of which some are held out."""
    root = tmp_path_factory.mktemp("inputs")
    visual = tiny.visual_tokenizer()
    (root / "tokenizer/tokenizer").mkdir(parents=True)
    visual.save_pretrained(root / "tokenizer/tokenizer")
    return {
        "images": make_images(root / "images"),
        "tokenizer": tiny.manifest(root / "tokenizer", "tokenizer"),
        "autoencoder": tiny.make_autoencoder(root / "autoencoder"),
    }


def make_images(folder: Path) -> Manifest:
    rng = np.random.default_rng(0)
    for shard in range(2):
        path = folder / f"shards/tiny-{shard:05d}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_shard(path, [sample(rng, shard, index) for index in range(300)])
    return tiny.manifest(folder, "curated-shards")


def sample(rng: np.random.Generator, shard: int, index: int) -> Sample:
    """Every third is an edit: its source is grey, its target has a black corner."""
    height, width = ((12, 24), (24, 12))[index % 2]
    edit = index % 3 == 0
    pixels = np.full((height, width, 3), 128 if edit else rng.integers(256), np.uint8)
    changed = pixels.copy()
    changed[:4, :4] = 0
    parts: tuple[Image | Text, ...] = (encode_image(pixels), Text(text="a square", role="caption"))
    if edit:
        parts = (encode_image(pixels), Text(text="blacken it", role="instruction"), encode_image(changed))
    uid = make_uid("tiny", f"{shard}/{index}")
    return Sample(uid=uid, task="edit" if edit else "caption", parts=parts, source="tiny")


def config_of(**options: Any) -> DetokenizerConfig:
    base = DetokenizerConfig(
        resolutions=(SMALL, LARGE), backbone="dit", flow=dataclasses.replace(tiny.FLOW, patch=1),
        optimizer=tiny.OPTIMIZER, batch_size=4, num_steps=4, sampling_steps=2, threads=1, save_every=2, log_every=1,
        max_images=100, encode_batch=16, precision="float32",
    )  # fmt: skip
    return dataclasses.replace(base, **options)


def train(inputs: dict[str, Manifest], folder: Path, **options: Any) -> Outcome:
    return train_detokenizer(**inputs, output=LocalFolder(folder), config=config_of(**options))


def published(folder: Path) -> dict[str, bytes]:
    home = LocalFolder(folder)
    return {name: home.read(name) for name in home.list()}


class Killed(Exception):
    pass


def test_a_killed_detokenizer_goes_on_to_the_same_bytes(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = train(inputs, tmp_path / "whole", source_condition=True, micro_batch=2)
    assert outcome.counts == {"steps": 4, "images": 100}
    with monkeypatch.context() as patch:
        die_at(3, patch)
        with pytest.raises(Killed):
            train(inputs, tmp_path / "killed", source_condition=True, micro_batch=2)
    first = next((tmp_path / "killed").glob("**/latents/tiny-00000"))
    first.rename(first.with_name("tiny-00000.rank-0.unfinished"))  # as if killed while it was written
    train(inputs, tmp_path / "killed", source_condition=True, micro_batch=2)
    assert published(tmp_path / "killed") == published(tmp_path / "whole")
    assert {"samples/reconstruction.png", "samples/edits.png"} <= published(tmp_path / "whole").keys()
    assert {"edits/untouched_psnr", "edits/untouched_psnr_with_source"} <= outcome.metrics.keys()


def test_every_machine_prepares_all_images_so_that_all_ranks_draw_from_the_same(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visual = tiny.visual_tokenizer()
    codec = LatentCodec.from_pretrained(inputs["autoencoder"].local_folder("model"))
    config = config_of()
    detokenizer = Detokenizer.create(codec, visual, config)
    for name, value in {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    paths = [inputs["images"].local(entry) for entry in inputs["images"].select("shards/", ".tar")]
    assert len(prepare(paths, visual, detokenizer, tmp_path, config)) == 100


def test_bfloat16_weights_are_published_beside_the_autoencoder_as_it_came_and_resume_to_the_same_bytes(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"precision": "bfloat16_weights", "ema_decay": 0.5, "optimizer": tiny.OPTIMIZER}
    train(inputs, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        die_at(3, patch)
        with pytest.raises(Killed):
            train(inputs, tmp_path / "killed", **options)
    train(inputs, tmp_path / "killed", **options)
    assert published(tmp_path / "killed") == published(tmp_path / "whole")
    folder = tmp_path / "whole/detokenizer"
    assert {value.dtype for value in load_file(folder / "weights.safetensors").values()} == {torch.bfloat16}
    given = load_file(inputs["autoencoder"].local("model/diffusion_pytorch_model.safetensors"))
    kept = load_file(folder / "autoencoder/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in given.items())
    loaded = Detokenizer.from_pretrained(folder)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}


def die_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Stop the loop at the learning rate of that step."""
    real = loop.learning_rate

    def dying(now: int, *rest: Any) -> float:
        if now == step:
            raise Killed
        return real(now, *rest)

    patch.setattr(loop, "learning_rate", dying)


def test_ranks_wait_for_images_to_be_prepared_and_for_the_one_that_measures(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = tiny.recorded_barriers(monkeypatch)
    train(inputs, tmp_path, num_steps=1)
    assert waited.count(PATIENCE) == 2
    assert waited[-1] == PATIENCE > TIMEOUT


def test_no_published_file_says_where_the_store_lies(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    """diffusers notes the path that a VAE was loaded from in its config."""
    train(inputs, tmp_path, num_steps=1)
    found = published(tmp_path)
    assert "detokenizer/autoencoder/config.json" in found
    stores = {Path(item.folder.url).parent for item in inputs.values()} | {tmp_path}
    assert [name for name, data in found.items() if any(str(store).encode() in data for store in stores)] == []


def test_metrics_are_given_by_size_too(inputs: dict[str, Manifest], tmp_path: Path) -> None:
    metrics = train(inputs, tmp_path, num_steps=1).metrics
    # 12 x 24 fits (8, 12) as 4 x 12 rounded to the patch of 4: 8 x 12; and (16, 24) as 12 x 24
    sizes = {name.removeprefix("reconstruction/psnr/") for name in metrics if name.startswith("reconstruction/psnr/")}
    assert sizes <= {"8x12", "12x8", "12x24", "24x12"}
    assert len(sizes) > 1
    assert {"reconstruction/psnr", "autoencoder/psnr"} <= metrics.keys()
    lines = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {"step", "loss/latent", "loss/total", "gradient_norm"}


def test_a_perfect_image_is_counted_and_left_out_of_the_mean(
    inputs: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a white image that is clipped to white: the first of each batch is perfect, the others have 20 dB."""
    perfect_first = lambda made, _: torch.tensor([math.inf] + [20.0] * (len(made) - 1))  # noqa: E731
    monkeypatch.setattr("arm.tokenizer.detokenizer.evaluate.psnr", perfect_first)
    metrics = train(inputs, tmp_path, num_steps=1, resolutions=(LARGE,), encode_batch=2).metrics
    assert metrics["reconstruction/psnr"] == 20
    assert metrics["reconstruction/psnr_infinite"] >= 2


def test_an_edit_is_rendered_from_its_last_image_with_its_first_as_source(inputs: dict[str, Manifest]) -> None:
    path = inputs["images"].local("shards/tiny-00000.tar")
    config = config_of(source_condition=True, resolutions=(LARGE,))
    examples = list(read_examples(path, config, 4, held_out=False))
    edits = [example for example in examples if example.source is not None]
    assert 80 < len(edits) <= 100
    assert edits[0].pixels[0, 0].tolist() == [0, 0, 0]
    assert edits[0].source is not None
    assert edits[0].source[0, 0].tolist() == [128, 128, 128]
    plain = read_examples(path, config_of(resolutions=(LARGE,)), 4, held_out=False)
    assert all(example.source is None and example.pixels[0, 0].any() for example in plain if example.pixels.any())


def test_a_sample_draws_the_same_resolution_again_and_all_are_drawn() -> None:
    drawn = [draw_resolution(make_uid(str(index)), 0, (SMALL, LARGE)) for index in range(200)]
    assert drawn == [draw_resolution(make_uid(str(index)), 0, (SMALL, LARGE)) for index in range(200)]
    assert 70 < drawn.count(SMALL) < 130


def test_a_batch_holds_one_size(inputs: dict[str, Manifest]) -> None:
    path = inputs["images"].local("shards/tiny-00000.tar")
    examples = list(read_examples(path, config_of(), 4, held_out=False))
    batches = list(batches_of_one_size(examples, 16))
    assert sum(len(batch) for batch in batches) == len(examples)
    assert all(len({example.size for example in batch}) == 1 for batch in batches)


def untrained(inputs: dict[str, Manifest], **options: Any) -> Detokenizer:
    """Random weights everywhere, the output layer that starts at zero too."""
    torch.manual_seed(0)
    codec = LatentCodec.from_pretrained(inputs["autoencoder"].local_folder("model"))
    made = Detokenizer.create(codec, tiny.visual_tokenizer(), config_of(**options))
    for name, value in made.backbone.named_parameters():
        if "outward" in name or "modulation" in name:
            torch.nn.init.normal_(value, std=0.1)
    torch.nn.init.normal_(made.null)
    return made.eval()


def test_rendering_depends_on_codes_and_seeds_not_on_the_batch(inputs: dict[str, Manifest]) -> None:
    made, visual = untrained(inputs), tiny.visual_tokenizer()
    codes = torch.randint(16, (3, 3, 5), generator=torch.Generator().manual_seed(0))
    together = made.render(codes, visual, seeds=[5, 6, 7])
    alone = made.render(codes[1:2], visual, seeds=[6])
    assert together.shape == (3, 3, 12, 20)
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    assert not torch.allclose(alone, made.render(codes[1:2], visual, seeds=[7]), atol=1e-3)
    with pytest.raises(UserError, match="belongs to tokenizer"):
        made.render(codes, tiny.visual_tokenizer(levels=(3, 3, 2)), seeds=[5, 6, 7])


def test_guidance_moves_away_from_the_null_condition(inputs: dict[str, Manifest]) -> None:
    made = untrained(inputs)
    x, t, features = torch.randn(2, 2, 3, 3), torch.zeros(2), torch.randn(2, 9, 16)
    free, conditioned, guided = (
        made._guided(features, (3, 3), x[:, :0], guidance)(x, t) for guidance in (0.0, 1.0, 1.5)
    )
    assert torch.allclose(guided, free + 1.5 * (conditioned - free), atol=1e-5)
    assert not torch.allclose(conditioned, free)


def test_a_source_changes_what_is_rendered(inputs: dict[str, Manifest]) -> None:
    made, visual = untrained(inputs, source_condition=True), tiny.visual_tokenizer()
    codes, sources = torch.zeros(2, 3, 3, dtype=torch.long), torch.rand(2, 3, 12, 12)
    without = made.render(codes, visual, seeds=[1, 2])
    assert not torch.allclose(without, made.render(codes, visual, seeds=[1, 2], sources_BCHW=sources), atol=1e-4)
    with pytest.raises(UserError, match="12x12"):
        made.render(codes, visual, seeds=[1, 2], sources_BCHW=sources[..., :8])


def test_psnr_over_a_mask_by_hand() -> None:
    # errors .1 and .5 in one channel each; only the first is in the mask: 3 channels, mean .01 / 3
    images, reference = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    images[0, 0, 0] = torch.tensor([0.1, 0.5])
    mask = torch.tensor([True, False]).view(1, 1, 1, 2)
    assert masked_psnr(images, reference, mask) == pytest.approx([24.7712], abs=1e-3)
    assert masked_psnr(images, reference, torch.zeros_like(mask)) == []
