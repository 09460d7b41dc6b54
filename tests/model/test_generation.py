"""Generation: the same tokens as plain transformers, cached = uncached, noise keyed by seed, guidance by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lmm import tiny_lmm, word_tokenizer
from transformers import LogitsProcessorList, Qwen2ForCausalLM

from arm.errors import UserError
from arm.model import lmm
from arm.model.generation import Generator, Prompt
from arm.model.grammar import Grammar, GrammarProcessor
from arm.model.sampling import Sampling, counter_uniforms, draw, guide, kept

GREEDY = Sampling(temperature=0.0)
SOURCE = np.asarray([[1, 2], [3, 4]])
PROMPTS: list[Prompt] = [("a red circle",), (), (SOURCE, "remove the circle"), (SOURCE,), ("blue",)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    lmm.save(*tiny_lmm(), path)
    return path


def load(folder: Path, batch_size: int = 512) -> Generator:
    """AutoTokenizer reads every tokenizer beside a Qwen2 model as Qwen2's byte-level one: here it has one id a word."""
    made = Generator.from_pretrained(folder, torch.float32, batch_size=batch_size)
    made.tokenizer = word_tokenizer()
    return made


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return load(folder)


def continue_plainly(model: Any, ids: list[int], allowed: slice, steps: int) -> list[int]:
    """Greedy decoding by plain transformers: everything recomputed at each token, no cache."""
    made: list[int] = []
    for _ in range(steps):
        logits = model(torch.tensor([ids + made])).logits[0, -1, allowed]
        made.append(int(logits.argmax()) + allowed.start)
    return made


def test_greedy_images_are_those_of_plain_transformers_without_a_cache(folder: Path, generator: Generator) -> None:
    plain = Qwen2ForCausalLM.from_pretrained(folder).eval()
    rollouts = generator.generate_images(PROMPTS, (2, 3), GREEDY, seeds=range(5))
    for prompt, codes_HW in zip(PROMPTS, rollouts.codes_BHW, strict=True):
        expected = continue_plainly(plain, generator.prompt_ids(prompt, (2, 3)), generator.vocabulary.code_rows, 6)
        assert (codes_HW.flatten() + generator.vocabulary.first_code).tolist() == expected


def test_greedy_answers_are_those_of_transformers_generate(folder: Path, generator: Generator) -> None:
    plain = Qwen2ForCausalLM.from_pretrained(folder).eval()
    vocabulary = generator.vocabulary
    prompts: list[Prompt] = [(SOURCE, "how many circle"), (SOURCE, "where is the red square")]
    for prompt, answer in zip(prompts, generator.answer(prompts, max_tokens=6), strict=True):
        ids = torch.tensor([[*generator.prompt_ids(prompt), vocabulary.answer_start]])
        words = set(generator.tokenizer.get_vocab().values()) - {vocabulary.image_pad, vocabulary.vision_end}
        banned = [[index] for index in range(vocabulary.size) if index not in words]
        stops = [vocabulary.end_of_text, vocabulary.answer_end, vocabulary.vision_start]
        made = plain.generate(
            ids, max_new_tokens=6, do_sample=False, eos_token_id=stops, bad_words_ids=banned, pad_token_id=0
        )
        words = [index for index in made[0, ids.shape[1] :].tolist() if index not in stops]
        assert answer == generator.tokenizer.decode(words).strip()


def test_a_seed_gives_the_same_image_whatever_else_is_in_the_batch(generator: Generator) -> None:
    sampling = Sampling(temperature=0.9, top_k=5, guidance_text=1.5)
    together = generator.generate_images(PROMPTS, (2, 2), sampling, seeds=[5, 6, 7, 8, 9])
    alone = generator.generate_images(PROMPTS[2:3], (2, 2), sampling, seeds=[7])
    assert together.codes_BHW[2].tolist() == alone.codes_BHW[0].tolist()
    torch.testing.assert_close(together.logp_BN[2:3], alone.logp_BN, atol=1e-4, rtol=0)
    others = generator.generate_images([("red",)] * 40, (2, 2), Sampling(), seeds=range(40))
    assert len({str(codes.tolist()) for codes in others.codes_BHW}) > 20


def test_small_internal_batches_change_nothing(folder: Path, generator: Generator) -> None:
    small = load(folder, batch_size=2)
    for sampling in (Sampling(), Sampling(guidance_text=2.0)):
        a = generator.generate_images(PROMPTS, (2, 2), sampling, seeds=range(5))
        b = small.generate_images(PROMPTS, (2, 2), sampling, seeds=range(5))
        assert a.codes_BHW.tolist() == b.codes_BHW.tolist()


