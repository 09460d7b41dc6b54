"""The load path of every kind of rival, on tiny random weights: what comes out fits, and follows its seed alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from tiny_rivals import save_emu3, save_flux, save_janus, save_llava

from arm.errors import UserError
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.kinds import load
from arm.evaluation.models.model import Drawing, Model, Question
from arm.evaluation.models.pipelines import Pipeline

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
QUESTIONS = [
    Question(uid="1", text="Is there a dog?", images=(PICTURE,)),
    Question(uid="2", text="How many red circles do you see?", images=(PICTURE[::-1],)),
    Question(uid="3", text="Why?"),
]


def loaded(kind: str, folder: Path, task: str, **settings: Any) -> Model:
    return load(ModelConfig(kind=kind, model=str(folder), dtype="float32", **settings), task)


def drawn(model: Model, *seeds: int) -> list[Any]:
    return model.generate_images([Drawing(uid=str(seed), prompt="a cow", seed=seed) for seed in seeds])


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("models") / "llava-tiny")


def test_a_vision_language_model_answers_alike_in_any_batch(llava: Path) -> None:
    single = loaded("huggingface", llava, "answer", max_tokens=4).answer(QUESTIONS)
    assert len(single) == 3
    assert loaded("huggingface", llava, "answer", max_tokens=4, batch_size=2).answer(QUESTIONS) == single
    assert loaded("huggingface", llava, "answer", max_tokens=9).answer(QUESTIONS, 4) == single


def test_a_loglikelihood_is_the_sum_over_the_tokens(llava: Path) -> None:
    """Summed over all 256 + special first tokens the probabilities are 1; a longer text is less likely than its start."""
    model: Any = loaded("huggingface", llava, "loglikelihood")
    start, longer = model.loglikelihood([QUESTIONS[0]] * 2, ["a", "ab"])
    assert longer.logprob < start.logprob < 0
    assert (start.num_tokens, longer.num_tokens) == (1, 2)
    with pytest.raises(UserError, match="text without tokens has no likelihood"):
        model.loglikelihood([QUESTIONS[0]], [""])
    inputs = model._inputs([QUESTIONS[0]])
    with torch.no_grad():
        logp = model.model(**inputs).logits[0, -1].float().log_softmax(-1)
    wanted = model.processor.tokenizer("a").input_ids[0]
    assert start.logprob == pytest.approx(float(logp[wanted]), abs=1e-5)
    assert start.is_greedy == (wanted == int(logp.argmax()))


def test_protocols_hold_no_path_and_no_time(llava: Path) -> None:
    protocol = loaded("huggingface", llava, "answer").protocol()
    assert protocol["class"] == "LlavaForConditionalGeneration"
    assert str(llava.parent) not in str(protocol)


@pytest.mark.parametrize(("save", "shape"), [(save_janus, (4, 4, 3)), (save_emu3, (16, 16, 3))])
def test_autoregressive_rivals_draw_what_the_seed_says(save: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    size = {"image_size": 16} if save is save_emu3 else {}
    model = loaded("autoregressive", save(tmp_path / "rival"), "generate_images", temperature=2.0, **size)
    images = drawn(model, 0, 1, 2, 3)
    assert {(image.shape, image.dtype) for image in images} == {(shape, np.dtype(np.uint8))}
    assert np.array_equal(drawn(model, 3)[0], images[3])
    assert len({image.tobytes() for image in images}) > 1


def test_janus_answers_too(tmp_path: Path) -> None:
    model = loaded("autoregressive", save_janus(tmp_path / "janus"), "answer", max_tokens=3)
    assert len(model.answer(QUESTIONS[:1])) == 1


def test_a_pipeline_of_diffusers_draws_what_the_seed_says(tmp_path: Path) -> None:
    folder = save_flux(tmp_path / "flux-tiny")
    model = loaded("diffusers", folder, "generate_images", image_size=8, steps=2, batch_size=2)
    first, second = drawn(model, 0, 1)
    assert first.shape == (8, 8, 3)
    assert not np.array_equal(first, second)
    assert np.abs(drawn(model, 1)[0].astype(int) - second).max() <= 1
    with pytest.raises(UserError, match="takes no source image"):
        model.edit([Drawing(uid="0", prompt="x", seed=0, source=PICTURE)])


class QwenMade:
    """Takes what Qwen-Image's pipeline takes, which makes one embedding of one text."""

    def __call__(
        self, prompt: Any, generator: Any, output_type: str, true_cfg_scale: float, negative_prompt: Any
    ) -> Any:
        assert len(negative_prompt) == len(prompt)
        return SimpleNamespace(images=[PIL.Image.new("RGB", (4, 4)) for _ in prompt])


def test_every_prompt_of_a_batch_is_guided_against_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("w")
    model = Pipeline(QwenMade(), ModelConfig(kind="diffusers", guidance=4.0), tmp_path)
    assert len(drawn(model, 1, 2, 3)) == 3


def test_wrong_weights_are_one_sentence(llava: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no model_index\.json"):
        loaded("diffusers", llava, "generate_images")
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"no weights in \.safetensors files.*pickles are not read"):
        loaded("huggingface", tmp_path, "answer")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine"}}')
    with pytest.raises(UserError, match="cannot be loaded as a vision-language model"):
        loaded("huggingface", tmp_path, "answer")
    with pytest.raises(UserError, match="draws no images"):
        loaded("huggingface", llava, "generate_images")
    with pytest.raises(UserError, match="whose images transformers cannot decode; known: janus, emu3"):
        drawn(loaded("autoregressive", llava, "generate_images"), 0)
