"""The visual tokenizer over both SigLIP classes, and its folder."""

import json
from pathlib import Path

import pytest
import torch

from arm.errors import IntegrityError, UserError
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.visual import VisualTokenizer
from tests.tokenizer.tiny import PATCH, SIDE, vision_model, visual_tokenizer

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
