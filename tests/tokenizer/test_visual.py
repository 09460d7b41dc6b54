"""The visual tokenizer over both SigLIP classes, and its folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from arm.errors import IntegrityError, UserError
from arm.tokenizer.blocks import patchify
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.visual import VisualTokenizer
from tests.tokenizer.tiny import PATCH, QUANTIZER, SIDE, vision_model, visual_tokenizer

BOTH = pytest.mark.parametrize("kind", ["siglip", "siglip2"])


def images(count: int = 3, side: int = SIDE) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@BOTH
def test_one_code_per_patch_in_range(kind: str) -> None:
    codes = visual_tokenizer(kind).encode(images())
    assert codes.shape == (3, SIDE // PATCH, SIDE // PATCH)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < 16


@BOTH
def test_another_resolution_gives_another_grid(kind: str) -> None:
    assert visual_tokenizer(kind).encode(torch.rand(2, 3, 16, 8)).shape == (2, 4, 2)


@BOTH
def test_forward_and_embed_of_encode_agree(kind: str) -> None:
    tokenizer = visual_tokenizer(kind)
    features = tokenizer(images()).features_BNC
    assert torch.allclose(tokenizer.embed(tokenizer.encode(images())), features, atol=1e-5)


@BOTH
def test_a_saved_tokenizer_gives_the_same_codes_and_fingerprint(kind: str, tmp_path: Path) -> None:
    tokenizer = visual_tokenizer(kind, pre_quantizer_norm="batch")
    tokenizer.save_pretrained(tmp_path)
    loaded = VisualTokenizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode(images()), tokenizer.encode(images()))
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.num_codes, loaded.stride) == (16, PATCH)


def test_the_encoder_loads_from_the_pair_and_from_the_vision_half_alone(tmp_path: Path) -> None:
    vision_model("siglip2").save_pretrained(tmp_path)
    assert FrozenEncoder.from_pretrained(tmp_path).flexible


@BOTH
def test_an_encoder_stored_in_bfloat16_computes_in_float32(kind: str, tmp_path: Path) -> None:
    vision_model(kind).to(torch.bfloat16).save_pretrained(tmp_path)
    encoder = FrozenEncoder.from_pretrained(tmp_path)
    assert encoder(images())[-1].dtype == torch.float32
    assert VisualTokenizer(encoder, QUANTIZER).eval().encode(images()).shape == (3, SIDE // PATCH, SIDE // PATCH)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="'bert'"):
        FrozenEncoder.from_pretrained(tmp_path)


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    visual_tokenizer().save_pretrained(tmp_path)
    record = json.loads((tmp_path / "visual_tokenizer.json").read_text())
    (tmp_path / "visual_tokenizer.json").write_text(json.dumps(record | {"fingerprint": "0" * 64}))
    with pytest.raises(IntegrityError, match="fingerprint"):
        VisualTokenizer.from_pretrained(tmp_path)


def test_another_index_order_is_refused(tmp_path: Path) -> None:
    visual_tokenizer().save_pretrained(tmp_path)
    record = json.loads((tmp_path / "visual_tokenizer.json").read_text())
    (tmp_path / "visual_tokenizer.json").write_text(json.dumps(record | {"index_order": 0}))
    with pytest.raises(IntegrityError, match="index order 0"):
        VisualTokenizer.from_pretrained(tmp_path)


def test_an_image_that_does_not_divide_into_patches_is_refused() -> None:
    with pytest.raises(UserError, match="13x12"):
        visual_tokenizer().encode(torch.rand(1, 3, 13, 12))


def change_of_first_patch(tokenizer: VisualTokenizer) -> torch.Tensor:
    """How much the bounded values of every patch move when the first patch's pixels change: (9,)."""
    changed = images(1)
    changed[:, :, :PATCH, :PATCH] = 1 - changed[:, :, :PATCH, :PATCH]
    difference = tokenizer(changed).bounded_BND - tokenizer(images(1)).bounded_BND
    return difference.abs().amax(-1)[0]


def test_patch_attention_over_patch_embeddings_keeps_codes_local() -> None:
    change = change_of_first_patch(visual_tokenizer(projection_attention="patch", encoder_layers=(0,)))
    assert change[0] > 1e-4
    assert change[1:].max() == 0


def test_global_attention_lets_every_code_see_every_patch() -> None:
    change = change_of_first_patch(visual_tokenizer(projection_attention="global", encoder_layers=(0,)))
    assert change.min() > 0


def test_shallow_features_alone_need_no_block_and_give_the_same_codes() -> None:
    tokenizer = visual_tokenizer(encoder_layers=(0,))
    by_forward = tokenizer.quantizer.encode(tokenizer._project(tokenizer.encoder(images()))).view(3, 3, 3)
    assert torch.equal(tokenizer.encode(images()), by_forward)


