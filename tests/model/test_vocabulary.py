"""The vocabulary: layout, grammar, refusals."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from arm.errors import UserError
from arm.model.vocabulary import Vocabulary, length_of_image

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


def test_a_tokenizer_without_special_tokens_is_refused() -> None:
    class Plain:
        def __len__(self) -> int:
            return 10

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    fields = {field.name for field in dataclasses.fields(Vocabulary)}
    assert "answer_start" in fields
    with pytest.raises(UserError, match="vision_start"):
        Vocabulary.create(Plain(), num_text=10, num_shapes=4, num_codes=8, visual_fingerprint="")
