"""FLUX's and Sana's classes as detokenizers: their conventions of time, sign, packing and places; loading and learning."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arm.errors import UserError
from arm.tokenizer import flow
from arm.tokenizer.config import DetokenizerConfig, FlowConfig
from arm.tokenizer.detokenizer.flux import pack, places, unpack
from arm.tokenizer.detokenizer.latents import LatentCodec
from arm.tokenizer.detokenizer.model import Detokenizer
from tests.tokenizer import tiny
from tests.tokenizer.tiny_diffusers import make_pipeline

NAMES = ("flux", "sana")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A diffusers folder of each class."""
    root = tmp_path_factory.mktemp("pipelines")
    return {name: make_pipeline(name, root / name) for name in NAMES}


def detokenizer(name: Any, folder: Path, **options: Any) -> Detokenizer:
    torch.manual_seed(1)
    config = DetokenizerConfig(backbone=name, **options)
    return Detokenizer.create(LatentCodec.from_pretrained(folder), tiny.visual_tokenizer(), config, folder)


def test_latents_are_packed_as_flux_packs_them() -> None:
    from diffusers import FluxPipeline

    latents = torch.randn(2, 4, 6, 8)
    assert torch.equal(pack(latents), FluxPipeline._pack_latents(latents, 2, 4, 6, 8))
    assert torch.equal(unpack(pack(latents), (3, 4)), latents)


def test_tokens_lie_where_flux_puts_them_and_codes_in_the_middle_of_theirs() -> None:
    from diffusers import FluxPipeline

    theirs = FluxPipeline._prepare_latent_image_ids(1, 3, 4, torch.device("cpu"), torch.float32)
    assert torch.equal(places((3, 4), 1.0), theirs)
    # a code over 2 x 2 tokens: tokens 0 and 1, so in between; the next over tokens 2 and 3
    assert places((1, 2), 2.0).tolist() == [[0, 0.5, 0.5], [0, 0.5, 2.5]]


def flux_output(made: Detokenizer, x: Tensor, sigma: float, condition: Tensor) -> Tensor:
    """noise - data as FluxPipeline asks for it: packed tokens, sigma as the timestep, positions of 3 x 3 codes."""
    from diffusers import FluxPipeline

    backbone: Any = made.backbone
    ids = FluxPipeline._prepare_latent_image_ids(1, 3, 3, torch.device("cpu"), torch.float32)
    packed = FluxPipeline._pack_latents(x, 1, 4, 6, 6)
    out = backbone.transformer(
        hidden_states=packed, encoder_hidden_states=backbone.tokens(condition),
        pooled_projections=backbone.pooled(condition.mean(1)), timestep=torch.tensor([sigma]),
        guidance=torch.tensor([1.0]), img_ids=ids, txt_ids=ids,
    ).sample  # fmt: skip
    return FluxPipeline._unpack_latents(out, 12, 12, 2)


