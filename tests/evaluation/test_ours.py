"""Our own model behind the Protocol of the rivals."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_models import Drawer, GreyDetokenizer, GreyTokenizer
from tiny_lmm import tiny_lmm

from arm.errors import UserError
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.cost import measure_cost
from arm.evaluation.models.model import Drawing, Question
from arm.evaluation.models.ours import Ours
from arm.evaluation.subject import Subject, Tools
from arm.model.generation import Generator


def ours(monkeypatch: pytest.MonkeyPatch, generator: Any) -> Ours:
    monkeypatch.setattr(Tools, "tokenizer", GreyTokenizer())
    monkeypatch.setattr(Tools, "detokenizer", GreyDetokenizer())
    tools = Tools(tokenizer=Path("t"), detokenizer=Path("d"), encoder=None, config=EvaluateConfig(image_size=8))
    return Ours(Subject(name="release", tools=tools, generator=generator), "tiny", {"release": "0" * 64})


def test_it_draws_edits_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds 3 and 4 draw codes 3 and 4: grey 48 and 64. Grey 32 is code 2, edited to 3. 2 × 2 codes an image."""
    model = ours(monkeypatch, Drawer(0))
    images: Any = model.generate_images([Drawing(uid=str(seed), prompt="grey", seed=seed) for seed in (3, 4)])
    assert [int(image[0, 0, 0]) for image in images] == [48, 64]
    source = np.full((8, 8, 3), 32, np.uint8)
    (edited,) = model.edit([Drawing(uid="0", prompt="lighter", seed=0, source=source)])
    assert np.array_equal(edited, np.full((8, 8, 3), 48, np.uint8))
    assert model.answer([Question(uid="0", text="how many?", images=(source, source))]) == ["two"]
    assert model.protocol()["guidance_text"] == 1.5


def test_its_cost_has_decoding_and_detokenization_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = measure_cost(ours(monkeypatch, Drawer(0)), ["grey"], [1, 2], 2, {"kind": "ours"})
    for run in cost["runs"]:
        assert run["tokens_per_image"] == 4
        assert set(run["phases"]) == {"decode", "detokenize", "all"}
        assert run["phases"]["decode"]["tokens_per_second"] > 0


def test_a_loglikelihood_falls_with_every_word_and_words_share_one_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, vocabulary = tiny_lmm()
    subject = ours(monkeypatch, Generator(model, vocabulary, tokenizer))
    question = Question(uid="0", text="how many circle")
    known = [word for word, index in tokenizer.get_vocab().items() if index < vocabulary.num_text]
    one, both = subject.loglikelihood([question] * 2, ["one", "one two"])
    assert both.logprob < one.logprob < 0
    assert (one.num_tokens, both.num_tokens) == (1, 2)
    with pytest.raises(UserError, match="text without tokens has no likelihood"):
        subject.loglikelihood([question], [""])
    words = [word for word in known if not word.startswith("<|")]
    found = subject.loglikelihood([question] * len(words), words)
    assert 0 < sum(math.exp(one.logprob) for one in found) < 1


def test_the_greedy_continuation_is_the_one_that_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, vocabulary = tiny_lmm()
    subject = ours(monkeypatch, Generator(model, vocabulary, tokenizer))
    question = Question(uid="0", text="how many circle")
    words = [word for word in tokenizer.get_vocab() if word != "?" and not word.startswith("<|")]
    (answer,) = subject.answer([question], 1)
    greedy = {
        w for w, one in zip(words, subject.loglikelihood([question] * len(words), words), strict=True) if one.is_greedy
    }
    assert greedy == {answer}
    (longer,) = subject.answer([question], 3)
    assert str(longer).split() != [answer]
    assert subject.loglikelihood([question], [str(longer)])[0].is_greedy
    assert not subject.loglikelihood([question], [f"{answer} {answer} {answer}"])[0].is_greedy