def test_log_probabilities_are_those_of_the_learner_without_truncation(folder: Path, generator: Generator) -> None:
    """logp + log_kept = log softmax over the code rows at the temperature, from one plain forward pass."""
    plain = Qwen2ForCausalLM.from_pretrained(folder).eval()
    sampling = Sampling(temperature=0.7, top_k=3, top_p=0.9)
    rollouts = generator.generate_images(PROMPTS, (2, 2), sampling, seeds=range(5))
    first = generator.vocabulary.first_code
    for row, prompt in enumerate(PROMPTS):
        prefix = generator.prompt_ids(prompt, (2, 2))
        codes = rollouts.codes_BHW[row].flatten()
        logits = plain(torch.tensor([prefix + (codes + first).tolist()])).logits[0, len(prefix) - 1 : -1, first:]
        expected = torch.log_softmax(logits / 0.7, dim=-1).gather(1, codes[:, None])[:, 0]
        found = rollouts.logp_BN[row] + rollouts.log_kept_BN[row]
        torch.testing.assert_close(found, expected.detach(), atol=1e-4, rtol=0)
    assert bool((rollouts.log_kept_BN <= 0).all())
    assert bool((rollouts.log_kept_BN < -0.01).any())


def test_guidance_of_two_and_three_branches_by_hand() -> None:
    """f 2, u 1, n 0; text 1.5, image 1.25: u + 1.5 (f - u) = 2.5, and n + 1.25 (u - n) + 1.5 (f - u) = 2.75."""
    full, untexted, nothing = (torch.full((1, 1), value) for value in (2.0, 1.0, 0.0))
    sampling = Sampling(guidance_text=1.5, guidance_image=1.25)
    assert guide([full], sampling).item() == 2.0
    assert guide([full, untexted], sampling).item() == 2.5
    assert guide([full, untexted, nothing], sampling).item() == 2.75


def test_guided_logits_come_from_prompts_without_text(folder: Path, generator: Generator) -> None:
    """The first code under guidance 3: argmax of u + 3 (f - u), both from plain forward passes."""
    plain = Qwen2ForCausalLM.from_pretrained(folder).eval()
    prompt: Prompt = (SOURCE, "remove the square")
    first = generator.vocabulary.first_code
    full, untexted = (
        plain(torch.tensor([generator.prompt_ids(p, (1, 1))])).logits[0, -1, first:] for p in (prompt, (SOURCE,))
    )
    made = generator.generate_images([prompt], (1, 1), Sampling(temperature=0.0, guidance_text=3.0), seeds=[0])
    assert made.codes_BHW.item() == int((untexted + 3 * (full - untexted)).argmax())


def test_guided_images_are_those_of_transformers_generate(folder: Path, generator: Generator) -> None:
    """Its own guidance processor, two forward passes a token; ours runs both branches in one batch."""
    plain = Qwen2ForCausalLM.from_pretrained(folder).eval()
    prompts: list[Prompt] = [("a red circle",), ("the blue square",)]
    ids, empty = (torch.tensor([generator.prompt_ids(p, (2, 2)) for p in some]) for some in (prompts, [(), ()]))
    first = generator.vocabulary.first_code
    made = plain.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=4, guidance_scale=1.5,
        negative_prompt_ids=empty, negative_prompt_attention_mask=torch.ones_like(empty),
        logits_processor=LogitsProcessorList([GrammarProcessor(Grammar.from_pretrained(folder))]), pad_token_id=0,
    )  # fmt: skip
    ours = generator.generate_images(prompts, (2, 2), Sampling(temperature=0.0, guidance_text=1.5), seeds=[0, 1])
    assert (ours.codes_BHW.view(2, 4) + first).tolist() == made[:, ids.shape[1] :].tolist()


def test_texts_and_images_are_written_as_the_model_likes(generator: Generator) -> None:
    """Drawn at temperature 1.5 from a prompt that opens an image: all images are whole and of the permitted grids."""
    prompts: list[Prompt] = [("a red circle",), (SOURCE, "remove the circle")] * 24
    grids = [(1, 2), (2, 2)]
    hot = Sampling(temperature=1.5)
    written = generator.generate(prompts, grids, hot, range(48), max_tokens=60, text_sampling=hot)
    images = [part for parts in written for part in parts if not isinstance(part, str)]
    assert len(images) > 5
    assert {image.shape for image in images} == set(grids)
    assert all(0 <= int(code) < 8 for image in images for code in image.flatten())
    assert any(isinstance(part, str) for parts in written for part in parts)
    assert [str(x) for x in generator.generate(prompts[:1], grids, hot, [0], max_tokens=60, text_sampling=hot)] == [
        str(written[0])
    ]