@BOTH
def test_gradients_reach_the_projections_and_not_the_encoder(kind: str) -> None:
    tokenizer = visual_tokenizer(kind).train()
    tokenizer.pool(tokenizer(images()).features_BNC).sum().backward()
    assert tokenizer.project_in.inward.weight.grad is not None
    assert all(parameter.grad is None for parameter in tokenizer.encoder.parameters())
    assert not tokenizer.encoder.training


@BOTH
@pytest.mark.parametrize("size", [(12, 12), (8, 20), (24, 16), (4, 36)])
def test_positions_are_interpolated_as_transformers_does_at_every_size(kind: str, size: tuple[int, int]) -> None:
    height, width = size
    tokenizer = visual_tokenizer(kind)
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    model: Any = tokenizer.encoder.model
    grid = (height // PATCH, width // PATCH)
    with torch.no_grad():
        if kind == "siglip":
            expected = model(pixels * 2 - 1, interpolate_pos_encoding=True).last_hidden_state
        else:
            # one image after the other, padded to more patches than it has, as the image processor hands them over
            count = grid[0] * grid[1]
            patches = patchify(pixels * 2 - 1, PATCH)
            padded = torch.cat([patches, torch.zeros(2, 3, patches.shape[-1])], dim=1)
            mask = (torch.arange(count + 3) < count).long().expand(2, -1)
            expected = model(padded, mask, torch.tensor([grid, grid])).last_hidden_state[:, :count]
    found = tokenizer(pixels)
    assert torch.allclose(found.target_BNC, expected, atol=1e-5)
    assert found.features_BNC.shape == expected.shape
    assert tokenizer.encode(pixels).shape == (2, *grid)
    assert torch.equal(tokenizer.encode(pixels)[1:], tokenizer.encode(pixels[1:]))


@BOTH
def test_the_target_is_what_enters_the_pooling_head(kind: str) -> None:
    tokenizer = visual_tokenizer(kind)
    model: Any = tokenizer.encoder.model
    inputs = tokenizer.encoder._inputs(images() * 2 - 1)
    pooled = model(**inputs).pooler_output
    assert torch.allclose(tokenizer.pool(tokenizer(images()).target_BNC), pooled, atol=1e-5)


def test_patches_are_those_of_the_siglip2_image_processor() -> None:
    from transformers import Siglip2ImageProcessor

    pixels = (torch.rand(3, 8, 16) * 255).round().to(torch.uint8)
    processor = Siglip2ImageProcessor(patch_size=PATCH, do_resize=False, max_num_patches=8)
    found = processor([pixels], return_tensors="pt")
    assert torch.allclose(patchify(pixels[None] / 255 * 2 - 1, PATCH), found["pixel_values"], atol=1e-5)
    assert found["spatial_shapes"].tolist() == [[2, 4]]


@BOTH
def test_a_change_of_any_weight_or_statistic_changes_the_fingerprint(kind: str) -> None:
    tokenizer = visual_tokenizer(kind, pre_quantizer_norm="batch")
    found = {tokenizer.fingerprint}
    assert tokenizer.quantizer.norm is not None
    assert tokenizer.quantizer.norm.running_mean is not None
    for tensor in (
        tokenizer.quantizer.norm.running_mean,
        tokenizer.project_out.outward.bias,
        next(tokenizer.encoder.parameters()),
    ):
        with torch.no_grad():
            tensor.view(-1)[0] += 1e-3
        found.add(tokenizer.fingerprint)
    assert len(found) == 4
    assert visual_tokenizer(kind, pre_quantizer_norm="none").fingerprint not in found


@pytest.mark.parametrize("file", ["projections.safetensors", "encoder/model.safetensors"])
def test_a_file_of_altered_weights_is_refused(file: str, tmp_path: Path) -> None:
    visual_tokenizer().save_pretrained(tmp_path)
    content = bytearray((tmp_path / file).read_bytes())
    content[-2] ^= 1
    (tmp_path / file).write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match="fingerprint"):
        VisualTokenizer.from_pretrained(tmp_path)


def test_other_levels_round_trip_through_the_whole_tokenizer() -> None:
    tokenizer = visual_tokenizer(levels=(8, 8, 8, 5, 5, 5))
    assert (tokenizer.num_codes, tokenizer.width) == (64_000, 16)
    found = tokenizer(images())
    codes = tokenizer.encode(images()).flatten(1)
    assert torch.allclose(tokenizer.quantizer.decode(codes), found.values_BND, atol=1e-6)
