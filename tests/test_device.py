"""Computing on another device, without one: tensors on `meta` compute nothing, and refuse to be mixed with the CPU's."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lmm import tiny_lmm

from arm.device import autocast, computing_dtype, make_deterministic, moved, rank_device
from arm.model.attention import NAME, Documents
from arm.model.documents import Document
from arm.model.generation import Generator, Prompt
from arm.model.sampling import Sampling
from arm.rl.policy import CodePolicy, MicroBatch
from arm.tokenizer.config import DetokenizerConfig, FlowConfig
from arm.tokenizer.detokenizer.latents import LatentCodec
from arm.tokenizer.detokenizer.model import Detokenizer
from arm.training.config import StageConfig
from arm.training.loader import collate
from arm.training.loss import PackedModel
from tests.tokenizer import tiny

THERE = torch.device("meta")


def on(device: torch.device, *tensors: torch.Tensor) -> bool:
    return all(tensor.device == device for tensor in tensors)


def test_tensors_of_two_devices_do_not_mix() -> None:
    with pytest.raises(RuntimeError, match="device meta"):
        torch.zeros(3, device=THERE) + torch.zeros(3)


def test_without_a_gpu_a_rank_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert rank_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert rank_device() == torch.device("cuda", 3)


def test_a_job_that_computes_is_deterministic() -> None:
    torch.use_deterministic_algorithms(False)
    make_deterministic(7)
    assert torch.are_deterministic_algorithms_enabled()
    first = torch.randn(2)
    make_deterministic(7)
    assert torch.equal(first, torch.randn(2))


@pytest.mark.parametrize("lengths", [(2, 3), (300, 4)])
def test_a_training_batch_goes_where_the_model_is(lengths: tuple[int, ...]) -> None:
    model, _, vocabulary = tiny_lmm()
    model.set_attn_implementation(NAME)
    documents = [Document(np.full(n, 38), np.ones(n, dtype=bool)) for n in lengths]
    batch = collate([*documents, Document(np.asarray([7, 8, 9]), np.ones(3, dtype=bool))], vocabulary)
    loss = PackedModel(model.to(THERE), vocabulary, StageConfig())(batch, measure=True).weighted
    loss.backward()
    assert on(THERE, loss)


@pytest.mark.parametrize("prompt", [("a red circle",), (np.asarray([[1, 2], [3, 4]]), "remove the circle")])
def test_images_are_generated_where_the_model_is(prompt: Prompt) -> None:
    model, tokenizer, vocabulary = tiny_lmm()
    sampling = Sampling(top_k=4, top_p=0.9, guidance_text=1.5, guidance_image=1.25)
    generator = Generator(model.to(THERE), vocabulary, tokenizer)
    made = generator.generate_images([prompt, prompt], (1, 3), sampling, seeds=[1, 2])
    assert on(THERE, made.codes_BHW, made.logp_BN, made.log_kept_BN)


def test_a_policy_learns_where_it_is() -> None:
    model, _, vocabulary = tiny_lmm()
    zeros = torch.zeros(2, 3)
    batch = MicroBatch(torch.full((1, 9), 38), (4, 5), zeros.long(), zeros, zeros, torch.zeros(2))
    policy = CodePolicy(model.to(THERE), vocabulary, temperature=1.0, chunk=2)
    logp, entropy = policy(moved(batch, THERE))
    logp.sum().backward()
    assert on(THERE, logp, entropy)


def test_the_layout_of_documents_lies_where_it_is_wanted() -> None:
    documents = Documents.of([3, 300], device=THERE)
    assert on(THERE, documents.home_N, documents.blocks[0].slots_DL, documents.blocks[0].mask_DLL)


def test_the_tokenizer_encodes_and_embeds_where_it_is() -> None:
    visual, images = tiny.visual_tokenizer(), torch.zeros(2, 3, tiny.SIDE, tiny.SIDE)
    visual.to(THERE)
    found, codes = visual(images), visual.encode(images)
    embedded = visual.embed(torch.zeros(2, 3, 3, dtype=torch.long))
    assert on(THERE, codes, embedded, found.features_BNC, found.target_BNC)


@pytest.mark.parametrize("prediction", ["x", "velocity"])
def test_the_detokenizer_learns_and_renders_where_it_is(prediction: Any) -> None:
    from arm.toy.config import AutoencoderTeacherConfig
    from arm.toy.teacher_autoencoder import make_model

    visual = tiny.visual_tokenizer()
    visual._fingerprint = "f"
    config = DetokenizerConfig(
        backbone="dit", flow=FlowConfig(width=16, num_blocks=1, num_heads=2, patch=1, prediction=prediction),
        sampling_steps=2, source_condition=True,
    )  # fmt: skip
    codec = LatentCodec(make_model(AutoencoderTeacherConfig(widths=(8, 8, 8), latent_channels=2)))
    made = Detokenizer.create(codec, visual, config)
    made, visual = made.to(THERE), visual.to(THERE)
    latents = made.encode(torch.zeros(2, 3, tiny.SIDE, tiny.SIDE))
    features = visual.embed(torch.zeros(2, 3, 3, dtype=torch.long))
    dropped = torch.zeros(2, dtype=torch.bool, device=THERE)
    loss = made.loss(latents, features, (3, 3), dropped, torch.Generator())
    loss.backward()
    images = made.render(torch.zeros(2, 3, 3, dtype=torch.long), visual, seeds=[1, 2])
    assert on(THERE, loss, images)


@pytest.mark.parametrize(
    ("gpu", "amx", "avx512", "expected"),
    [
        (False, False, False, "float32"),
        (False, True, False, "bfloat16"),
        (False, False, True, "bfloat16"),
        (True, False, False, "bfloat16"),
    ],
)
def test_auto_is_bfloat16_where_hardware_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, amx: bool, avx512: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert computing_dtype("auto") == expected
    assert [computing_dtype(named) for named in ("bfloat16", "float32")] == ["bfloat16", "float32"]
    with autocast(torch.device("cpu"), "auto"):
        assert torch.is_autocast_enabled("cpu") == (expected == "bfloat16")


@pytest.mark.parametrize(("major", "expected"), [(7, "float32"), (8, "bfloat16")])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, major: int, expected: str
) -> None:
    for name, found in (("is_available", True), ("current_device", 0), ("_check_bf16_tensor_supported", True)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, found=found: found)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=major))
    assert computing_dtype("auto") == expected