def test_free_writing_is_that_of_transformers_generate_under_the_grammar(folder: Path, generator: Generator) -> None:
    """Of 30 tokens the first 21: no image of up to 9 tokens is opened by ours when it no longer fits."""
    plain = Qwen2ForCausalLM.from_pretrained(folder).eval()
    vocabulary = generator.vocabulary
    grammar = Grammar.from_pretrained(folder, [(1, 2), (2, 2)])
    ends = [vocabulary.end_of_text, vocabulary.answer_end]
    prompts = [generator.prompt_ids(prompt) for prompt in (("a red circle",), (SOURCE, "remove the circle"), ("blue",))]
    prompts.append([*prompts[0], vocabulary.vision_start])
    with torch.no_grad():
        written = generator._write(prompts, grammar, (GREEDY, GREEDY), [0] * 4, 30)
    for ids, row in zip(prompts, written, strict=True):
        made = plain.generate(
            torch.tensor([ids]), max_new_tokens=30, do_sample=False, pad_token_id=0, eos_token_id=ends,
            logits_processor=LogitsProcessorList([GrammarProcessor(grammar)]),
        )[0, len(ids) :].tolist()  # fmt: skip
        assert row[:21] == [token for token in made if token not in ends][:21]
    assert any(token >= vocabulary.first_code for token in written[3])


def test_answers_are_drawn_by_a_seed_each_when_a_temperature_is_given(generator: Generator) -> None:
    prompts: list[Prompt] = [(SOURCE, "how many circle")] * 20
    hot = Sampling(temperature=1.0)
    drawn = generator.answer(prompts, 4, hot, seeds=range(20))
    assert len(set(drawn)) > 5
    assert generator.answer(prompts[7:8], 4, hot, seeds=[7]) == drawn[7:8]
    with pytest.raises(UserError, match="1 prompts need as many seeds, not 0"):
        generator.answer(prompts[:1], 4, hot)


def test_what_has_no_effect_or_no_beginning_is_refused(generator: Generator) -> None:
    guided = Sampling(guidance_text=1.5)
    with pytest.raises(UserError, match="generate_images alone"):
        generator.answer([("a",)], 4, guided, seeds=[0])
    with pytest.raises(UserError, match="generate_images alone"):
        generator.generate([("a",)], [(1, 1)], guided, [0], max_tokens=4)
    with pytest.raises(UserError, match="prompt is empty"):
        generator.answer([()])
    assert generator.generate_images([], (2, 2), GREEDY, []).codes_BHW.shape == (0, 2, 2)


def test_top_k_and_top_p_keep_the_smallest_sufficient_set() -> None:
    log_p = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert kept(log_p, Sampling(top_k=2)).tolist() == [[True, True, False]]
    assert kept(log_p, Sampling(top_p=0.6)).tolist() == [[True, True, False]]
    assert kept(log_p, Sampling(top_p=0.5)).tolist() == [[True, False, False]]
    assert kept(log_p, Sampling(top_k=2, top_p=0.7)).tolist() == [[True, True, False]]  # .5 is .625 of .8
    assert kept(log_p, Sampling(top_k=2, top_p=0.6)).tolist() == [[True, False, False]]


def test_draws_follow_the_distribution_and_its_truncation() -> None:
    """p = (.5 .3 .2), top-k 2: the third never comes, the first in .5 / .8 of the draws."""
    uniforms = counter_uniforms(range(20_000), position=3)
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)
    index, log_prob, log_kept = draw(logits, Sampling(top_k=2), uniforms)
    assert set(index.tolist()) == {0, 1}
    assert float((index == 0).float().mean()) == pytest.approx(0.625, abs=0.015)
    assert float(log_kept[0]) == pytest.approx(float(np.log(0.8)), abs=1e-5)
    assert float(log_prob[index == 0][0]) == pytest.approx(float(np.log(0.625)), abs=1e-5)


def test_noise_depends_on_seed_and_position_alone() -> None:
    assert counter_uniforms([3, 4], 0)[1].item() == counter_uniforms([4], 0)[0].item()
    assert counter_uniforms([3], 0).item() != counter_uniforms([3], 1).item()
    many = counter_uniforms(range(4_000), 7)
    assert float(many.mean()) == pytest.approx(0.5, abs=0.02)
