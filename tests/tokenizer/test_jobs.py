"""train-detokenizer on tiny random models: resume to the same bytes, rendering by codes and seeds."""

from pathlib import Path

import pytest
import torch

from arm.errors import UserError
from arm.manifest import Manifest, Outcome
from arm.storage import LocalFolder
from arm.tokenizer import loop
from arm.tokenizer.config import DetokenizerConfig, TokenizerConfig
from arm.tokenizer.detokenizer import Detokenizer
from arm.tokenizer.detokenizer_training import train_detokenizer
from arm.tokenizer.training import train_tokenizer
from arm.tokenizer.visual import VisualTokenizer
from tests.tokenizer import tiny


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """Random weights and a few hundred images."""
    root = tmp_path_factory.mktemp("inputs")
    return {
        "images": tiny.make_images(root / "images"),
        "encoder": tiny.make_siglip(root / "encoder"),
        "caption_model": tiny.make_language_model(root / "language_model"),
        "autoencoder": tiny.make_autoencoder(root / "autoencoder"),
    }


@pytest.fixture(scope="module")
def tokenizer(inputs: dict[str, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A trained tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train(inputs, folder)
    return tiny.manifest(folder, "tokenizer")


def train(inputs: dict[str, Manifest], folder: Path, config: TokenizerConfig | None = None) -> Outcome:
    chosen = {name: inputs[name] for name in ("images", "encoder", "caption_model")}
    return train_tokenizer(**chosen, output=LocalFolder(folder), config=config or tiny.tokenizer_config())


def published(folder: Path) -> dict[str, bytes]:
    home = LocalFolder(folder)
    return {name: home.read(name) for name in home.list()}


class Killed(Exception):
    pass


def kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the loop at the learning rate of that step."""
    real = loop.learning_rate

    def dying(now: int, *rest: object) -> float:
        if now == step:
            raise Killed
        return real(now, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "learning_rate", dying)


def detokenizer_config(**options: object) -> DetokenizerConfig:
    import dataclasses

    base = DetokenizerConfig(
        height=tiny.SIDE, width=tiny.SIDE, flow=dataclasses.replace(tiny.FLOW, patch=1), optimizer=tiny.OPTIMIZER,
        batch_size=4, num_steps=4, sampling_steps=2, threads=1, save_every=2, log_every=1, max_images=100,
        precision="float32",
    )  # fmt: skip
    return dataclasses.replace(base, **options)  # type: ignore[arg-type]


def render(inputs: dict[str, Manifest], tokenizer: Manifest, folder: Path) -> Outcome:
    return train_detokenizer(
        images=inputs["images"], tokenizer=tokenizer, autoencoder=inputs["autoencoder"],
        output=LocalFolder(folder), config=detokenizer_config(),
    )  # fmt: skip


def test_a_killed_detokenizer_goes_on_to_the_same_bytes(
    inputs: dict[str, Manifest], tokenizer: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = render(inputs, tokenizer, tmp_path / "whole")
    assert outcome.counts == {"steps": 4, "images": 100}
    with monkeypatch.context() as patch:
        kill_after(3, patch)
        with pytest.raises(Killed):
            render(inputs, tokenizer, tmp_path / "killed")
    render(inputs, tokenizer, tmp_path / "killed")
    assert published(tmp_path / "killed") == published(tmp_path / "whole")


def test_no_published_file_says_where_the_store_lies(
    inputs: dict[str, Manifest], tokenizer: Manifest, tmp_path: Path
) -> None:
    """diffusers notes the path that a VAE was loaded from in its config."""
    render(inputs, tokenizer, tmp_path)
    found = {**published(tmp_path), **published(Path(tokenizer.folder.url))}
    assert "detokenizer/autoencoder/config.json" in found
    stores = {Path(item.folder.url).parent for item in (*inputs.values(), tokenizer)} | {tmp_path}
    assert [name for name, data in found.items() if any(str(store).encode() in data for store in stores)] == []


def test_rendering_depends_on_codes_and_seeds_not_on_the_batch(
    inputs: dict[str, Manifest], tokenizer: Manifest, tmp_path: Path
) -> None:
    render(inputs, tokenizer, tmp_path)
    visual = VisualTokenizer.from_pretrained(tokenizer.local_folder("tokenizer"))
    detokenizer = Detokenizer.from_pretrained(tmp_path / "detokenizer")
    codes = torch.randint(16, (3, 3, 3), generator=torch.Generator().manual_seed(0))
    together = detokenizer.render(codes, visual, seeds=[5, 6, 7])
    alone = detokenizer.render(codes[1:2], visual, seeds=[6])
    assert together.shape == (3, 3, tiny.SIDE, tiny.SIDE)
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    assert not torch.allclose(alone, detokenizer.render(codes[1:2], visual, seeds=[7]), atol=1e-3)
    with pytest.raises(UserError, match="belongs to tokenizer"):
        detokenizer.render(codes, tiny.visual_tokenizer(levels=(3, 3, 2)), seeds=[5, 6, 7])


def test_guidance_moves_away_from_the_null_condition(
    inputs: dict[str, Manifest], tokenizer: Manifest, tmp_path: Path
) -> None:
    from arm.tokenizer.detokenizer import LatentCodec

    torch.manual_seed(0)
    codec = LatentCodec.from_pretrained(inputs["autoencoder"].local_folder("model"))
    made = Detokenizer(
        codec, detokenizer_config().flow, stride=4, width_condition=8, sampling_steps=1, guidance=1.5,
        tokenizer_fingerprint="",
    )  # fmt: skip
    x, t, features = torch.randn(2, 2, 3, 3), torch.zeros(2), torch.randn(2, 9, 8)
    free = made._guided(features, 0.0)(x, t)
    conditioned = made._guided(features, 1.0)(x, t)
    guided = made._guided(features, 1.5)(x, t)
    assert torch.allclose(guided, free + 1.5 * (conditioned - free), atol=1e-5)
    assert not torch.allclose(conditioned, free)
