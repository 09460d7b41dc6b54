"""Tokenizers that transformers ships, behind the protocol: tiny random weights of the same classes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from arm.data.config import ImportModelConfig
from arm.data.model_import import import_model
from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest
from arm.model.lmm import VisualCodes
from arm.storage import LocalFolder
from arm.tokenizer.adapters import PretrainedTokenizer
from arm.tokenizer.loading import detokenizer_folder, load_detokenizer
from arm.tokenizer.protocol import load_tokenizer, tokenizer_folder
from tests.tokenizer.tiny import manifest, visual_tokenizer
from tests.tokenizer.vq_checkpoints import KINDS, STRIDE, save_alone, save_whole

ALL = pytest.mark.parametrize("kind", KINDS)
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1 / 255}


def images(height: int = 12, width: int = 12, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def codes_of(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Codes by the class itself, of pixels that are normalised already."""
    b, _, h, w = pixels.shape
    with torch.no_grad():
        if "Emu3" in type(model).__name__:
            return torch.stack(list(model.encode(pixels, torch.tensor([[h, w]] * b)).image_tokens))
        return model.encode(pixels).image_tokens.view(b, h // STRIDE, w // STRIDE)  # type: ignore[no-any-return]


def imported(checkpoint: Path, output: Path) -> Manifest:
    config = ImportModelConfig(path=str(checkpoint), role="image_tokenizer", licence="MIT")
    import_model(output=LocalFolder(output), config=config)
    return manifest(output, "weights")


@ALL
@pytest.mark.parametrize("size", [(12, 12), (8, 20)])
def test_codes_are_those_of_the_class_on_pixels_from_minus_one_to_one(
    kind: str, size: tuple[int, int], tmp_path: Path
) -> None:
    model = save_alone(kind, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    codes = tokenizer.encode(images(*size))
    assert codes.shape == (2, size[0] // STRIDE, size[1] // STRIDE)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, codes_of(model, images(*size) * 2 - 1))
    assert len(codes.unique()) > 3


@ALL
def test_an_adapter_says_what_the_protocol_asks(kind: str, tmp_path: Path) -> None:
    model = save_alone(kind, tmp_path)
    tokenizer = load_tokenizer(tmp_path).to(torch.device("cpu"))
    assert (tokenizer.num_codes, tokenizer.stride, tokenizer.width, tokenizer.levels) == (24, STRIDE, 4, ())
    assert tokenizer.device == torch.device("cpu")
    codes = torch.tensor([[[0, 23, 5]]])
    vectors = model.quantize.embedding.weight[[0, 23, 5]]
    expected = vectors / vectors.norm(dim=-1, keepdim=True) if kind == "janus" else vectors
    assert torch.allclose(tokenizer.embed(codes), expected[None])


@ALL
def test_a_whole_model_gives_the_tokenizer_inside_it_with_the_same_fingerprint(kind: str, tmp_path: Path) -> None:
    inner = save_whole(kind, tmp_path / "whole")
    inner.save_pretrained(tmp_path / "alone")
    whole, alone = load_tokenizer(tmp_path / "whole"), load_tokenizer(tmp_path / "alone")
    assert torch.equal(whole.encode(images()), codes_of(inner, images() * 2 - 1))
    assert whole.fingerprint == alone.fingerprint


@ALL
def test_import_model_takes_the_tokenizer_alone_and_consumers_load_it(kind: str, tmp_path: Path) -> None:
    save_whole(kind, tmp_path / "whole")
    made = imported(tmp_path / "whole", tmp_path / "out")
    tokenizer = load_tokenizer(tokenizer_folder(made))
    assert torch.equal(tokenizer.encode(images()), load_tokenizer(tmp_path / "whole").encode(images()))
    codes = VisualCodes.load(tokenizer_folder(made))
    assert (codes.fingerprint, codes.num_codes, codes.levels) == (tokenizer.fingerprint, 24, ())
    assert codes.fingerprint == load_tokenizer(tmp_path / "whole").fingerprint
    assert {entry.path.split("/")[0] for entry in made.files} <= {"tokenizer", "detokenizer", "model.json"}


@pytest.mark.parametrize("kind", ["emu3", "janus"])
def test_a_class_with_a_decoder_is_a_detokenizer_too(kind: str, tmp_path: Path) -> None:
    model = save_alone(kind, tmp_path / "vq")
    made = imported(tmp_path / "vq", tmp_path / "out")
    tokenizer = load_tokenizer(tokenizer_folder(made))
    detokenizer = load_detokenizer(detokenizer_folder(made)).to(torch.device("cpu"))
    codes = tokenizer.encode(images())
    with torch.no_grad():
        pixels = model.decode(codes if kind == "emu3" else codes.flatten(1))
    found = detokenizer.render(codes, tokenizer, seeds=[0, 1])
    assert torch.allclose(found, (pixels / 2 + 0.5).clamp(0, 1), atol=1e-5)
    assert detokenizer.render(codes[:, :2], tokenizer, seeds=[0, 1]).shape == (2, 3, 8, 12)


def test_settings_that_a_decoder_lacks_and_foreign_codes_are_refused(tmp_path: Path) -> None:
    save_alone("janus", tmp_path / "vq")
    made = imported(tmp_path / "vq", tmp_path / "out")
    tokenizer = load_tokenizer(tokenizer_folder(made))
    detokenizer = load_detokenizer(detokenizer_folder(made))
    codes = tokenizer.encode(images())
    with pytest.raises(UserError, match="no steps"):
        detokenizer.render(codes, tokenizer, seeds=[0, 1], steps=14)
    with pytest.raises(UserError, match="2 images but 1 seeds"):
        detokenizer.render(codes, tokenizer, seeds=[0])
    with pytest.raises(UserError, match="belongs to tokenizer"):
        detokenizer.render(codes, visual_tokenizer(), seeds=[0, 1])


def test_chameleon_has_no_decoder_and_says_so(tmp_path: Path) -> None:
    save_alone("chameleon", tmp_path / "vq")
    made = imported(tmp_path / "vq", tmp_path / "out")
    with pytest.raises(UserError, match="train a detokenizer"):
        detokenizer_folder(made)
    tokenizer = PretrainedTokenizer.from_pretrained(tmp_path / "vq")
    with pytest.raises(UserError, match="ChameleonVQVAE has no decoder"):
        tokenizer.render(torch.zeros(1, 3, 3, dtype=torch.int64))


def test_the_checkpoints_image_processor_decides_the_normalisation(tmp_path: Path) -> None:
    from transformers import ChameleonImageProcessor

    model = save_alone("chameleon", tmp_path)
    plain = load_tokenizer(tmp_path).fingerprint
    processor = ChameleonImageProcessor(do_resize=False, do_center_crop=False)
    processor.save_pretrained(tmp_path)
    bytes_BCHW = (images() * 255).round().to(torch.uint8)
    expected = processor(list(bytes_BCHW), return_tensors="pt")["pixel_values"]
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, PretrainedTokenizer)
    assert torch.allclose(tokenizer.normalise(bytes_BCHW / 255), expected, atol=1e-4)
    assert torch.allclose(tokenizer.denormalise(expected), bytes_BCHW / 255, atol=1e-4)
    assert torch.equal(tokenizer.encode(bytes_BCHW / 255), codes_of(model, expected))
    assert tokenizer.fingerprint != plain
    made = imported(tmp_path, tmp_path / "out")
    assert load_tokenizer(tokenizer_folder(made)).fingerprint == tokenizer.fingerprint


def test_half_and_half_is_the_default_normalisation(tmp_path: Path) -> None:
    save_alone("janus", tmp_path)
    plain = load_tokenizer(tmp_path).fingerprint
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(HALF))
    assert load_tokenizer(tmp_path).fingerprint == plain


@pytest.mark.parametrize("change", [{"image_std": [0.5, 0, 0.5]}, {"image_mean": "x"}, {"do_normalize": False}])
def test_an_image_processor_without_a_normalisation_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    save_alone("janus", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(HALF | change))
    with pytest.raises(UserError, match="must normalise"):
        load_tokenizer(tmp_path)


def test_weights_or_config_changed_change_the_fingerprint_and_an_import_refuses_them(tmp_path: Path) -> None:
    save_alone("janus", tmp_path / "vq")
    folder = tokenizer_folder(imported(tmp_path / "vq", tmp_path / "out"))
    before = load_tokenizer(folder).fingerprint
    weights = load_file(folder / "model.safetensors")
    weights["quantize.embedding.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(IntegrityError, match="fingerprint"):
        load_tokenizer(folder)
    (folder / "visual_tokenizer.json").unlink()
    assert load_tokenizer(folder).fingerprint != before


def test_more_codes_than_uint16_holds_are_refused(tmp_path: Path) -> None:
    save_alone("janus", tmp_path / "vq", num_codes=65_537)
    with pytest.raises(UserError, match="65,537 codes"):
        load_tokenizer(tmp_path / "vq")
    with pytest.raises(UserError, match="65,537 codes"):
        imported(tmp_path / "vq", tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", '{"model_type": "siglip"}', "'siglip'"),
        ("config.json", "[]", "no JSON object|not a JSON object"),
        ("config.json", '{"model_type": "janus_vqgan", "base_channels": 64}', "do not fit"),
        ("config.json", '{"model_type": "janus_vqgan", "base_channels": "many"}', "does not describe"),
        ("model.safetensors", "x" * 100, "no safetensors file"),
    ],
)
def test_a_checkpoint_that_is_none_is_refused(file: str, content: str, words: str, tmp_path: Path) -> None:
    save_alone("janus", tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=words):
        load_tokenizer(tmp_path)


def test_pickled_weights_alone_are_no_weights(tmp_path: Path) -> None:
    save_alone("janus", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no weights"):
        load_tokenizer(tmp_path)


def test_an_image_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    save_alone("emu3", tmp_path)
    with pytest.raises(UserError, match="13x12"):
        load_tokenizer(tmp_path).encode(torch.rand(1, 3, 13, 12))


def test_codes_without_digits_cannot_start_a_model_from_digits(tmp_path: Path) -> None:
    save_alone("janus", tmp_path / "vq")
    codes = VisualCodes.load(tokenizer_folder(imported(tmp_path / "vq", tmp_path / "out")))
    codes.check_initialisation(from_digits=False)
    with pytest.raises(UserError, match="'digits' needs the digits"):
        codes.check_initialisation(from_digits=True)


def test_load_tokenizer_loads_ours_too(tmp_path: Path) -> None:
    ours = visual_tokenizer()
    ours.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert torch.equal(loaded.encode(images()), ours.encode(images()))
    assert (loaded.levels, loaded.width, loaded.fingerprint) == ((2, 2, 2, 2), 16, ours.fingerprint)
