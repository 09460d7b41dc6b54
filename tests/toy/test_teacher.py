"""Teachers: tokenizers for any text, labels that fit the drawings, and the whole job on a tiny config."""

import dataclasses
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arm.errors import UserError
from arm.manifest import Outcome
from arm.storage import LocalFolder
from arm.toy.config import AutoencoderTeacherConfig, LanguageTeacherConfig, SiglipTeacherConfig, TeacherConfig
from arm.toy.scene import Object, Scene, draw_scene
from arm.toy.teacher import train_teachers
from arm.toy.teacher_language import (
    ADDED_TOKENS,
    NUM_QUESTIONS,
    SPECIAL_TOKENS,
    Reader,
    make_model,
    make_tokenizer,
    questions,
)
from arm.toy.teacher_siglip import make_text_tokenizer
from arm.toy.teacher_training import CONTENTS, contents_of, draw_scenes

TINY = TeacherConfig(
    num_scenes=1_000,
    siglip=SiglipTeacherConfig(width=16, num_vision_layers=1, num_text_layers=1, num_heads=2, num_steps=2, batch_size=4),
    language_model=LanguageTeacherConfig(width=16, num_layers=1, num_heads=2, num_kv_heads=1, mlp_width=16, num_steps=2, batch_size=4),
    autoencoder=AutoencoderTeacherConfig(widths=(8, 8), latent_channels=2, num_steps=2, batch_size=4),
)  # fmt: skip
TOKENIZER = make_tokenizer(["a red circle", "question: is there a red circle? answer: yes."], 300)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_any_text_survives_the_tokenizer(text: str) -> None:
    import unicodedata

    normal = unicodedata.normalize("NFC", text)
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == normal


def test_the_special_tokens_of_qwen_are_one_token_each() -> None:
    for token in (*SPECIAL_TOKENS, *ADDED_TOKENS):
        assert len(TOKENIZER(token)["input_ids"]) == 1
    assert TOKENIZER.eos_token == "<|endoftext|>"


def test_text_of_the_siglip_tokenizer_is_lower_cased_padded_and_ended() -> None:
    tokenizer = make_text_tokenizer(["a red circle"], 8)
    upper, lower = tokenizer(["A Red circle", "a red circle"], padding="max_length", truncation=True)["input_ids"]
    assert upper == lower
    assert len(lower) == 8
    assert lower[3:] == [1, 0, 0, 0, 0]  # <eos>, then <pad>


def test_contents_name_what_each_cell_holds() -> None:
    scene = Scene(objects=(Object(shape="cross", color="blue", size="large", x=30.0, y=6.0),))
    row = contents_of([scene])[0].tolist()
    assert [CONTENTS[index] for index in row] == ["nothing"] * 2 + ["a large blue cross"] + ["nothing"] * 6


def test_teachers_see_training_scenes_only() -> None:
    assert {scene.split() for scene, _ in draw_scenes(TINY, "siglip", 50)} == {"train"}
    assert {scene.split() for scene, _ in draw_scenes(TINY, "x", 5, category="colors", split="tuning")} == {"tuning"}


def test_the_reader_counts_the_texts_own_tokens_only() -> None:
    torch.manual_seed(0)
    reader = Reader(make_model(TINY.language_model, TOKENIZER), TOKENIZER)
    ids, contents = torch.tensor([[5, 6, 7], [5, 6, 0]]), torch.zeros(2, 9, dtype=torch.long)
    padded = ids.clone()
    padded[1, 2] = 9
    lengths = torch.tensor([3, 2])
    assert reader(ids, lengths, contents).item() == pytest.approx(reader(padded, lengths, contents).item())
    assert reader(ids, lengths, None).item() != pytest.approx(reader(ids, lengths, contents).item(), abs=1e-4)


def test_the_context_changes_the_prediction() -> None:
    torch.manual_seed(0)
    reader = Reader(make_model(TINY.language_model, TOKENIZER), TOKENIZER)
    ids, lengths = torch.tensor([[5, 6, 7]]), torch.tensor([3])
    first, second = (reader(ids, lengths, torch.full((1, 9), index)) for index in (0, 7))
    assert first.item() != second.item()
    framed = reader(ids, lengths, torch.zeros(1, 9, dtype=torch.long), framed=True)
    assert framed.item() != pytest.approx(first.item(), abs=1e-6)


def test_answers_stand_between_the_marks_of_a_turn() -> None:
    reader = Reader(make_model(TINY.language_model, TOKENIZER), TOKENIZER)
    ids = torch.tensor(TOKENIZER("a?<|im_start|>yes<|im_end|>b?<|im_start|>no<|im_end|>")["input_ids"])
    words = TOKENIZER.decode(ids[reader.is_answer(ids)])
    assert words == "yesno"


def test_a_text_of_questions_holds_each_answer_in_its_marks() -> None:
    scene = Scene(objects=(Object(shape="cross", color="blue", size="large", x=30.0, y=6.0),))
    text = questions(scene, random.Random(0))
    assert text.count("<|im_start|>") == text.count("<|im_end|>") == NUM_QUESTIONS


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The job's output: its children load torch, so it runs once for several tests."""
    folder = tmp_path_factory.mktemp("teachers")
    return folder, train_teachers(output=LocalFolder(folder), config=dataclasses.replace(TINY, processes=3))


def test_the_job_publishes_three_checkpoints_that_transformers_and_diffusers_load(
    trained: tuple[Path, Outcome],
) -> None:
    from diffusers import AutoencoderKL
    from transformers import AutoModelForCausalLM, AutoTokenizer, SiglipModel

    folder, outcome = trained
    assert SiglipModel.from_pretrained(folder / "siglip").config.vision_config.patch_size == 12
    model = AutoModelForCausalLM.from_pretrained(folder / "language_model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "language_model")
    assert model.config.model_type == "qwen2"
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer("a red circle<|im_end|>")["input_ids"][-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert AutoencoderKL.from_pretrained(folder / "autoencoder").config.scaling_factor > 0
    assert {"siglip/zero_shot/top1", "language_model/loss/own_context", "autoencoder/psnr"} <= set(outcome.metrics)


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_bytes(trained: tuple[Path, Outcome], tmp_path: Path) -> None:
    train_teachers(output=LocalFolder(tmp_path), config=dataclasses.replace(TINY, processes=1))
    one, three = LocalFolder(tmp_path), LocalFolder(trained[0])
    assert one.list() == three.list()
    assert all(one.read(name) == three.read(name) for name in one.list())


def test_a_finished_teacher_is_not_trained_again(
    trained: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr("arm.toy.teacher.start_child", refuse)
    before = LocalFolder(trained[0]).list()
    train_teachers(output=LocalFolder(trained[0]), config=TINY)
    assert LocalFolder(trained[0]).list() == before != []


def test_too_few_scenes_are_refused() -> None:
    with pytest.raises(UserError, match="num_scenes"):
        TeacherConfig(num_scenes=10)


def test_scenes_of_teachers_and_of_worlds_come_from_other_streams() -> None:
    teacher = {scene for scene, _ in draw_scenes(TINY, "siglip", 30)}
    rng = random.Random("0/captions/0")
    assert teacher.isdisjoint({draw_scene(rng) for _ in range(30)})