def sana_output(made: Detokenizer, x: Tensor, sigma: float, condition: Tensor) -> Tensor:
    """noise - data as SanaPipeline asks for it: 1000 sigma as the timestep."""
    from arm.tokenizer.blocks import grid_positions

    backbone: Any = made.backbone
    tokens = backbone.tokens(condition) + grid_positions((4, 4), 24)
    beside = backbone._map(condition, (4, 4))
    return backbone.transformer(  # type: ignore[no-any-return]
        torch.cat([x, beside], dim=1), encoder_hidden_states=tokens, timestep=torch.tensor([1000 * sigma])
    ).sample


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_our_euler_steps_are_those_of_diffusers_scheduler(name: str, pipelines: dict[str, Path]) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    made = detokenizer(name, pipelines[name]).eval()
    grid, latents = ((3, 3), 6) if name == "flux" else ((4, 4), 2)
    condition, noise = torch.randn(1, grid[0] * grid[1], 16), torch.randn(1, 4, latents, latents)
    output = flux_output if name == "flux" else sana_output
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    theirs = noise
    for time in scheduler.timesteps:
        theirs = scheduler.step(output(made, theirs, float(time) / 1000, condition), time, theirs).prev_sample
    ours = flow.integrate(lambda x, t: made.backbone(x, t, condition, grid, x[:, :0]), noise, 4, made.settings.flow)
    assert (ours - noise).abs().max() > 0.1
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", [False, True])
def test_two_steps_lower_the_loss_and_reach_every_map_of_the_condition(
    name: str, source: bool, pipelines: dict[str, Path]
) -> None:
    made = detokenizer(name, pipelines[name], source_condition=source)
    learning = [p for p in made.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.05)
    side = 16 // made.codec.factor  # 4 x 4 codes of 4 pixels
    latents, features = torch.randn(2, 4, side, side), torch.randn(2, 16, 16)
    losses = []
    for _ in range(3):
        generator = torch.Generator().manual_seed(0)
        loss = made.loss(latents, features, (4, 4), torch.tensor([False, True]), generator, latents if source else None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
    still = [name for name, p in made.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert [name for name in still if not name.startswith("backbone.transformer.")] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_detokenizer_renders_the_same_on_any_grid(
    name: str, pipelines: dict[str, Path], tmp_path: Path
) -> None:
    made = detokenizer(name, pipelines[name], source_condition=True).eval()
    made.save_pretrained(tmp_path)
    loaded, visual = Detokenizer.from_pretrained(tmp_path), tiny.visual_tokenizer()
    for rows, columns in ((3, 5), (1, 1), (4, 2)):
        codes = torch.randint(16, (2, rows, columns), generator=torch.Generator().manual_seed(0))
        sources = torch.rand(2, 3, rows * tiny.PATCH, columns * tiny.PATCH)
        images = made.render(codes, visual, seeds=[1, 2], steps=2, sources_BCHW=sources)
        assert images.shape == (2, 3, rows * tiny.PATCH, columns * tiny.PATCH)
        again = loaded.render(codes, visual, seeds=[1, 2], steps=2, sources_BCHW=sources)
        assert torch.allclose(images, again, atol=1e-5)
    assert str(pipelines[name]) not in (tmp_path / "transformer/config.json").read_text()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_source_counts_nothing_before_it_was_learned(name: str, pipelines: dict[str, Path]) -> None:
    made, visual = detokenizer(name, pipelines[name], source_condition=True).eval(), tiny.visual_tokenizer()
    codes, sources = torch.zeros(1, 2, 2, dtype=torch.long), torch.rand(1, 3, 8, 8)
    without = made.render(codes, visual, seeds=[1], steps=2)
    assert torch.allclose(without, made.render(codes, visual, seeds=[1], steps=2, sources_BCHW=sources), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_weights_learn_under_autocast_and_render_about_the_same(name: str, pipelines: dict[str, Path]) -> None:
    made, visual = detokenizer(name, pipelines[name]), tiny.visual_tokenizer()
    codes = torch.randint(16, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    exact = made.eval().render(codes, visual, seeds=[1, 2], steps=2)
    made.bfloat16().codec.float()
    rounded = made.render(codes, visual, seeds=[1, 2], steps=2)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05
    side = 16 // made.codec.factor
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.loss(
            torch.randn(2, 4, side, side), visual.embed(codes).float(), (4, 4), torch.tensor([False, True]),
            torch.Generator().manual_seed(0),
        )  # fmt: skip
    loss.backward()
    gradients = [p.grad for p in made.train().parameters() if p.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.bfloat16}
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_source_is_refused_where_it_was_not_learned(pipelines: dict[str, Path]) -> None:
    made = detokenizer("flux", pipelines["flux"]).eval()
    with pytest.raises(UserError, match="source_condition"):
        made.render(
            torch.zeros(1, 2, 2, dtype=torch.long), tiny.visual_tokenizer(), seeds=[1],
            sources_BCHW=torch.rand(1, 3, 8, 8),
        )  # fmt: skip


def test_weights_of_another_class_are_refused(pipelines: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="SanaTransformer2DModel"):
        detokenizer("flux", pipelines["sana"])
    with pytest.raises(UserError, match="AutoencoderKL, AutoencoderDC"):
        LatentCodec.from_pretrained(pipelines["flux"] / "transformer")


def test_latents_that_the_weights_do_not_predict_are_refused(pipelines: dict[str, Path], tmp_path: Path) -> None:
    from arm.toy.config import AutoencoderTeacherConfig
    from arm.toy.teacher_autoencoder import make_model

    codec = LatentCodec(make_model(AutoencoderTeacherConfig(widths=(8, 8), latent_channels=2)))
    for name in NAMES:
        config: Any = {"backbone": name}
        with pytest.raises(UserError, match="channels"):
            Detokenizer.create(codec, tiny.visual_tokenizer(), DetokenizerConfig(**config), pipelines[name])


def test_flux_and_sana_need_weights_and_ours_takes_none(pipelines: dict[str, Path]) -> None:
    codec, visual = LatentCodec.from_pretrained(pipelines["flux"]), tiny.visual_tokenizer()
    for config in (DetokenizerConfig(), DetokenizerConfig(backbone="sana")):
        with pytest.raises(UserError, match="input backbone"):
            Detokenizer.create(codec, visual, config)
    with pytest.raises(UserError, match="starts from nothing"):
        Detokenizer.create(codec, visual, DetokenizerConfig(backbone="dit"), pipelines["flux"])


def test_a_folder_of_pickles_is_not_loaded(tmp_path: Path) -> None:
    folder = make_pipeline("flux", tmp_path)
    (folder / "transformer/diffusion_pytorch_model.safetensors").rename(
        folder / "transformer/diffusion_pytorch_model.bin"
    )
    with pytest.raises(OSError, match="safetensors"):
        detokenizer("flux", folder)


@pytest.mark.parametrize(
    "options",
    [
        {"flow": FlowConfig(prediction="x", patch=2, width=1152, num_blocks=28)},
        {"flow": FlowConfig(width=64)},
        {"backbone": "dit", "activation_checkpointing": True},
        {"null_condition": 0.0},
        {"source_drop": 1.5},
        {"resolutions": ()},
        {"micro_batch": -1},
    ],
)
def test_a_setting_without_effect_or_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        DetokenizerConfig(**options)
