"""The grammar: what may follow what, by hand, and the same as plain transformers' generate obeys it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_lmm import tiny_lmm
from transformers import LogitsProcessorList

from arm.errors import UserError
from arm.model import lmm
from arm.model.grammar import Grammar, GrammarProcessor, State
from arm.model.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    num_text=10, num_shapes=3, num_codes=4, vision_start=1, vision_end=2, image_pad=3, end_of_text=0, answer_start=4,
    answer_end=5, visual_fingerprint="f",
)  # fmt: skip
"""Words 0..7, spare rows 8 and 9, sides 1..3 at 10..12, codes 0..3 at 13..16."""
WORDS = range(8)


def allowed(prefix: list[int], grids: list[tuple[int, int]] | None = None) -> list[int]:
    grammar = Grammar(VOCABULARY, WORDS, grids)
    found: list[int] = grammar.allowed(grammar.state(prefix)).tolist()
    return found


def test_an_image_of_1x2_is_led_from_its_start_to_its_end() -> None:
    words = [0, 1, 4, 5, 6, 7]
    assert allowed([]) == allowed([6, 7]) == words
    assert allowed([6, 1]) == [10, 11, 12]
    assert allowed([6, 1, 10]) == [10, 11, 12]
    assert allowed([6, 1, 10, 11]) == [3]
    assert allowed([6, 1, 10, 11, 3]) == allowed([6, 1, 10, 11, 3, 16]) == [13, 14, 15, 16]
    assert allowed([6, 1, 10, 11, 3, 16, 13]) == [2]
    assert allowed([6, 1, 10, 11, 3, 16, 13, 2]) == words
    assert allowed([6, 1, 10, 11, 3, 16, 13, 2, 7, 1, 12]) == [10, 11, 12]


def test_only_the_permitted_grids_are_opened() -> None:
    grids = [(1, 3), (2, 2), (2, 1)]
    assert allowed([1], grids) == [10, 11]
    assert allowed([1, 10], grids) == [12]
    assert allowed([1, 11], grids) == [10, 11]
    with pytest.raises(UserError, match=r"height 3 may be drawn; known: \[1, 2\]"):
        allowed([1, 12], grids)
    with pytest.raises(UserError, match=r"knows 1\.\.3"):
        Grammar(VOCABULARY, WORDS, [(4, 1)])
    with pytest.raises(UserError, match="No grid"):
        Grammar(VOCABULARY, WORDS, [])


@pytest.mark.parametrize("prefix", [[13], [6, 2], [1, 6], [1, 10, 10, 13], [1, 10, 10, 3, 2], [1, 10, 10, 3, 13, 13]])
def test_a_prefix_that_breaks_the_rules_is_refused(prefix: list[int]) -> None:
    if prefix == [6, 2]:  # a stray <|vision_end|> is a text token: what stands before the last image is not judged
        assert allowed(prefix)
        return
    with pytest.raises(UserError, match="cannot stand where"):
        allowed(prefix)


def test_no_image_is_opened_without_room() -> None:
    grammar = Grammar(VOCABULARY, WORDS, [(1, 3), (2, 2)])
    assert grammar.longest_image == 4 + 5
    assert 1 not in grammar.allowed(State(), images=False).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    lmm.save(*tiny_lmm(), path)
    return path


def test_plain_transformers_samples_whole_images_under_either_form_of_the_grammar(folder: Path) -> None:
    """Sampled freely for 40 tokens, prompts padded to the left: every prefix of every row is grammatical."""
    model, _, vocabulary = tiny_lmm()
    model.set_attn_implementation("sdpa")
    grammar = Grammar.from_pretrained(folder, [(1, 2), (2, 2)])
    start = vocabulary.vision_start
    ids = torch.tensor([[0, 7, 8, start], [7, start, vocabulary.shape_id(2), vocabulary.shape_id(2)]])
    settings: dict[str, Any] = {
        "attention_mask": (ids != 0).long(), "max_new_tokens": 40, "min_new_tokens": 40, "do_sample": True,
        "pad_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    made = []
    for form in ({"logits_processor": LogitsProcessorList([GrammarProcessor(grammar)])},
                 {"prefix_allowed_tokens_fn": grammar.prefix_allowed_tokens_fn}):  # fmt: skip
        torch.manual_seed(3)
        made.append(model.generate(ids, **settings, **form).tolist())
    assert made[0] == made[1]
    for row in made[0]:
        state = State()
        for token in row:
            assert bool(grammar.mask(state)[token]) or token == 0
            state = grammar.advance(state, token)
    assert sum(token >= vocabulary.first_code for row in made[0] for token in row) >= 6
