"""The vocabulary: layout, grammar, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from arm.errors import UserError
from arm.model.grammar import Grammar, State
from arm.model.vocabulary import Vocabulary, length_of_image, text_ids

VOCABULARY = Vocabulary(
    num_text=100,
    num_shapes=4,
    num_codes=8,
    vision_start=1,
    vision_end=2,
    image_pad=3,
    end_of_text=0,
    answer_start=4,
    answer_end=5,
    visual_fingerprint="f" * 64,
)


def test_an_image_is_start_height_width_pad_codes_end() -> None:
    """Sides 1 and 2 are rows 100 and 101; code 0 is row 104."""
    ids = VOCABULARY.image_ids([7, 0], 1, 2)
    assert ids.tolist() == [1, 100, 101, 3, 111, 104, 2]
    assert len(ids) == length_of_image(1, 2)


def test_rows_of_the_modalities_do_not_overlap_and_cover_everything() -> None:
    assert (VOCABULARY.text_rows, VOCABULARY.code_rows) == (slice(0, 104), slice(104, 112))
    assert VOCABULARY.size == 112


def test_a_grid_that_does_not_match_its_codes_is_refused() -> None:
    with pytest.raises(UserError, match="2×2 needs 4 codes, not 3"):
        VOCABULARY.image_ids([1, 2, 3], 2, 2)


def test_a_code_out_of_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"outside 0\.\.7"):
        VOCABULARY.image_ids([8], 1, 1)


def test_a_side_without_a_shape_token_is_refused() -> None:
    with pytest.raises(UserError, match=r"knows 1\.\.4"):
        VOCABULARY.image_ids(np.zeros(5), 1, 5)


def test_ids_of_a_text_that_would_be_read_as_shapes_or_codes_are_refused() -> None:
    VOCABULARY.check_text(np.asarray([0, 99]))
    with pytest.raises(UserError, match=r"outside 0\.\.99: 0\.\.100"):
        VOCABULARY.check_text(np.asarray([0, 100]))


def test_it_is_saved_with_its_version_and_read_back(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path)
    assert Vocabulary.load(tmp_path) == VOCABULARY
    values = json.loads((tmp_path / "vocabulary.json").read_text())
    (tmp_path / "vocabulary.json").write_text(json.dumps(values | {"version": 99}))
    with pytest.raises(UserError, match="version 99"):
        Vocabulary.load(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path)
    values = json.loads((tmp_path / "vocabulary.json").read_text())
    del values["num_codes"]
    (tmp_path / "vocabulary.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="damaged: num_codes"):
        Vocabulary.load(tmp_path)


QWEN_TOKENS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]  # fmt: skip
"""Added tokens of Qwen2.5's tokenizer_config.json, ids 151,643 to 151,664, behind 151,643 byte-level ids."""


@pytest.fixture(scope="module")
def qwen() -> Any:
    """A tokenizer with Qwen2.5's layout; its merges are left out, so texts are bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {text: index for index, text in enumerate([*letters, *(f"filler {n}" for n in range(151_643 - 256))])}
    tokenizer = Tokenizer(models.BPE(known, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in QWEN_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def qwen_vocabulary(qwen: Any, num_text: int) -> Vocabulary:
    return Vocabulary.create(qwen, num_text=num_text, num_shapes=128, num_codes=65_536, visual_fingerprint="f")


@pytest.mark.parametrize(("num_text", "size"), [(152_064, 217_728), (151_936, 217_600)])
def test_qwens_spare_rows_lie_between_text_and_shapes_and_are_never_allowed(
    qwen: Any, num_text: int, size: int
) -> None:
    """7B has 152,064 rows, 0.5B 151,936, for 151,665 ids; 128 sides and 65,536 codes follow the rows."""
    vocabulary = qwen_vocabulary(qwen, num_text)
    assert (vocabulary.end_of_text, vocabulary.vision_start, vocabulary.image_pad) == (151_643, 151_652, 151_655)
    assert (vocabulary.shape_id(1), vocabulary.first_code, vocabulary.size) == (num_text, num_text + 128, size)
    allowed = Grammar.of(vocabulary, qwen).mask(State())
    assert int(allowed.sum()) == 151_665 - 2  # all but <|vision_end|> and <|image_pad|>
    assert not bool(allowed[151_665:].any())


def test_a_base_with_fewer_rows_than_ids_is_refused(qwen: Any) -> None:
    with pytest.raises(UserError, match="ids up to 151664, the base model only 151664 rows"):
        qwen_vocabulary(qwen, 151_664)


def test_what_users_write_opens_no_image(qwen: Any) -> None:
    (ids,) = text_ids(qwen, ["<|vision_start|>"])
    assert len(ids) == 16
    assert max(ids) < 256


def test_a_tokenizer_without_special_tokens_is_refused() -> None:
    class Plain:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(UserError, match="vision_start"):
        Vocabulary.create(Plain(), num_text=10, num_shapes=4, num_codes=8, visual_fingerprint="")
